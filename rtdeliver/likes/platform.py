"""How the live-video app reaches the platform: any dispatcher, and another one on failure."""

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from urllib.parse import urlencode

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from rtdeliver.errors import (
    AnsweredNo,
    BadRequest,
    Refusal,
    RemoteFailure,
    TooLarge,
    Unreachable,
)
from rtdeliver.event_ids import EventIds
from rtdeliver.http.client import Answer, NodeClient
from rtdeliver.http.requests import JSON
from rtdeliver.interfaces import IPlatform
from rtdeliver.messages import Presence
from rtdeliver.model import Member, Topic
from rtdeliver.wire import decode_presence, decode_topic_viewers, encode

T = TypeVar("T")

log = Logger()

# What every dispatcher would say to the same request.
_OWN_FAULTS = (BadRequest.status, TooLarge.status)


class _Dispatcher(msgspec.Struct):
    """One of those to ask.

    :param shunned_until: it has failed, and is asked after the others until then.
    """

    url: str
    shunned_until: float = 0.0


@implementer(IPlatform)
class HttpPlatform:
    """Asks a dispatcher drawn at random, and after a failure the next, each of them once.

    :param urls: of the dispatchers, at least one.
    :param client: its timeout is how long one of them may take.
    :param shun_seconds: one that failed is asked after all others for so long.
    """

    def __init__(
        self, *, urls: Sequence[str], client: NodeClient, clock: IReactorTime, shun_seconds: float
    ) -> None:
        self._dispatchers = [_Dispatcher(url.rstrip("/")) for url in urls]
        self._client = client
        self._clock = clock
        self._shun_seconds = shun_seconds
        self._ids = EventIds(clock=clock)

    def publish(self, topic: Topic, type: str, data: object) -> Deferred[None]:
        # With an id of its own: viewers see it once, also where an answer was lost.
        event = {"topic": topic, "type": type, "id": self._ids.next(), "data": data}
        body = encode(event)
        return self._ask(
            lambda url: self._client.post(f"{url}/publish", body, content_type=JSON),
            lambda _: None,
        )

    def viewers(self, topic: Topic) -> Deferred[int]:
        query = urlencode({"topic": topic})
        return self._ask(
            lambda url: self._client.get(f"{url}/topics?{query}"), decode_topic_viewers
        )

    def presence(self, members: Sequence[Member]) -> Deferred[Sequence[Presence]]:
        if not members:
            return succeed([])
        query = urlencode([("member", member) for member in members])
        return self._ask(lambda url: self._client.get(f"{url}/presence?{query}"), decode_presence)

    def _ask(
        self, request: Callable[[str], Awaitable[Answer]], decode: Callable[[bytes], T]
    ) -> Deferred[T]:
        return Deferred.fromCoroutine(self._ask_in_turn(request, decode))

    async def _ask_in_turn(
        self, request: Callable[[str], Awaitable[Answer]], decode: Callable[[bytes], T]
    ) -> T:
        failure: RemoteFailure = Unreachable("there is no dispatcher")
        for dispatcher in self._order():
            try:
                answer = decode((await request(dispatcher.url)).body)
            except RemoteFailure as error:
                if isinstance(error, AnsweredNo) and error.status in _OWN_FAULTS:
                    raise
                failure = error
            except Refusal as refusal:
                failure = AnsweredNo(200, f"{dispatcher.url}: {refusal.message}")
            else:
                dispatcher.shunned_until = 0.0
                return answer
            self._shun(dispatcher, failure)
        raise failure

    def _order(self) -> list[_Dispatcher]:
        now = self._clock.seconds()
        drawn = random.sample(self._dispatchers, len(self._dispatchers))
        return sorted(drawn, key=lambda dispatcher: dispatcher.shunned_until > now)

    def _shun(self, dispatcher: _Dispatcher, failure: RemoteFailure) -> None:
        now = self._clock.seconds()
        if dispatcher.shunned_until < now:
            log.warn("dispatcher {url} fails: {e}", url=dispatcher.url, e=failure)
        dispatcher.shunned_until = now + self._shun_seconds
