"""Which losses of a stream its gap frames tell of."""

import enum
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.campaign.history import Accepted, GapTold, History

LATE_SECONDS = 20.0
"""How late an event or its gap may come: a fault, a lease, two requests, and Redis' grace."""


class Excuse(enum.Enum):
    """Why there may be neither an event nor a gap in its place."""

    KILLED = "it may have been in flight in a dispatcher that was killed"
    ENDED = "the subscription ended before it was late"


class Loss(NamedTuple):
    """A due event that was not received.

    :ivar told_by: when a gap tells it at the latest.
    :ivar excuse: why it may be that none does.
    """

    event: Accepted
    history: History
    since: float
    told_by: float
    excuse: Excuse | None = None


def match(
    losses: Sequence[Loss], gaps: Sequence[GapTold]
) -> tuple[list[Loss], list[Loss], list[Loss]]:
    """Find the losses of one stream that gaps tell: as many as one can, each gap its number.

    A gap tells of events whose publish began before it arrived, and that it was to tell by then.
    Losses without an excuse come first: for those with one, there may be no gap.

    :returns: the losses told by number, those told without a number, and those not told.
    """
    without_number: list[Loss] = []
    others: list[Loss] = []
    for loss in losses:
        unknown = any(gap.lost is None and _tells(gap, loss) for gap in gaps)
        (without_number if unknown else others).append(loss)
    numbered = [gap for gap in gaps if gap.lost]
    taken: list[list[Loss]] = [[] for _ in numbered]
    # A gap mostly tells of what was lost just before: the older ones are left if it is too small.
    others.sort(key=lambda loss: (loss.excuse is not None, -loss.event.began))
    untold = [loss for loss in others if not _place(loss, numbered, taken, set())]
    return [loss for losses in taken for loss in losses], without_number, untold[::-1]


def _place(loss: Loss, gaps: Sequence[GapTold], taken: list[list[Loss]], tried: set[int]) -> bool:
    """Assign a loss to a gap; another loss may have to move to another gap for it."""
    for number, gap in enumerate(gaps):
        if number in tried or not _tells(gap, loss):
            continue
        tried.add(number)
        if len(taken[number]) < (gap.lost or 0):
            taken[number].append(loss)
            return True
        for other in _first_and_last_of_each_topic(taken[number]):
            if _place(other, gaps, taken, tried):
                taken[number].remove(other)
                taken[number].append(loss)
                return True
    return False


def _first_and_last_of_each_topic(losses: Sequence[Loss]) -> Iterator[Loss]:
    """The losses that can move best: of a topic, the first to earlier gaps, the last to later."""
    by_topic: dict[str, list[Loss]] = {}
    for loss in losses:
        by_topic.setdefault(loss.event.topic, []).append(loss)
    for some in by_topic.values():
        yield min(some, key=_began)
        yield max(some, key=_began)


def _began(loss: Loss) -> float:
    return loss.event.began


def _tells(gap: GapTold, loss: Loss) -> bool:
    event = loss.event
    return event.topic in gap.topics and event.began < gap.at < loss.told_by
