"""rtdeliver delivers events to very many browsers in real time."""

__version__ = "0.1.0"
