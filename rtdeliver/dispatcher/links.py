"""The links from this dispatcher to the frontends, at most one to each."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from rtdeliver.actor import RunQueue
from rtdeliver.backoff import Backoff
from rtdeliver.config.sections import Deliveries
from rtdeliver.dispatcher.link import Link, LinkCounts
from rtdeliver.errors import StaleIncarnation
from rtdeliver.interfaces import IFrontendClient
from rtdeliver.metrics import Sample, counter, dropped, gauge
from rtdeliver.model import FrontendRef, Gap, Item, Topic

_DROP_REASONS = {
    "full": "link_full",
    "answer_lost": "answer_lost",
    "refused": "refused",
    "stale_incarnation": "stale_incarnation",
    "lease_ended": "lease_ended",
    "closed": "closed",
    "failed": "failed",
}

# How many nodes are remembered that have no link, but gaps that nobody has told them of.
_LEFT_NODES = 1000


Ticket = tuple[Link, int]
"""A link, and how many items were posted to it: its question is `Link.has_settled`."""


class _FrontendLink(NamedTuple):
    """A link, and the frontend process that it sends to."""

    frontend: FrontendRef
    link: Link


class Links:
    """The links of a dispatcher to all frontends. A link is made when it is first needed.

    :param stale: called with a frontend that another process of its node has replaced.
    """

    def __init__(
        self,
        *,
        client: IFrontendClient,
        settings: Deliveries,
        clock: IReactorTime,
        run_queue: RunQueue,
        new_backoff: Callable[[], Backoff],
        stale: Callable[[FrontendRef], None],
    ) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._run_queue = run_queue
        self._new_backoff = new_backoff
        self._stale = stale
        self._links: dict[str, _FrontendLink] = {}
        self._left_gaps: dict[str, Counter[tuple[Topic, bool]]] = {}
        self._counts = LinkCounts()

    def __len__(self) -> int:
        return len(self._links)

    @property
    def waiting_events(self) -> int:
        """How many events wait to be delivered, over all links."""
        return sum(entry.link.mailbox_events for entry in self._links.values())

    def post(self, frontend: FrontendRef, *items: Item) -> Ticket:
        """Deliver events and gaps to ``frontend`` soon."""
        entry = self._links.get(frontend.node)
        if entry is None or entry.frontend != frontend:
            entry = self._replace(entry, frontend)
        entry.link.post(*items)
        return entry.link, entry.link.posted

    def retain(self, lives: Callable[[FrontendRef], bool]) -> None:
        """Close the links to frontends that do not live any more.

        :param lives: whether the lease of a frontend still runs.
        """
        for entry in list(self._links.values()):
            if not lives(entry.frontend):
                self._close(entry, "lease_ended")

    def close(self) -> None:
        """Close all links."""
        for entry in list(self._links.values()):
            self._close(entry, "closed")

    def delivered(self) -> int:
        """How many events were delivered to frontends."""
        return self._counts.delivered

    def dropped(self) -> int:
        """How many events were dropped on the way to frontends."""
        return sum(self._counts.dropped.values())

    def losses(self) -> Mapping[str, int]:
        """Return how many events were dropped, by reason; without those that nobody waits for."""
        return {
            label: self._counts.dropped[reason]
            for reason, label in _DROP_REASONS.items()
            if reason != "closed"
        }

    def status(self) -> list[Mapping[str, Any]]:
        """Return for each link its state and what waits."""
        return [{"to": node, **self._links[node].link.status()} for node in sorted(self._links)]

    def samples(self) -> list[Sample]:
        counts = self._counts
        return [
            gauge("links", "Frontends that this dispatcher has a link to.", len(self)),
            counter(
                "delivered", "Events delivered to frontends.", counts.delivered, at="dispatcher"
            ),
            counter(
                "controls_dropped",
                "Controls that did not reach a frontend; it reads revocations later.",
                counts.controls_dropped,
            ),
            counter("deliveries", "Batches sent to frontends.", counts.deliveries),
            counter("deliveries_repeated", "Batches sent again.", counts.repeats),
            *(
                dropped(counts.dropped[reason], at="dispatcher", reason=label)
                for reason, label in _DROP_REASONS.items()
            ),
            gauge(
                "mailbox_bytes",
                "Bytes waiting in mailboxes.",
                sum(entry.link.mailbox_bytes for entry in self._links.values()),
                actor="link",
            ),
            gauge(
                "mailbox_events",
                "Events waiting in mailboxes.",
                self.waiting_events,
                actor="link",
            ),
        ]

    def _replace(self, old: _FrontendLink | None, frontend: FrontendRef) -> _FrontendLink:
        if old is not None:
            self._close(old, "stale_incarnation")
        link = Link(
            name=frontend.node,
            send=partial(self._deliver, frontend),
            settings=self._settings,
            clock=self._clock,
            run_queue=self._run_queue,
            backoff=self._new_backoff(),
            counts=self._counts,
            broken=partial(self._end_broken, frontend),
            left=partial(self._leave_gaps, frontend.node),
        )
        entry = self._links[frontend.node] = _FrontendLink(frontend, link)
        left = self._left_gaps.pop(frontend.node, Counter())
        link.post(
            *(Gap(topic=topic, lost=lost, stored=stored) for (topic, stored), lost in left.items())
        )
        return entry

    def _deliver(self, frontend: FrontendRef, batch: Sequence[Item]) -> Deferred[None]:
        return self._client.deliver(frontend, batch).addErrback(self._end_if_stale, frontend)

    def _end_if_stale(self, failure: Failure, frontend: FrontendRef) -> Failure:
        # The link is closed by then, and counts the events of the batch as dropped.
        entry = self._links.get(frontend.node)
        if failure.check(StaleIncarnation) and entry is not None and entry.frontend == frontend:
            self._close(entry, "stale_incarnation")
            self._stale(frontend)
        return failure

    def _end_broken(self, frontend: FrontendRef, link: Link) -> None:
        entry = self._links.get(frontend.node)
        if entry is not None and entry.link is link:
            del self._links[frontend.node]
        link.close("failed")

    def _close(self, entry: _FrontendLink, reason: str) -> None:
        del self._links[entry.frontend.node]
        entry.link.close(reason)

    def _leave_gaps(self, node: str, gaps: Sequence[Gap]) -> None:
        """Let the link to ``node``, or the next one, report what a closed one has lost."""
        entry = self._links.get(node)
        if entry is not None:
            entry.link.post(*gaps)
            return
        left = self._left_gaps.setdefault(node, Counter())
        for gap in gaps:
            # Like a link, this has a bound; the losses of further topics are only counted.
            key = gap.topic, gap.stored
            if key in left or len(left) < self._settings.batch_events:
                left[key] += gap.lost
        if len(self._left_gaps) > _LEFT_NODES:
            del self._left_gaps[next(iter(self._left_gaps))]
