"""The keys that a login service publishes: fetched, kept, and fetched again."""

import math
import random
from collections.abc import Callable, Sequence

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from rtdeliver.errors import BadRequest, RemoteFailure
from rtdeliver.http.client import NodeClient
from rtdeliver.keys import read_key_set
from rtdeliver.metrics import Sample, counter, gauge
from rtdeliver.tokens import Identity, TokenChecker, UnknownKey, VerifyingKey

log = Logger()

# How often a token with an unknown key lets the keys be fetched.
_UNKNOWN_SECONDS = 60.0
_RETRY_SECONDS = 10.0


class Jwks:
    """The keys of a JSON Web Key Set (RFC 7517) at a URL.

    They are fetched every ``refresh_seconds``. While that fails, the last ones are used.

    :param client: sends no secret.
    :param draw: draws the pause before the next fetch between two numbers.
    """

    def __init__(
        self,
        url: str,
        *,
        client: NodeClient,
        refresh_seconds: float,
        clock: IReactorTime,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._url = url
        self._client = client
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        self._draw = draw
        self._keys: Sequence[VerifyingKey] = ()
        self._fetched_at = -math.inf
        self._fetching: list[Deferred[None]] | None = None
        self._timer: IDelayedCall | None = None
        self._fails = False
        self._stopped = False
        self._fetches = 0
        self._failures = 0

    def verifying_keys(self) -> Sequence[VerifyingKey]:
        return self._keys

    def start(self) -> None:
        """Fetch the keys, now and again and again."""
        self._again_in(0)

    def stop(self) -> None:
        """Fetch no more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def missing(self) -> list[str]:
        """Return why no key is known; empty if there is one."""
        return [] if self._keys else [f"the keys at {self._url} cannot be fetched"]

    @property
    def is_due(self) -> bool:
        """Whether an unknown key is a reason to fetch the keys now."""
        is_old = self._clock.seconds() >= self._fetched_at + _UNKNOWN_SECONDS
        return is_old or self._fetching is not None

    def fetch(self) -> Deferred[None]:
        """Fetch the keys; fires when that is done, well or not. Calls meanwhile share it."""
        done: Deferred[None] = Deferred()
        if self._fetching is not None:
            self._fetching.append(done)
            return done
        self._fetching = [done]
        self._fetched_at = self._clock.seconds()
        Deferred.fromCoroutine(self._fetch()).addBoth(lambda _: self._tell_done())
        return done

    def samples(self) -> list[Sample]:
        return [
            counter("jwks_fetches", "Fetches of the keys of tokens.", self._fetches, url=self._url),
            counter("jwks_failures", "Fetches that failed.", self._failures, url=self._url),
            gauge("jwks_keys", "Keys of tokens that are known.", len(self._keys), url=self._url),
        ]

    async def _fetch(self) -> None:
        self._fetches += 1
        try:
            answer = await self._client.get(self._url, headers={"Accept": "application/json"})
            self._keys = read_key_set(msgspec.json.decode(answer.body))
        except (RemoteFailure, BadRequest, msgspec.MsgspecError, RecursionError) as error:
            self._failures += 1
            if not self._fails:
                log.warn("the keys at {url} cannot be used: {e}", url=self._url, e=error)
            self._fails = True
        except Exception:
            self._failures += 1
            log.failure("the keys at {url} could not be fetched", url=self._url)
            self._fails = True
        else:
            if self._fails:
                log.info("the keys at {url} can be used again", url=self._url)
            self._fails = False

    def _tell_done(self) -> None:
        waiting, self._fetching = self._fetching or [], None
        for done in waiting:
            done.callback(None)

    def _again_in(self, seconds: float) -> None:
        self._timer = self._clock.callLater(seconds, self._again)

    def _again(self) -> None:
        self._timer = None
        self.fetch().addCallback(lambda _: self._schedule())

    def _schedule(self) -> None:
        if self._stopped:
            return
        most = self._refresh_seconds
        pause = min(_RETRY_SECONDS, most) if self._fails else most
        self._again_in(self._draw(pause / 2, pause))


class Identifier:
    """Says what tokens prove, and fetches keys for that where it has to.

    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self, checker: TokenChecker, sets: Sequence[Jwks], now: Callable[[], float]
    ) -> None:
        self._checker = checker
        self._sets = sets
        self._now = now

    def use(self, checker: TokenChecker, sets: Sequence[Jwks]) -> None:
        """Check with other keys from now on."""
        self._checker = checker
        self._sets = sets

    def identify(self, token: str) -> Identity | Deferred[Identity]:
        """Return what ``token`` proves, later if a key has to be fetched first.

        :raises Unauthorized: if the token is refused.
        """
        try:
            return self._checker.check(token, now=self._now())
        except UnknownKey:
            due = [each for each in self._sets if each.is_due]
            if not due:
                raise
        return Deferred.fromCoroutine(self._identify_with(due, token))

    async def _identify_with(self, due: Sequence[Jwks], token: str) -> Identity:
        for each in due:
            await each.fetch()
        return self._checker.check(token, now=self._now())
