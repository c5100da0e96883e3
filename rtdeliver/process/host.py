"""The process that a role runs in: it binds the sockets, and reports how the role fares."""

import os
import socket
import sys
from collections.abc import Collection, Mapping
from typing import Any

from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from zope.interface import Interface, implementer

from rtdeliver.process.listeners import Listener, listen, places
from rtdeliver.process.watchdog import feed_watchdog

log = Logger()


class IHost(Interface):
    """The process that a role runs in: it binds the sockets, and reports how the role fares."""

    def listen(listener: Listener, *, backlog: int) -> IListeningPort:
        """Bind the listener, and accept connections on it.

        :raises ConfigError: if the listener cannot be bound.
        """

    def failed(line: str) -> None:
        """Report that the role cannot start; ``line`` says which role, and why."""

    def listening(role: str, ports: Mapping[str, IListeningPort]) -> None:
        """Report that the role has started; ``ports`` are its listeners by key."""

    def stopping() -> Collection[str]:
        """Report that the role starts to drain.

        :return: the keys of the listeners to close at once; the others answer until the role has
            drained.
        """


@implementer(IHost)
class OwnProcess:
    """A process for one role, which reports to the service manager."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def listen(self, listener: Listener, *, backlog: int) -> IListeningPort:
        return listen(self._reactor, listener, backlog=backlog)

    def failed(self, line: str) -> None:
        complain(line)

    def listening(self, role: str, ports: Mapping[str, IListeningPort]) -> None:
        log.info("{role} listens: {places}", role=role, places=places(ports))
        report_ready(self._reactor)

    def stopping(self) -> Collection[str]:
        notify_systemd("STOPPING=1")
        return ()


def node_name(configured: str) -> str:
    """Return the configured name, or a name made of the host's name and the process id."""
    if configured:
        return configured
    host = "".join(c if c.isascii() and c.isalnum() else "-" for c in socket.gethostname())
    return f"{host[:50]}-{os.getpid()}"


def complain(line: str) -> None:
    """Write to standard error why the process cannot go on."""
    if sys.__stderr__ is not None:
        sys.__stderr__.write(line + "\n")


def report_ready(reactor: Any) -> None:
    """Tell the service manager that the process has started, and from then on that it runs."""
    notify_systemd("READY=1")
    feed_watchdog(reactor, os.environ, notify_systemd)


def notify_systemd(state: str) -> None:
    """Send a state to the service manager, if there is one; see sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + address[1:] if address.startswith("@") else address)
            sock.send(state.encode())
