"""What a dispatcher tells of all frontends of its datacenter."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rtdeliver.deferreds import all_of
from rtdeliver.errors import RemoteFailure, Unavailable
from rtdeliver.http.client import NodeClient
from rtdeliver.http.requests import JSON
from rtdeliver.messages import NodeStatus
from rtdeliver.model import FrontendRef

log = Logger()

_REFRESH_SECONDS = 2.0
_AT_A_TIME = 20
_HOT_TOPICS = 20


class _Topic(msgspec.Struct):
    topic: str
    viewers: int


class FrontendFigures(msgspec.Struct):
    """What a dispatcher takes from the status of a frontend."""

    version: str = ""
    ready: bool = False
    connections: int = 0
    connections_max: int = 0
    per_second: dict[str, float] = {}
    ages: dict[str, dict[str, float | None]] = {}
    topics: list[_Topic] = []


class FrontendsStatus:
    """Asks all frontends for their status, as long as somebody wants to know.

    :param nodes: fires with the frontends that have a lease.
    :param fetch: returns what one frontend tells; raises `RemoteFailure` if it does not.
    """

    def __init__(
        self,
        *,
        nodes: Callable[[], Deferred[Sequence[NodeStatus]]],
        fetch: Callable[[FrontendRef], Deferred[FrontendFigures]],
        clock: IReactorTime,
    ) -> None:
        self._nodes = nodes
        self._fetch = fetch
        self._clock = clock
        self._fresh_until = clock.seconds()
        self._asking = False
        self._rows: list[dict[str, Any]] = []
        self._hot: list[dict[str, Any]] = []

    def tell(self) -> Mapping[str, Any]:
        """Return what was last heard, and ask again if that is old."""
        if self._clock.seconds() >= self._fresh_until and not self._asking:
            self._asking = True
            Deferred.fromCoroutine(self._ask()).addErrback(
                lambda failure: log.failure("frontends could not be asked", failure)
            )
        return {"frontends": self._rows, "hot_topics": self._hot}

    async def _ask(self) -> None:
        try:
            nodes = await self._nodes()
            slots = DeferredSemaphore(_AT_A_TIME)
            told = await all_of(slots.run(self._ask_one, node.frontend) for node in nodes)
        except Unavailable:
            # The status says so itself: the routing table is missing.
            nodes, told = [], []
        finally:
            self._asking = False
            self._fresh_until = self._clock.seconds() + _REFRESH_SECONDS
        self._rows = [_row(node, figures) for node, figures in zip(nodes, told, strict=True)]
        hot = Counter[str]()
        for figures in told:
            for each in figures.topics if figures is not None else ():
                hot[each.topic] += each.viewers
        self._hot = [
            {"topic": topic, "viewers": viewers} for topic, viewers in hot.most_common(_HOT_TOPICS)
        ]

    def _ask_one(self, frontend: FrontendRef) -> Deferred[FrontendFigures | None]:
        return Deferred.fromCoroutine(self._figures(frontend))

    async def _figures(self, frontend: FrontendRef) -> FrontendFigures | None:
        try:
            return await self._fetch(frontend)
        except RemoteFailure:
            return None


async def fetch_figures(client: NodeClient, frontend: FrontendRef) -> FrontendFigures:
    """Return what a frontend tells of itself at ``/status``.

    :raises RemoteFailure: if it does not, or not in this form.
    """
    answer = await client.get(f"{frontend.url.rstrip('/')}/status", headers={"Accept": JSON})
    return read_figures(answer.body)


def read_figures(body: bytes) -> FrontendFigures:
    """Return what a dispatcher takes from the status of a frontend.

    :raises RemoteFailure: if it has another form.
    """
    try:
        return msgspec.json.decode(body, type=FrontendFigures)
    except msgspec.MsgspecError as error:
        raise RemoteFailure(f"the status of a frontend is not as expected: {error}") from None


def _row(node: NodeStatus, figures: FrontendFigures | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "node": node.frontend.node,
        "url": node.frontend.url,
        "topics": node.topics,
        "viewers": node.viewers,
        "lease_seconds_left": round(node.lease_seconds_left, 1),
        "answers": figures is not None,
    }
    if figures is not None:
        row |= {
            "version": figures.version,
            "ready": figures.ready,
            "connections": figures.connections,
            "connections_max": figures.connections_max,
            "sent_per_second": figures.per_second.get("sent", 0.0),
            "dropped_per_second": figures.per_second.get("dropped", 0.0),
            "sent_p90_ms": figures.ages.get("sent", {}).get("p90_ms"),
        }
    return row
