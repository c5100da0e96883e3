"""What a process's log leaves out, and what it adds to each line."""

from collections.abc import Callable

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

# Said for each attempt to connect. That a server is lost, and back, has a line of its own.
_NOISE = {
    ("twisted.application._client_service.ClientService", "Scheduling retry"),
    ("log_legacy", "Discarding dead "),
}


def leave_out_noise() -> None:
    """Keep lines out of the log that would hide the others."""
    _change_events(_blank_noise)


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
