"""Runs the ``rtdeliver`` command: ``python -m rtdeliver.command``."""

import sys

from rtdeliver.command.main import main

sys.exit(main())
