"""How the live-video app reaches the platform: by any dispatcher, and the next one if it fails."""

from collections.abc import Callable, Sequence
from urllib.parse import urlencode

from zope.interface import implementer

from rtdeliver.deferreds import as_deferred
from rtdeliver.event_ids import EventIds
from rtdeliver.http.client import NodeClient
from rtdeliver.http.failover import Failover
from rtdeliver.http.requests import JSON
from rtdeliver.interfaces import IPlatform
from rtdeliver.messages import Presence
from rtdeliver.model import Member, Topic
from rtdeliver.wire import decode_presence, decode_topic_viewers, encode


@implementer(IPlatform)
class HttpPlatform:
    """Asks one dispatcher after the other, until one answers.

    :param dispatchers: the URLs, any of which may be asked.
    :param client: its timeout limits how long one dispatcher may take.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self, *, dispatchers: Failover, client: NodeClient, now: Callable[[], float]
    ) -> None:
        self._dispatchers = dispatchers
        self._client = client
        self._ids = EventIds(now=now)

    @as_deferred
    async def publish(self, topic: Topic, type: str, data: object) -> None:
        # The id is made here: if an answer is lost and the next dispatcher takes the event too,
        # viewers still see it once.
        body = encode({"topic": topic, "type": type, "id": self._ids.next(), "data": data})
        await self._dispatchers.ask_all(
            lambda url: self._client.post(f"{url}/publish", body, content_type=JSON)
        )

    @as_deferred
    async def viewers(self, topic: Topic) -> int:
        query = urlencode({"topic": topic})
        return await self._dispatchers.ask_all(lambda url: self._viewers(f"{url}/topics?{query}"))

    @as_deferred
    async def presence(self, members: Sequence[Member]) -> Sequence[Presence]:
        if not members:
            return []
        query = urlencode([("member", member) for member in members])
        return await self._dispatchers.ask_all(
            lambda url: self._presence(f"{url}/presence?{query}")
        )

    @as_deferred
    async def disconnect(self, member: Member, reason: str) -> None:
        body = encode({"member": member, "reason": reason})
        await self._dispatchers.ask_all(
            lambda url: self._client.post(f"{url}/disconnect", body, content_type=JSON)
        )

    async def _viewers(self, url: str) -> int:
        return decode_topic_viewers((await self._client.get(url)).body)

    async def _presence(self, url: str) -> Sequence[Presence]:
        return decode_presence((await self._client.get(url)).body)
