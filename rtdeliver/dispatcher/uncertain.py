"""What was delivered by routes that may have lacked a frontend, and how that is made known."""

from collections import Counter
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rtdeliver.config.sections import Deliveries
from rtdeliver.errors import Unavailable
from rtdeliver.messages import Route
from rtdeliver.metrics import Sample, dropped, gauge
from rtdeliver.model import FrontendRef, Gap, Topic

log = Logger()

# How many sets of frontends are told apart for one topic. The events of further sets count as if
# nobody had been sent them.
_SETS = 16


class UncertainDeliveries:
    """Counts the events of uncertain routes, and later sends gaps to the frontends they lacked.

    While the routing table cannot be reached, or is not settled after a loss, a dispatcher delivers
    by the rows that it remembers. Once a route is certain again, each of its frontends that some
    events were not sent to is sent a gap with their number.

    :param route: asks the routing table.
    :param post: sends a gap to a frontend.
    :param has_history: whether events of a topic are stored.
    """

    def __init__(
        self,
        *,
        settings: Deliveries,
        route: Callable[[Topic], Deferred[Route]],
        post: Callable[[FrontendRef, Gap], object],
        has_history: Callable[[Topic], bool],
        clock: IReactorTime,
    ) -> None:
        self._settings = settings
        self._route = route
        self._post = post
        self._has_history = has_history
        self._events: dict[Topic, Counter[tuple[FrontendRef, ...]]] = {}
        self._missed = 0
        self._checks = LoopingCall(self.settle)
        self._checks.clock = clock

    def note(self, topic: Topic, events: int, frontends: Sequence[FrontendRef]) -> None:
        """Note that events of ``topic`` are delivered to ``frontends``, perhaps not to all.

        :raises Unavailable: if too many topics are noted already.
        """
        noted = self._events.get(topic)
        if noted is None:
            if len(self._events) >= self._settings.uncertain_topics:
                raise Unavailable("too many events are uncertain to have reached their viewers")
            noted = self._events[topic] = Counter()
        sent_to = tuple(frontends)
        noted[sent_to if sent_to in noted or len(noted) < _SETS else ()] += events
        if not self._checks.running:
            self._checks.start(self._settings.settle_seconds, now=False)

    async def settle(self) -> None:
        """Send the gaps of all topics whose routes are certain now."""
        for topic in list(self._events):
            try:
                route = await self._route(topic)
            except Unavailable:
                # No other route can be asked for, either.
                return
            except Exception:
                log.failure("a route could not be checked")
                return
            if route.certain:
                self._tell(topic, route.frontends)
        if not self._events and self._checks.running:
            self._checks.stop()

    def stop(self) -> None:
        """Check nothing more."""
        if self._checks.running:
            self._checks.stop()

    def samples(self) -> list[Sample]:
        return [
            gauge(
                "uncertain_topics",
                "Topics with events that may not have reached all their viewers.",
                len(self._events),
            ),
            dropped(self._missed, at="dispatcher", reason="unrouted"),
        ]

    def _tell(self, topic: Topic, frontends: Sequence[FrontendRef]) -> None:
        noted = self._events.pop(topic, Counter())
        stored = self._has_history(topic)
        for frontend in frontends:
            lost = sum(events for sent_to, events in noted.items() if frontend not in sent_to)
            if lost:
                self._missed += lost
                self._post(frontend, Gap(topic=topic, lost=lost, stored=stored))
