"""When pages received events, by what they say themselves.

Pages tell a sample, see `rtdeliver.sampling`. Every page picks the same events, and so nothing has
to travel with them.
"""

from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from rtdeliver.config.sections import Latency
from rtdeliver.errors import TooManyRequests
from rtdeliver.frontend.ages import EventAges, Stage
from rtdeliver.messages import Receipt
from rtdeliver.metrics import Sample, counter
from rtdeliver.model import ConnectionId, Event
from rtdeliver.sampling import is_sampled

# How often one connection may tell.
_PAUSE_SECONDS = 1.0


class Receipts:
    """Takes the ages that sampled events had when pages received them.

    No page's clock is trusted. A page tells at once, and how long a request and its answer take; it
    received the events half of that before this frontend received the request.

    :param ages: where the ages are counted.
    :param received: called with the id of each event and its age in milliseconds, too.
    :param clock: measures the pause between two requests of one connection.
    """

    def __init__(
        self,
        *,
        settings: Latency,
        ages: EventAges,
        received: Callable[[str, float], None],
        clock: IReactorTime,
    ) -> None:
        self.one_in = settings.receipts_one_in
        """The share of the events that pages tell, as 1 in so many; 0 for none."""
        self._settings = settings
        self._ages = ages
        self._received = received
        self._clock = clock
        self._accepted: OrderedDict[str, int] = OrderedDict()
        self._told_at: OrderedDict[ConnectionId, float] = OrderedDict()
        self._unknown = 0

    def note(self, event: Event) -> None:
        """Remember when ``event`` was accepted, if it is one of the sample."""
        if event.at and is_sampled(event.id, self.one_in):
            self._accepted[event.id] = event.at
            if len(self._accepted) > self._settings.receipts_events:
                self._accepted.popitem(last=False)

    def receive(self, receipt: Receipt) -> None:
        """Take the ages of events that a page has just received.

        :raises TooManyRequests: if the same connection has told less than a second ago.
        """
        self._check_pause(receipt.connection)
        earlier_seconds = receipt.round_trip_ms / 2000
        for name in receipt.events:
            at = self._accepted.get(name)
            if at is None:
                self._unknown += 1
            else:
                seconds = self._ages.age(at) - earlier_seconds
                self._ages.observe_age(Stage.RECEIVED, seconds)
                self._received(name, seconds * 1000)

    def samples(self) -> list[Sample]:
        return [
            counter(
                "receipts_unknown",
                "Events that pages told to have received, and that were not delivered lately.",
                self._unknown,
            )
        ]

    def _check_pause(self, connection: ConnectionId) -> None:
        now = self._clock.seconds()
        while self._told_at and next(iter(self._told_at.values())) <= now - _PAUSE_SECONDS:
            self._told_at.popitem(last=False)
        if connection in self._told_at:
            raise TooManyRequests(
                "a connection may tell once a second what it has received",
                headers={"Retry-After": "1"},
            )
        self._told_at[connection] = now
