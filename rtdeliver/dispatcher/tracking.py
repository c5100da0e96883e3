"""Where a dispatcher sent tracked events."""

from collections.abc import Callable, Collection, Mapping, Sequence

from rtdeliver.config.sections import Latency
from rtdeliver.messages import HopRecord, HopStage
from rtdeliver.model import Event, FrontendRef, Item, Topic
from rtdeliver.sampling import TypeSamples
from rtdeliver.wire import type_of


class Tracking:
    """Records each tracked event that a dispatcher routes, and where it goes from here.

    :param peers: the datacenters to which events that are published here are forwarded.
    :param record: takes the records.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        settings: Latency,
        peers: Collection[str],
        record: Callable[[HopRecord], None],
        now: Callable[[], float],
    ) -> None:
        self._samples = TypeSamples(settings.track_one_in, settings.track_types)
        self._peers = tuple(peers)
        self._record = record
        self._now = now

    def publish(self, batch: Sequence[Item], routes: Mapping[Topic, Sequence[FrontendRef]]) -> None:
        """Record events that were published here."""
        self._note("published", batch, routes, self._peers)

    def forward(self, batch: Sequence[Item], routes: Mapping[Topic, Sequence[FrontendRef]]) -> None:
        """Record events that a peer has forwarded to here."""
        self._note("forwarded", batch, routes, ())

    def _note(
        self,
        stage: HopStage,
        batch: Sequence[Item],
        routes: Mapping[Topic, Sequence[FrontendRef]],
        peers: tuple[str, ...],
    ) -> None:
        may_have = self._samples.may_have
        for event in batch:
            if not isinstance(event, Event) or not may_have(event.id) or not event.at:
                continue
            kind = type_of(event)
            if self._samples.has(event.id, kind):
                self._record(
                    HopRecord(
                        stage=stage,
                        id=event.id,
                        type=kind,
                        at=event.at,
                        ages=((round(self._now() * 1000 - event.at, 1), 1),),
                        frontends=tuple(frontend.node for frontend in routes.get(event.topic, ())),
                        peers=peers,
                    )
                )
