"""What a process's log leaves out, and what it adds to each line."""

import sys
from collections.abc import Callable
from typing import IO, Any

import msgspec
from twisted.application.service import IService, MultiService
from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    formatEvent,
    globalLogPublisher,
)
from twisted.python.logfile import LogFile
from zope.interface import implementer

# Said for each attempt to connect. That a server is lost, and back, has a line of its own.
_NOISE = {
    ("twisted.application._client_service.ClientService", "Scheduling retry"),
    ("log_legacy", "Discarding dead "),
}


def leave_out_noise() -> None:
    """Keep lines out of the log that would hide the others."""
    _change_events(_blank_noise)


# What the old logging of Twisted adds to each event, and what makes its text.
_LEGACY = frozenset({"format", "isError", "message", "printed", "system", "time", "why"})
_LETTERS = 2000


class LoggedAsJson(MultiService):
    """A service that lets twistd write its log as JSON, one object a line.

    :param logfile: twistd's option; empty or ``-`` for standard output.
    :param in_foreground: whether twistd runs in the foreground.
    """

    def __init__(self, service: IService, *, logfile: str, in_foreground: bool) -> None:
        super().__init__()
        service.setServiceParent(self)
        file: IO[Any]
        if in_foreground and logfile in ("", "-"):
            # Now, since twistd lets standard output write to the log later.
            file = sys.stdout
        else:
            file = LogFile.fromFullPath(logfile or "twistd.log")
        self._observer = FileLogObserver(file, log_line)

    def setServiceParent(self, parent: Any) -> None:
        super().setServiceParent(parent)
        parent.setComponent(ILogObserver, self._observer)


def log_line(event: LogEvent) -> str | None:
    """Return an event as a line of JSON; ``None`` for an event without a text.

    The names of its fields are those of `twisted.logger`. The fields of the text are there, too.
    """
    text = formatEvent(event)
    if not text:
        return None
    line: dict[str, Any] = {
        "log_time": round(event["log_time"], 6),
        "log_level": getattr(event.get("log_level"), "name", "info"),
        "log_namespace": event.get("log_namespace", ""),
        "log_text": text,
    }
    if event.get("log_system"):
        line["log_system"] = str(event["log_system"])
    if event.get("log_failure") is not None:
        line["log_failure"] = event["log_failure"].getTraceback()
    for name, value in event.items():
        if not name.startswith("log_") and name not in _LEGACY:
            line[name] = value if isinstance(value, int | float | None) else str(value)[:_LETTERS]
    return msgspec.json.encode(line).decode() + "\n"


def name_log_lines(node: str) -> None:
    """Let each line name the node, since all workers of a parent write to one log."""

    def name(event: LogEvent) -> None:
        level = getattr(event.get("log_level"), "name", "-")
        system = event.get("log_system") or f"{event.get('log_namespace', '-')}#{level}"
        event["log_system"] = f"{node} {system}"

    _change_events(name)


def _blank_noise(event: LogEvent) -> None:
    begin = str(event.get("log_text") or event.get("log_format", ""))[:16]
    if (event.get("log_namespace"), begin) in _NOISE:
        # Observers write no line for an event without a text.
        event["log_format"] = ""
        event["message"] = ()


def _change_events(change: Callable[[LogEvent], None]) -> None:
    # The observers that write come later, when twistd begins to log.
    globalLogPublisher.addObserver(implementer(ILogObserver)(change))
