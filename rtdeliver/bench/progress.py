"""Shows the progress of a benchmark on a terminal."""

import time
from typing import TextIO

_BAR_WIDTH = 24
_PAUSE_SECONDS = 0.1


class Progress:
    """One line, drawn again with each update.

    :param stream: if it is not a terminal, nothing is drawn.
    :param quiet: draw nothing on a terminal either.
    """

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._silent = quiet or not stream.isatty()
        self._drawn_at = 0.0
        self._width = 0

    def update(self, done: float, of: float, text: str) -> None:
        """Show that ``done`` of ``of`` is done, and ``text``."""
        now = time.monotonic()
        if self._silent or (now - self._drawn_at < _PAUSE_SECONDS and done < of):
            return
        self._drawn_at = now
        share = min(done / of, 1.0) if of else 1.0
        bar = ("#" * round(share * _BAR_WIDTH)).ljust(_BAR_WIDTH, ".")
        self._draw(f"[{bar}] {share:4.0%} {text}")

    def close(self) -> None:
        """Clear the line."""
        if self._width:
            self._draw("")
            self._stream.write("\r")
            self._stream.flush()

    def _draw(self, line: str) -> None:
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width = len(line)
