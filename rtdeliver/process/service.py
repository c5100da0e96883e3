"""A role as a service of twistd: it listens, starts, and drains before it ends."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from rtdeliver.errors import ConfigError
from rtdeliver.process.host import IHost
from rtdeliver.process.listeners import Listener, check_listener, describe, is_private, places
from rtdeliver.process.readiness import Readiness

log = Logger()


class StartError(SystemExit, ValueError):
    """The process cannot start, and ends with status 1.

    It has both bases for twistd, which removes its pid file only after an `Exception`, and prints
    no traceback only of a `SystemExit`. The code is a number, because the interpreter would print a
    text to ``sys.stderr``, which twistd has redirected to the log.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = 1


class RoleService(Service):
    """Runs a role.

    :param host: binds the listeners, and is told when the role is ready, fails or stops.
    :param listeners: are bound in this order, before the process drops its privileges.
    :param unguarded: whether guarded listeners may be reached by other machines.
    :param begin: called with the bound ports by key, before the reactor runs.
    :param drain: awaited before the listeners are closed.
    :param missing: returns why the role is not ready; empty when it is.
    :param reloaders: what uses new settings at a reload, by setting.
    """

    def __init__(
        self,
        *,
        role: str,
        host: IHost,
        reactor: Any,
        listeners: Sequence[Listener],
        backlog: int,
        unguarded: bool,
        begin: Callable[[Mapping[str, IListeningPort]], None],
        drain: Callable[[], Awaitable[None]],
        missing: Callable[[], list[str]],
        reloaders: Mapping[str, Callable[[Any], Any]],
    ) -> None:
        self.name = role
        self.role = role
        self._host = host
        self._reactor = reactor
        self._listeners = {listener.key: listener for listener in listeners}
        self._backlog = backlog
        self._unguarded = unguarded
        self._begin = begin
        self._drain = drain
        self.reloaders = reloaders
        self._readiness = Readiness(role, missing, reactor)
        self._ports: dict[str, IListeningPort] = {}

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        self.bind(*self._listeners)

    def startService(self) -> None:
        super().startService()
        with self._one_line_for_errors():
            self._begin(self._ports)
        # A signal that comes before the reactor runs ends the process at once, so it is not ready.
        self._reactor.callWhenRunning(self._tell_ready)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop(self._host.stopping()))

    def bind(self, *keys: str) -> Mapping[str, IListeningPort]:
        """Bind the listeners with these keys, in this order.

        :return: all ports that are bound so far, by key.
        :raises StartError: if a listener cannot be bound; the host was told why.
        """
        with self._one_line_for_errors():
            for key in keys:
                self._ports[key] = self._listen(self._listeners[key])
        return self._ports

    @contextmanager
    def _one_line_for_errors(self) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            line = f"{self.role}: {error}"
            self._host.failed(line)
            raise StartError(line) from None

    def check(self) -> None:
        """Check where the role is to listen, without starting it.

        :raises ConfigError: if a listener is not an endpoint string.
        """
        for listener in self._listeners.values():
            check_listener(self._reactor, listener, backlog=self._backlog)

    def _tell_ready(self) -> None:
        self._host.listening(self.role, self._ports)
        self._readiness.start(places(self._ports))

    def _listen(self, listener: Listener) -> IListeningPort:
        port = self._host.listen(listener, backlog=self._backlog)
        if listener.guarded and not self._unguarded and not is_private(port):
            raise ConfigError(
                f"{listener.key}: other machines can reach {describe(port)}: require a secret with"
                " --secret-file, listen on 127.0.0.1, or allow it with --insecure-internal"
            )
        return port

    async def _stop(self, first: Collection[str]) -> None:
        log.info("{role} drains", role=self.role)
        self._readiness.stop()
        for key in first:
            await maybeDeferred(self._ports.pop(key).stopListening)
        await self._drain()
        for port in self._ports.values():
            await maybeDeferred(port.stopListening)
        log.info("{role} has ended", role=self.role)
