"""Whether the promise was kept for every event and every stream.

The promise, for topics without history:

- A subscription is confirmed by a 200 answer, or by a ``connected`` frame that does not name the
  topic as pending. An event is *due* on a stream if its publish began after the confirmation
  arrived and a dispatcher answered it by 202.
- The stream receives each due event, as long as it lives and stays subscribed. Otherwise a ``gap``
  frame that names the topic tells the viewer, no later than `LATE_SECONDS`. Its number is at least
  as large as what is missing, or it is null.
- What gaps tell by number is counted in ``rtdeliver_dropped_total``: at the dispatcher once for
  each frontend, or at a frontend once for each stream. Nobody can count what gaps tell without a
  number: the dispatchers had forgotten the frontend.
- A stream receives no event twice.
- A stream receives the events of one producer, topic and dispatcher in the order in which they were
  published.

What is not promised:

- A dispatcher that is killed takes the events with it that it had accepted and not delivered, and
  nobody is left to tell. These are the last events of a topic that came through this process, of
  the last `IN_FLIGHT_SECONDS` before the kill; or of the last `HELD_UP_SECONDS`, if the dispatcher,
  the frontend or the way between them was disturbed meanwhile. What it has counted is gone, too, as
  is what a killed frontend has counted.
- While a dispatcher cannot reach Redis, it delivers by the routes that it remembers. Once the
  routing table is settled, it sends gaps to the frontends that these lacked. If it is killed
  before, at most `HELD_UP_SECONDS` after it could reach Redis again, nobody is left to send these.
- An event, or the gap in its place, may be late, and later if Redis fails again. Where a stream or
  subscription ended before, nobody knows whether it would have come.
- An event whose publish got no answer may be received, once. It has no place in the order.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.campaign.history import (
    Accepted,
    Disturbance,
    Drops,
    History,
    Key,
    Kill,
    Receipt,
)
from tests.campaign.matching import LATE_SECONDS, Excuse, Loss, match

IN_FLIGHT_SECONDS = 1.0
"""How old an event is at most that dies with its dispatcher, where nothing holds it up."""

HELD_UP_SECONDS = 10.0
"""How old it is at most where its way was disturbed: a fault, or a lease, and two requests."""

# After a disturbance, a link pauses before it sends again.
_RECOVERY_SECONDS = 2.0


class Disorder(NamedTuple):
    """An event that came twice, or too late."""

    receipt: Receipt
    history: History


@dataclass(slots=True)
class Account:
    """The sum of a campaign.

    :ivar due: receipts that were due, those included that nobody knows of.
    :ivar told: missing events that gaps tell by number.
    :ivar told_without_number: missing events before a gap whose number is null.
    :ivar killed: missing events that were in flight through a dispatcher that was killed.
    :ivar undecided: missing events that may have been late.
    :ivar uncounted: missing events that gaps tell by number and no counter counts.
    """

    accepted: int = 0
    due: int = 0
    received: int = 0
    told: int = 0
    told_without_number: int = 0
    killed: int = 0
    uncounted: int = 0
    undecided: list[Loss] = field(default_factory=list)
    unaccounted: list[Loss] = field(default_factory=list)
    twice: list[Disorder] = field(default_factory=list)
    out_of_order: list[Disorder] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether the promise was kept."""
        return not (self.unaccounted or self.twice or self.out_of_order or self.uncounted)


def account(
    events: Iterable[Accepted],
    histories: Iterable[History],
    *,
    kills: Iterable[Kill],
    disturbances: Sequence[Disturbance],
    drops: Drops,
) -> Account:
    """Judge all streams. What is still open at the end had the time to arrive."""
    known = _Events(events)
    lives = _Lives(kills, disturbances)
    sum = Account(accepted=len(known.by_key))
    told: list[Loss] = []
    for history in histories:
        told += _judge(history, known, lives, sum)
    sum.told = len(told)
    sum.uncounted = _uncounted(told, lives, drops)
    return sum


class _Events:
    """The accepted events by key, and by topic in the order in which their publishes began."""

    def __init__(self, events: Iterable[Accepted]) -> None:
        self.by_key = {event.key: event for event in events}
        self._by_topic: dict[str, list[Accepted]] = defaultdict(list)
        for event in sorted(self.by_key.values(), key=lambda event: event.began):
            self._by_topic[event.topic].append(event)

    def begun(self, topic: str, since: float, until: float) -> Sequence[Accepted]:
        """The events of ``topic`` that producers began to publish in this time."""
        events = self._by_topic.get(topic, [])
        first = bisect_right(events, since, key=lambda event: event.began)
        last = bisect_left(events, until, key=lambda event: event.began)
        return events[first:last]


class _Lives:
    """Which of the processes, one after the other, in a place did something."""

    def __init__(self, kills: Iterable[Kill], disturbances: Sequence[Disturbance]) -> None:
        self._disturbances = disturbances
        self._kills: dict[tuple[str, int], list[Kill]] = defaultdict(list)
        for kill in sorted(kills, key=lambda kill: kill.at):
            self._kills[kill.role, kill.place].append(kill)

    def of(self, role: str, place: int, at: float) -> int:
        """The number of the process that took a request sent at this time."""
        return bisect_right(self._kills[role, place], at, key=lambda kill: kill.back)

    def ended(self, role: str, place: int, at: float) -> float | None:
        """When the process that took a request sent at this time was killed, if it was."""
        kills = self._kills[role, place]
        life = self.of(role, place, at)
        return kills[life].at if life < len(kills) else None

    def was_held_up(self, event: Accepted, frontend: int, until: float) -> bool:
        """Whether anything on the way to a frontend was disturbed after the event was accepted."""
        places = (f"d{event.dispatcher}", f"n{frontend}", f"deliveries-n{frontend}")
        return any(
            place in places and began < until and ended + _RECOVERY_SECONDS > event.accepted
            for place, began, ended in self._disturbances
        )

    def told_by(self, event: Accepted) -> float:
        """When a gap in place of an event comes at the latest."""
        return self._settled_by(event, event.accepted + LATE_SECONDS, LATE_SECONDS)

    def owed_a_gap(self, event: Accepted, killed: float) -> bool:
        """Whether a dispatcher had delivered an event by an old route and was killed soon after."""
        old_route_until = event.accepted - _RECOVERY_SECONDS
        return killed < self._settled_by(event, old_route_until, HELD_UP_SECONDS, _RECOVERY_SECONDS)

    def _settled_by(
        self, event: Accepted, latest: float, grace: float, recovery: float = 0
    ) -> float:
        """When the routing table is settled for the dispatcher that accepted an event.

        It is not before the faults of Redis are over, each of which may begin before the table had
        settled after the one before.

        :param latest: when it is settled if nothing was disturbed.
        :param grace: how long after a fault it takes.
        :param recovery: how long after a fault an event is still delivered by an old route.
        """
        places = ("redis", f"d{event.dispatcher}-redis")
        for place, began, ended in sorted(self._disturbances, key=lambda other: other.began):
            begins = began < max(latest, event.accepted)
            if place in places and begins and ended + recovery > event.accepted:
                latest = max(latest, ended + grace)
        return latest


# A dispatcher, which of its processes, and a topic: along these, order is kept.
_Way = tuple[int, int, str]


def _way(event: Accepted, lives: _Lives) -> _Way:
    return event.dispatcher, lives.of("dispatcher", event.dispatcher, event.asked), event.topic


def _judge(history: History, known: _Events, lives: _Lives, sum: Account) -> list[Loss]:
    """Add the account of one stream; return the losses that gaps tell by number."""
    received = _check_receipts(history, known, lives, sum)
    newest = _newest(history, known, lives)
    missing = []
    for promise in history.promises:
        until = float("inf") if promise.until is None else promise.until
        for event in known.begun(promise.topic, promise.since, until):
            sum.due += 1
            if event.key in received:
                sum.received += 1
                continue
            told_by = lives.told_by(event)
            excuse = _excuse(event, history, newest, lives, is_late=until < told_by)
            missing.append(Loss(event, history, promise.since, told_by, excuse))
    numbered, without_number, untold = match(missing, sorted(history.gaps, key=lambda gap: gap.at))
    sum.told_without_number += len(without_number)
    for loss in untold:
        match loss.excuse:
            case Excuse.KILLED:
                sum.killed += 1
            case Excuse.ENDED:
                sum.undecided.append(loss)
            case None:
                sum.unaccounted.append(loss)
    return numbered


def _excuse(
    event: Accepted, history: History, newest: Mapping[_Way, float], lives: _Lives, is_late: bool
) -> Excuse | None:
    if _died_with_dispatcher(event, history, newest, lives):
        return Excuse.KILLED
    return Excuse.ENDED if is_late else None


def _check_receipts(history: History, known: _Events, lives: _Lives, sum: Account) -> set[Key]:
    """Note what came twice or out of order; return all that came."""
    received: set[Key] = set()
    last: dict[tuple[str, _Way], int] = {}
    for receipt in history.receipts:
        if receipt.key in received:
            sum.twice.append(Disorder(receipt, history))
            continue
        received.add(receipt.key)
        event = known.by_key.get(receipt.key)
        if event is None or event.dispatcher != receipt.dispatcher:
            # It came through a dispatcher that has not answered.
            continue
        line = (event.key.producer, _way(event, lives))
        if event.key.number < last.get(line, 0):
            sum.out_of_order.append(Disorder(receipt, history))
        else:
            last[line] = event.key.number
    return received


def _newest(history: History, known: _Events, lives: _Lives) -> Mapping[_Way, float]:
    """When the newest event that came along each way was asked for."""
    newest: dict[_Way, float] = {}
    for receipt in history.receipts:
        event = known.by_key.get(receipt.key)
        if event is not None and event.dispatcher == receipt.dispatcher:
            way = _way(event, lives)
            newest[way] = max(event.asked, newest.get(way, event.asked))
    return newest


def _died_with_dispatcher(
    event: Accepted, history: History, newest: Mapping[_Way, float], lives: _Lives
) -> bool:
    """Whether the event, or the gap in its place, was in flight when its dispatcher was killed.

    The event was not if one that was published after it, along the same way, has arrived.
    """
    killed = lives.ended("dispatcher", event.dispatcher, event.asked)
    if killed is None:
        return False
    held_up = lives.was_held_up(event, history.frontend, killed)
    if lives.owed_a_gap(event, killed):
        return True
    if killed - event.accepted > (HELD_UP_SECONDS if held_up else IN_FLIGHT_SECONDS):
        return False
    return newest.get(_way(event, lives), event.accepted) <= event.accepted


def _uncounted(told: Sequence[Loss], lives: _Lives, drops: Drops) -> int:
    """How many of the losses that gaps tell by number exceed what was counted.

    A dispatcher counts a drop once for all streams of a frontend.
    """
    at_frontends = sum(drops.frontends.values())
    lost: dict[int, set[tuple[Key, int]]] = defaultdict(set)
    for event, history, *_ in told:
        place = event.dispatcher
        killed = lives.ended("dispatcher", place, event.asked)
        if killed is None and lives.ended("frontend", history.frontend, history.began) is None:
            lost[place].add((event.key, history.frontend))
    excess = Counter(
        {
            place: len(pairs) - drops.dispatchers.get(place, 0) - at_frontends
            for place, pairs in lost.items()
        }
    )
    return (+excess).total()
