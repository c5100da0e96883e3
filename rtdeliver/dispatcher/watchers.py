"""Who watches what in this datacenter: topics by viewers, and the members of a topic."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import msgspec
from twisted.internet.defer import DeferredList
from twisted.logger import Logger

from rtdeliver.errors import BadRequest
from rtdeliver.interfaces import IFrontendClient, IRoutingTable
from rtdeliver.messages import TopicMembers, TopicViewers
from rtdeliver.model import Member, Topic

log = Logger()


class TopicsPage(msgspec.Struct, frozen=True):
    """Some topics, those with most viewers first.

    :param next: the cursor of the next page; ``None`` at the end.
    """

    topics: Sequence[TopicViewers]
    next: str | None


class MembersPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Some of the members who watch a topic, by name.

    :param anonymous: how many viewers are no members, over all pages.
    :param next: the cursor of the next page; ``None`` at the end.
    :param missing: the frontends that did not answer, whose viewers are not here.
    """

    topic: Topic
    members: Sequence[Member]
    anonymous: int
    next: str | None
    missing: Sequence[str] = ()


class Watchers:
    """Reads the routing table, and asks the frontends."""

    def __init__(self, *, routing_table: IRoutingTable, frontends: IFrontendClient) -> None:
        self._routing_table = routing_table
        self._frontends = frontends

    async def topics(self, prefix: str, after: str, limit: int) -> TopicsPage:
        """Return a page of the topics that begin with ``prefix`` and have viewers.

        :param after: the cursor of the page; empty for the first one.
        :raises BadRequest: if the cursor is none.
        :raises Unavailable: if the routing table cannot be reached.
        """
        begin = _read_cursor(after) if after else None
        found = await self._routing_table.topics(prefix, begin, limit + 1)
        page = found[:limit]
        return TopicsPage(page, _cursor(page[-1]) if len(found) > limit else None)

    async def members(self, topic: Topic, after: str, limit: int) -> MembersPage:
        """Return a page of the members who watch ``topic``, at all frontends.

        :param after: the cursor of the page; empty for the first one.
        :raises Unavailable: if the routing table cannot be reached.
        """
        route = await self._routing_table.route(topic)
        asked = DeferredList(
            [self._frontends.members(each, topic, after, limit) for each in route.frontends],
            consumeErrors=True,
        )
        parts: list[TopicMembers] = []
        missing: list[str] = []
        for frontend, (answered, answer) in zip(route.frontends, await asked, strict=True):
            if answered:
                parts.append(answer)
                continue
            missing.append(frontend.node)
            why: Any = answer
            log.warn("{node} does not tell who watches: {e}", node=frontend.node, e=why.value)
        names = sorted({name for part in parts for name in part.members})
        has_more = len(names) > limit or any(part.more for part in parts)
        page = names[:limit]
        return MembersPage(
            topic=topic,
            members=page,
            anonymous=sum(part.anonymous for part in parts),
            next=page[-1] if has_more and page else None,
            missing=tuple(sorted(missing)),
        )


def _cursor(last: TopicViewers) -> str:
    text = f"{last.viewers}:{last.topic}".encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def _read_cursor(text: str) -> TopicViewers:
    try:
        padded = text + "=" * (-len(text) % 4)
        decoded = base64.b64decode(padded.encode(), altchars=b"-_", validate=True).decode()
        viewers, separator, topic = decoded.partition(":")
        if separator and viewers.isascii() and viewers.isdigit() and len(viewers) < 16:
            return TopicViewers(Topic(topic), int(viewers))
    except (UnicodeError, binascii.Error, ValueError):
        pass
    raise BadRequest("after must be what next was in the answer before")
