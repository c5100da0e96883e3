"""The last warnings and errors of the log."""

from collections import deque
from typing import Any

from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

_WARNINGS = 50
_LETTERS = 500
_LEVELS = (LogLevel.warn, LogLevel.error, LogLevel.critical)


@implementer(ILogObserver)
class RecentWarnings:
    """Keeps the last lines of the log that are warnings or worse, the latest one first."""

    def __init__(self) -> None:
        self._warnings: deque[dict[str, Any]] = deque(maxlen=_WARNINGS)

    def start(self) -> None:
        """Begin to keep what is logged."""
        globalLogPublisher.addObserver(self)

    def stop(self) -> None:
        """Keep nothing more."""
        globalLogPublisher.removeObserver(self)

    def __call__(self, event: dict[str, Any]) -> None:
        level = event.get("log_level")
        if level in _LEVELS:
            text = formatEvent(event) or ""
            failure = event.get("log_failure")
            if failure is not None:
                text = f"{text}: {failure.type.__name__}: {failure.value}"
            if text:
                self._warnings.appendleft(
                    {
                        "at": round(event["log_time"]),
                        "level": level.name,
                        "from": event.get("log_namespace", ""),
                        "text": text[:_LETTERS],
                    }
                )

    def tell(self) -> list[dict[str, Any]]:
        """Return each warning with its time, in seconds since the epoch."""
        return list(self._warnings)
