"""How a dispatcher stores events before it delivers them, and sees to it that each is delivered."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rtdeliver.config.sections import History
from rtdeliver.dispatcher.links import Ticket
from rtdeliver.errors import Unavailable
from rtdeliver.interfaces import IHistory
from rtdeliver.messages import Entry, HistoryPage, HistoryQuery, Stored
from rtdeliver.metrics import Sample, counter, gauge
from rtdeliver.model import Event, Gap, Topic

log = Logger()

# How often it is looked whether events were delivered.
_MARK_SECONDS = 0.1
# How many events one sweep delivers.
_SWEPT = 500


class _Claim(NamedTuple):
    """Events whose delivery has begun.

    :param tickets: the links that deliver them.
    :param until: when another dispatcher delivers them again.
    """

    stored: Sequence[Stored]
    tickets: Sequence[Ticket]
    until: float


class Histories:
    """The histories of a datacenter, as one of its dispatchers uses them.

    The dispatcher that has stored events has a claim, until it has delivered them. Events whose
    dispatcher has died are delivered by another one.

    :param history: ``None`` if no topic has one.
    :param deliver: delivers stored events, and forwards those that were published here.
    """

    def __init__(
        self,
        *,
        history: IHistory | None,
        deliver: Callable[[Sequence[Stored]], Awaitable[None]],
        settings: History,
        clock: IReactorTime,
    ) -> None:
        self._history = history
        self._deliver = deliver
        self._settings = settings
        self._clock = clock
        self._claims: deque[_Claim] = deque()
        self._claimed = 0
        self._marks = LoopingCall(self.mark_delivered)
        self._sweeps = LoopingCall(self._sweep)
        self._marks.clock = self._sweeps.clock = clock
        self._stored = 0
        self._repeated = 0
        self._swept = 0
        self._left = 0

    def start(self) -> None:
        """Begin to look for events whose dispatchers have died."""
        if self._history is not None:
            self._sweeps.start(self._settings.sweep_seconds, now=False)

    def stop(self) -> None:
        """Look for them no more."""
        for calls in (self._marks, self._sweeps):
            if calls.running:
                calls.stop()

    def keep(self, topic: Topic) -> bool:
        """Return whether the events of ``topic`` are stored."""
        return self._history is not None and self._history.keeps(topic)

    def keep_any(self, batch: Sequence[Event | Gap]) -> bool:
        """Return whether any topic in a batch has a history. It asks once for each topic."""
        if self._history is None:
            return False
        return any(map(self._history.keeps, {item.topic for item in batch}))

    async def store(self, entries: Sequence[Entry]) -> Sequence[Stored]:
        """Store events; `note` is to be called when their delivery has begun.

        :raises Unavailable: if the store cannot be reached or is full.
        """
        if self._history is None:
            return []
        stored = await self._history.append(entries)
        repeated = sum(each.repeated for each in stored)
        self._stored += len(stored) - repeated
        self._repeated += repeated
        return stored

    def note(self, stored: Sequence[Stored], tickets: Sequence[Ticket]) -> None:
        """Note which links deliver events."""
        until = self._clock.seconds() + self._settings.claim_seconds
        self._claims.append(_Claim(stored, tickets, until))
        self._claimed += len(stored)
        while self._claimed > self._settings.waiting_events and len(self._claims) > 1:
            self._leave(self._claims.popleft())
        if not self._marks.running:
            self._marks.start(_MARK_SECONDS, now=False)

    async def mark_delivered(self) -> None:
        """Tell the store which events the links have delivered."""
        delivered: list[Stored] = []
        waiting: deque[_Claim] = deque()
        now = self._clock.seconds()
        claims, self._claims = self._claims, waiting
        for claim in claims:
            if all(link.has_settled(posted) for link, posted in claim.tickets):
                delivered += claim.stored
                self._claimed -= len(claim.stored)
            elif claim.until <= now:
                self._leave(claim)
            else:
                waiting.append(claim)
        if delivered:
            await self._mark(delivered)
        if not self._claims and self._marks.running:
            self._marks.stop()

    async def heads(self, topics: Iterable[Topic]) -> Mapping[Topic, str] | None:
        """Return the positions of the last events of those topics that have a history.

        :return: ``None`` if no topic has one.

        :raises Unavailable: if the store cannot be reached.
        """
        kept = [topic for topic in topics if self.keep(topic)]
        if self._history is None:
            return None
        if not kept:
            return {}
        heads = await self._history.heads(kept)
        return {topic: str(place) for topic, place in heads.items()}

    async def read(self, queries: Sequence[HistoryQuery]) -> Sequence[HistoryPage | None]:
        """Return a page for each query.

        :raises Unavailable: if the store cannot be reached.
        """
        return [None] * len(queries) if self._history is None else await self._history.read(queries)

    async def clear(self, topic: Topic) -> int:
        """Remove all events of a topic, and return how many there were.

        :raises Unavailable: if the store cannot be reached.
        """
        return 0 if self._history is None else await self._history.clear(topic)

    def samples(self) -> list[Sample]:
        return [
            counter("stored", "Events stored in histories.", self._stored),
            counter(
                "stored_before", "Events not stored again, since their ids were.", self._repeated
            ),
            counter(
                "history_swept",
                "Events delivered in place of a dispatcher that had stored them.",
                self._swept,
            ),
            counter(
                "history_left",
                "Events left to another dispatcher, since their delivery took too long.",
                self._left,
            ),
            gauge("history_claims", "Stored events that are being delivered.", self._claimed),
        ]

    async def _mark(self, delivered: Sequence[Stored]) -> None:
        try:
            if self._history is not None:
                await self._history.mark_delivered(delivered)
        except Unavailable:
            # They are delivered again; frontends know by their positions that they have them.
            self._left += len(delivered)
        except Exception:
            log.failure("stored events could not be marked as delivered")

    def _leave(self, claim: _Claim) -> None:
        self._claimed -= len(claim.stored)
        self._left += len(claim.stored)

    async def _sweep(self) -> None:
        try:
            while await self._sweep_some() >= _SWEPT:
                pass
        except Unavailable:
            # It is tried again, and the store logs the failure.
            return
        except Exception:
            log.failure("events whose dispatcher has died could not be delivered")

    async def _sweep_some(self) -> int:
        overdue = [] if self._history is None else await self._history.overdue(_SWEPT)
        if overdue:
            self._swept += len(overdue)
            await self._deliver(overdue)
        return len(overdue)
