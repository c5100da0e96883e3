"""What a role runs in: it provides the sockets, and whoever watches the role hears of it."""

import os
import socket
import sys
from collections.abc import Collection, Mapping
from typing import Any

from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from zope.interface import Interface, implementer

from rtdeliver.process.listeners import Listener, listen, places

log = Logger()


class IHost(Interface):
    """What a role runs in: it provides the sockets, and whoever watches the role hears of it."""

    def listen(listener: Listener, *, backlog: int) -> IListeningPort:
        """Bind and accept.

        :raises ConfigError: if that cannot be.
        """

    def failed(line: str) -> None:
        """The role cannot start, and ends; ``line`` says which one and why."""

    def ready(role: str, ports: Mapping[str, IListeningPort]) -> None:
        """The role has begun; ``ports`` are its listeners by key."""

    def stopping() -> Collection[str]:
        """The role begins to drain.

        :return: the keys of the listeners to close at once; the others answer until it has
            drained.
        """


@implementer(IHost)
class OwnProcess:
    """A process with one role, which the service manager watches."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def listen(self, listener: Listener, *, backlog: int) -> IListeningPort:
        return listen(
            self._reactor, listener.key, listener.description, listener.factory, backlog=backlog
        )

    def failed(self, line: str) -> None:
        complain(line)

    def ready(self, role: str, ports: Mapping[str, IListeningPort]) -> None:
        log.info("{role} is ready: {places}", role=role, places=places(ports))
        notify_systemd("READY=1")

    def stopping(self) -> Collection[str]:
        notify_systemd("STOPPING=1")
        return ()


def node_name(configured: str) -> str:
    """Return the configured name of this node, or one made of the host's and the process id."""
    if configured:
        return configured
    host = "".join(c if c.isascii() and c.isalnum() else "-" for c in socket.gethostname())
    return f"{host[:50]}-{os.getpid()}"


def complain(line: str) -> None:
    """Tell the operator why the process cannot go on."""
    if sys.__stderr__ is not None:
        sys.__stderr__.write(line + "\n")


def notify_systemd(state: str) -> None:
    """Tell the service manager; see sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + address[1:] if address.startswith("@") else address)
            sock.send(state.encode())
