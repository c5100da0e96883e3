"""What is written down during a campaign: who accepted what, and what each stream was sent."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

# All times are seconds of time.monotonic().


class Key(NamedTuple):
    """Names an event: its producer, and its number among those of the producer."""

    producer: str
    number: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event that a dispatcher has answered by 202.

    :ivar dispatcher: the place of that dispatcher.
    :ivar began: when the producer began to publish it for the first time.
    :ivar asked: when it asked the dispatcher that accepted it; later, if others gave no answer.
    :ivar accepted: when the answer arrived.
    """

    key: Key
    topic: str
    dispatcher: int
    began: float
    asked: float
    accepted: float


@dataclass(frozen=True, slots=True)
class Ledger:
    """What all producers write down; a list may be appended to by any thread.

    :ivar refusals: answers that were neither 202 nor 503.
    """

    accepted: list[Accepted] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


class Receipt(NamedTuple):
    """An event as a stream received it.

    :ivar dispatcher: the dispatcher through which it came.
    """

    key: Key
    topic: str
    dispatcher: int
    at: float


class GapTold(NamedTuple):
    """A ``gap`` frame."""

    lost: int | None
    topics: frozenset[str]
    at: float


@dataclass(slots=True)
class Promise:
    """From ``since`` on, a stream is sent all that is published to ``topic``.

    :ivar since: when the answer arrived that confirmed the subscription.
    :ivar until: when the viewer gave it up, or the stream ended; ``None`` while it holds.
    """

    topic: str
    since: float
    until: float | None = None


@dataclass(slots=True)
class History:
    """One stream: what it was promised and what it was sent, in the order in which it came.

    :ivar frontend: the place of the frontend that it is connected to.
    """

    viewer: str
    frontend: int
    began: float
    promises: list[Promise] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    gaps: list[GapTold] = field(default_factory=list)

    def confirm(self, topics: Iterable[str], now: float) -> None:
        """All of ``topics`` are confirmed. Those that were so before stay as they are."""
        held = {promise.topic for promise in self.promises if promise.until is None}
        self.promises += [Promise(topic, now) for topic in topics if topic not in held]

    def give_up(self, topics: Iterable[str], now: float) -> None:
        """The viewer is about to unsubscribe from ``topics``."""
        wanted = set(topics)
        for promise in self.promises:
            if promise.until is None and promise.topic in wanted:
                promise.until = now

    def end(self, now: float) -> None:
        """The stream has ended."""
        self.give_up([promise.topic for promise in self.promises], now)


class Kill(NamedTuple):
    """A process was killed, and another one started in its place.

    :ivar role: ``dispatcher`` or ``frontend``.
    :ivar back: when the next one was started.
    """

    role: str
    place: int
    at: float
    back: float


class Disturbance(NamedTuple):
    """For a while, a process or a link did not do what it should.

    :ivar place: its name: ``d0`` a dispatcher, ``n0`` a frontend, ``deliveries-n0`` the way there.
    """

    place: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Drops:
    """What the processes that run at the end have counted as dropped, by their places."""

    dispatchers: dict[int, int] = field(default_factory=dict)
    frontends: dict[int, int] = field(default_factory=dict)
