"""How a datacenter learns what was revoked in the others, also while it could not be reached."""

import random
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rtdeliver.backoff import Backoff
from rtdeliver.errors import RemoteFailure, Unavailable
from rtdeliver.interfaces import IPeerClient
from rtdeliver.messages import Bookmark
from rtdeliver.model import Revocation

log = Logger()


class RevocationExchange:
    """Reads the revocations of each peer again and again, and keeps what is new.

    Mostly they have been forwarded before.

    :param peers: the clients of the peers, by the name of the datacenter.
    :param keep: keeps revocations for this datacenter. Its frontends read them there.
    :param read_seconds: the longest time between two readings.
    :param draw: draws the time to the next reading between two numbers.
    """

    def __init__(
        self,
        *,
        peers: Mapping[str, IPeerClient],
        keep: Callable[[Sequence[Revocation]], Deferred[None]],
        read_seconds: float,
        clock: IReactorTime,
        new_backoff: Callable[[], Backoff],
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._readers = [
            _PeerReader(
                name=name,
                peer=peer,
                keep=keep,
                pause=lambda: draw(read_seconds / 2, read_seconds),
                clock=clock,
                backoff=new_backoff(),
            )
            for name, peer in peers.items()
        ]

    def start(self) -> None:
        """Begin to read."""
        for reader in self._readers:
            reader.start()

    def stop(self) -> None:
        """Read no more."""
        for reader in self._readers:
            reader.stop()


class _PeerReader:
    """Reads the revocations of one peer."""

    def __init__(
        self,
        *,
        name: str,
        peer: IPeerClient,
        keep: Callable[[Sequence[Revocation]], Deferred[None]],
        pause: Callable[[], float],
        clock: IReactorTime,
        backoff: Backoff,
    ) -> None:
        self._name = name
        self._peer = peer
        self._keep = keep
        self._pause = pause
        self._clock = clock
        self._backoff = backoff
        self._bookmark = Bookmark()
        self._running = False
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        self._running = True
        self._read_in(0)

    def stop(self) -> None:
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _read_in(self, seconds: float) -> None:
        if self._running:
            self._timer = self._clock.callLater(seconds, self._start_reading)

    def _start_reading(self) -> None:
        self._timer = None
        Deferred.fromCoroutine(self._read()).addErrback(self._failed).addCallback(self._read_in)

    async def _read(self) -> float:
        """Read a page; return the seconds until the next one."""
        page = await self._peer.revocations(self._bookmark)
        if page.revocations:
            await self._keep(page.revocations)
        self._bookmark = page.bookmark
        if self._backoff.succeed():
            log.info("datacenter {name} tells its revocations again", name=self._name)
        return 0 if page.more else self._pause()

    def _failed(self, failure: Failure) -> float:
        if not failure.check(RemoteFailure, Unavailable):
            log.failure("the revocations of {name} could not be read", failure, name=self._name)
        elif not self._backoff.failures:
            log.warn(
                "datacenter {name} does not tell its revocations: {e}",
                name=self._name,
                e=failure.value,
            )
        return self._backoff.fail()
