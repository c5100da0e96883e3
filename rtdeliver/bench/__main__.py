"""``python -m rtdeliver.bench`` is ``rtbench``."""

import sys

from rtdeliver.bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
