"""What was measured: our figures beside the peers', in one run on one machine."""
