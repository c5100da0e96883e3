"""From where a viewer goes on that was away."""

import re
from collections.abc import Sequence

import msgspec

from rtdeliver.errors import BadRequest
from rtdeliver.event_ids import time_of
from rtdeliver.messages import HistoryQuery
from rtdeliver.model import Place, Topic, check_position, read_position

_MOST_REWIND = 1000
_REWIND = re.compile("[0-9]{1,6}")


class Resume(msgspec.Struct, frozen=True):
    """What a viewer has had before.

    :param comes_back: whether it had a stream. It is told for which topics it may have lost events.
    :param places: those of events that it had, one for each topic.
    :param at: when an event was accepted that it had, if nothing better is known; in milliseconds
        since the epoch.
    :param rewind: how many events of each topic it wants that has no history with it otherwise.
    """

    comes_back: bool = False
    places: tuple[Place, ...] = ()
    at: int | None = None
    rewind: int = 0

    @property
    def wants_history(self) -> bool:
        """Whether there may be something to send it first."""
        return bool(self.places or self.at is not None or self.rewind)

    def query(self, topic: Topic) -> HistoryQuery | None:
        """Return what has to be read of ``topic``; ``None`` if nobody can tell."""
        for place in self.places:
            if place.is_of(topic):
                return HistoryQuery(topic=topic, since=place, limit=0)
        if self.places:
            # Whatever came before the last of them did so before the viewer left.
            return HistoryQuery(topic=topic, at=max(place.at for place in self.places), limit=0)
        if self.at is not None:
            return HistoryQuery(topic=topic, at=self.at, limit=0)
        if self.rewind and not self.comes_back:
            return HistoryQuery(topic=topic, rewind=self.rewind, limit=0)
        return None


FRESH = Resume()
"""A viewer that comes for the first time."""


def resume_of(*, last_event_id: str, since: Sequence[str], rewind: str, topics: int) -> Resume:
    """Return what a request tells of what a viewer has had.

    :param last_event_id: of the header, in which browsers tell it; it wins.
    :param since: of the query, for a page that tells it itself.
    :param rewind: of the query.
    :param topics: how many topics it is to watch.
    :raises BadRequest: if ``since`` or ``rewind`` is wrong.
    """
    if rewind and (not _REWIND.fullmatch(rewind) or int(rewind) > _MOST_REWIND):
        raise BadRequest(f"rewind must be a number from 0 to {_MOST_REWIND}, not {rewind[:40]}")
    places = tuple(check_position(text) for text in since)
    if last_event_id:
        place = read_position(last_event_id)
        if place is not None:
            return Resume(comes_back=True, places=(place,))
        at = time_of(last_event_id)
        if at is not None or not places:
            return Resume(comes_back=True, at=at)
    if places:
        return Resume(comes_back=True, places=places)
    most = _MOST_REWIND // max(1, topics)
    return Resume(rewind=min(int(rewind or 0), most)) if rewind else FRESH
