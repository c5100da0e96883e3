"""Which faults happen when: a plan that is drawn from a seed before anything starts."""

import random
from collections.abc import Sequence
from typing import NamedTuple

FIRST_SECONDS = 4.0
"""When the first fault begins; by then all viewers are subscribed."""

_PAUSE_SECONDS = (0.5, 4.0)
# In this many cases, the next fault does not wait for the end of the one before.
_TOGETHER = 0.3


class Fault(NamedTuple):
    """One fault.

    :ivar at: when it begins, in seconds since the campaign began.
    :ivar action: what happens, one of the names in `KINDS`.
    :ivar place: what it happens to: the name of a process or of a link.
    :ivar seconds: how long it lasts.
    """

    at: float
    action: str
    place: str
    seconds: float

    @property
    def until(self) -> float:
        return self.at + self.seconds

    def __str__(self) -> str:
        return f"{self.at:7.1f} s  {self.action} {self.place}, for {self.seconds:.1f} s"


class Kind(NamedTuple):
    """A kind of fault: how often it is drawn, and how long it lasts."""

    action: str
    weight: int
    seconds: tuple[float, float]
    places: str


KINDS = [
    Kind("kill", 3, (0.2, 3), "dispatchers"),
    Kind("kill", 3, (0.2, 3), "frontends"),
    Kind("pause", 3, (0.2, 6), "dispatchers"),
    Kind("pause", 3, (0.2, 6), "frontends"),
    Kind("pause", 1, (0.2, 4), "redis"),
    Kind("restart", 2, (0.1, 4), "redis"),
    Kind("restart-empty", 2, (0.1, 4), "redis"),
    Kind("kill-channels", 3, (0, 0), "redis"),
    *(
        Kind(action, 2, (0.2, 6), places)
        for action in ("cut", "stall", "slow")
        for places in ("redis-links", "announcements", "deliveries")
    ),
]
"""What can happen. A restart keeps the data; *restart-empty* does not."""


def places(dispatchers: int, frontends: int) -> dict[str, list[str]]:
    """The names of what faults happen to."""
    all_dispatchers = [f"d{number}" for number in range(dispatchers)]
    all_frontends = [f"n{number}" for number in range(frontends)]
    return {
        "dispatchers": all_dispatchers,
        "frontends": all_frontends,
        "redis": ["redis"],
        "redis-links": [f"{name}-redis" for name in all_dispatchers],
        "announcements": [f"{n}-{d}" for n in all_frontends for d in all_dispatchers],
        "deliveries": [f"deliveries-{name}" for name in all_frontends],
    }


def plan(
    seed: int, seconds: float, *, dispatchers: int, frontends: int, actions: Sequence[str] = ()
) -> list[Fault]:
    """Draw the faults of a campaign in the order in which they begin.

    :param seconds: when the last fault ends at the latest.
    :param actions: what may happen; everything, if none is given.
    """
    draw = random.Random(seed)
    named = places(dispatchers, frontends)
    kinds = [kind for kind in KINDS if not actions or kind.action in actions]
    weights = [kind.weight for kind in kinds]
    faults: list[Fault] = []
    at = FIRST_SECONDS
    while True:
        [kind] = draw.choices(kinds, weights)
        fault = Fault(
            round(at, 2), kind.action, draw.choice(named[kind.places]),
            round(draw.uniform(*kind.seconds), 2),
        )  # fmt: skip
        together = draw.random() < _TOGETHER
        pause = draw.uniform(*_PAUSE_SECONDS)
        if fault.until > seconds:
            return faults
        # One thing at a time happens to a place.
        if all(f.place != fault.place or f.until < fault.at for f in faults):
            faults.append(fault)
        at += pause if together else fault.seconds + pause
