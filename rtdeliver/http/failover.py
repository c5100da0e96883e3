"""How one of several servers is asked, and another one when it fails."""

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rtdeliver.errors import (
    AnsweredNo,
    BadRequest,
    Refusal,
    RemoteFailure,
    TooLarge,
    Unreachable,
)

T = TypeVar("T")

log = Logger()

# The request itself is wrong, so every server would give the same answer.
_OWN_FAULTS = (BadRequest.status, TooLarge.status)


class _Server(msgspec.Struct, eq=False):
    """One of several servers.

    :param avoided_until: until this time, the server is asked after all others, since it failed.
    """

    url: str
    avoided_until: float = 0.0


Order = Callable[[Sequence[_Server]], Sequence[_Server]]


def last_good(servers: Sequence[_Server]) -> Sequence[_Server]:
    """Ask the server that answered last, for as long as it answers."""
    return servers


def at_random(servers: Sequence[_Server]) -> Sequence[_Server]:
    """Ask a random server, so that requests spread over all of them."""
    return random.sample(servers, len(servers))


class Failover:
    """Several servers, any of which can answer the same requests.

    A server that fails moves to the end of the order, and is avoided for a while if there are
    others.

    :param urls: the URLs of the servers, at least one.
    :param order: the order in which the servers are asked: `last_good` or `at_random`.
    :param avoid_seconds: for how long a server that failed is asked after all others.
    """

    def __init__(
        self, *, urls: Sequence[str], order: Order, avoid_seconds: float, clock: IReactorTime
    ) -> None:
        self._servers = [_Server(url.rstrip("/")) for url in urls]
        self._order = order
        self._avoid_seconds = avoid_seconds
        self._clock = clock

    async def ask(self, request: Callable[[str], Awaitable[T]]) -> T:
        """Ask one server, and return its answer; after a failure the next call asks another one.

        :param request: called with a URL without a slash at its end. The server has failed if it
            raises a `RemoteFailure`, or a `Refusal` because the answer cannot be read.
        :raises RemoteFailure: what ``request`` raised, or `AnsweredNo` for an answer that cannot be
            read.
        """
        return await self._ask(self._line()[0], request)

    async def ask_all(self, request: Callable[[str], Awaitable[T]]) -> T:
        """Ask one server after the other, each of them once, until one answers.

        It fails at once if the request itself is wrong, so that every server would refuse it. The
        log has one line for each server that fails, until the server is no longer avoided.

        :param request: as for `ask`.
        :raises RemoteFailure: the failure of the last server.
        """
        failure: RemoteFailure = Unreachable("there is no server")
        for server in self._line():
            was_avoided = self._is_avoided(server)
            try:
                return await self._ask(server, request)
            except RemoteFailure as error:
                if _is_own_fault(error):
                    raise
                failure = error
            if not was_avoided:
                log.warn("{url} fails: {e}", url=server.url, e=failure)
        raise failure

    async def _ask(self, server: _Server, request: Callable[[str], Awaitable[T]]) -> T:
        try:
            answer = await request(server.url)
        except RemoteFailure as error:
            if not _is_own_fault(error):
                self._avoid(server)
            raise
        except Refusal as refusal:
            self._avoid(server)
            raise AnsweredNo(200, f"{server.url}: {refusal.message}") from None
        server.avoided_until = 0.0
        return answer

    def _line(self) -> Sequence[_Server]:
        return sorted(self._order(self._servers), key=self._is_avoided)

    def _is_avoided(self, server: _Server) -> bool:
        return server.avoided_until > self._clock.seconds()

    def _avoid(self, server: _Server) -> None:
        server.avoided_until = self._clock.seconds() + self._avoid_seconds
        self._servers.remove(server)
        self._servers.append(server)


def _is_own_fault(error: RemoteFailure) -> bool:
    return isinstance(error, AnsweredNo) and error.status in _OWN_FAULTS
