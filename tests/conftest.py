"""What holds for every run of the tests."""

import signal


def pytest_configure() -> None:
    """Take SIGINT as usual, and so let all that the tests start take it.

    A shell lets what it runs in the background ignore it, and children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
