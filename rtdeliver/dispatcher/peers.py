"""The links from this dispatcher to the peer datacenters, one to each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorTime

from rtdeliver.actor import RunQueue
from rtdeliver.backoff import Backoff
from rtdeliver.config.sections import Forwards
from rtdeliver.dispatcher.link import Link, LinkCounts
from rtdeliver.interfaces import IPeerClient
from rtdeliver.metrics import Sample, counter, dropped, gauge
from rtdeliver.model import Control, Event, Gap

_DROP_REASONS = ("full", "answer_lost", "refused", "closed", "failed")


class Peers:
    """Forwards the events that are published here to every peer; one peer never delays another.

    Every event goes to every peer. The peer's own dispatchers know whether its topic has viewers
    there.

    :param clients: the clients of the peers, by the name of the datacenter.
    """

    def __init__(
        self,
        *,
        clients: Mapping[str, IPeerClient],
        settings: Forwards,
        clock: IReactorTime,
        run_queue: RunQueue,
        new_backoff: Callable[[], Backoff],
    ) -> None:
        self.clients = clients
        self._settings = settings
        self._clock = clock
        self._run_queue = run_queue
        self._new_backoff = new_backoff
        self._counts = {name: LinkCounts() for name in clients}
        # What a broken link could not report; the next one does so with the next events.
        self._left_gaps: dict[str, Sequence[Gap]] = {}
        self._links = {name: self._new_link(name) for name in clients}

    @property
    def waiting_events(self) -> int:
        """How many events wait to be forwarded, over all peers."""
        return sum(link.mailbox_events for link in self._links.values())

    def post(self, *events: Event | Control) -> None:
        """Forward ``events`` to every peer soon."""
        for name, link in self._links.items():
            link.post(*self._left_gaps.pop(name, ()), *events)

    def close(self) -> None:
        """Forward nothing more."""
        for link in self._links.values():
            link.close("closed")

    def forwarded(self) -> int:
        """How many events peers have accepted."""
        return sum(counts.delivered for counts in self._counts.values())

    def dropped(self) -> int:
        """How many events were dropped on the way to peers."""
        return sum(sum(counts.dropped.values()) for counts in self._counts.values())

    def losses(self) -> Mapping[str, int]:
        """Return how many events were dropped, by peer and reason."""
        return {
            f"peer_{reason} {name}": counts.dropped[reason]
            for name, counts in self._counts.items()
            for reason in _DROP_REASONS
        }

    def status(self) -> list[Mapping[str, Any]]:
        """Return for each peer the state of its link, and what waits."""
        return [{"to": name, **link.status()} for name, link in self._links.items()]

    def samples(self) -> Iterator[Sample]:
        for name, counts in self._counts.items():
            yield counter("forwarded", "Events that a peer accepted.", counts.delivered, peer=name)
            yield counter(
                "controls_not_forwarded",
                "Controls that did not reach a peer; it reads revocations later.",
                counts.controls_dropped,
                peer=name,
            )
            yield counter("forwards", "Batches sent to a peer.", counts.deliveries, peer=name)
            yield counter(
                "forwards_repeated", "Batches sent to a peer again.", counts.repeats, peer=name
            )
        for reason in _DROP_REASONS:
            events = sum(counts.dropped[reason] for counts in self._counts.values())
            yield dropped(events, at="dispatcher", reason=f"peer_{reason}")
        links = self._links.values()
        yield gauge(
            "mailbox_bytes",
            "Bytes waiting in mailboxes.",
            sum(link.mailbox_bytes for link in links),
            actor="peer",
        )
        yield gauge(
            "mailbox_events",
            "Events waiting in mailboxes.",
            self.waiting_events,
            actor="peer",
        )

    def _new_link(self, name: str) -> Link:
        return Link(
            name=f"datacenter {name}",
            send=self.clients[name].forward,
            settings=self._settings,
            clock=self._clock,
            run_queue=self._run_queue,
            backoff=self._new_backoff(),
            counts=self._counts[name],
            broken=partial(self._replace, name),
            left=partial(self._left_gaps.__setitem__, name),
        )

    def _replace(self, name: str, broken: Link) -> None:
        broken.close("failed")
        self._links[name] = self._new_link(name)
