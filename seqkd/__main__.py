"""`python -m seqkd`: the command line."""

import sys

from seqkd.cli import main

if __name__ == "__main__":
    sys.exit(main())
