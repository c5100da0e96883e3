"""How a command fails."""


class CommandError(Exception):
    """What was asked for cannot be done; the text is one line for the person who asked."""
