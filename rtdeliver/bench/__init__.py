"""Measures rtdeliver on the machine that it runs on: the ``rtbench`` command."""
