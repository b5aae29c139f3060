"""One command per stage of dvc.yaml: load, one or two library calls, save."""
