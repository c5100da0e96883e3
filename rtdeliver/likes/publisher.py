"""Publishes what the app has stored, and counts how that went."""

import enum
from collections import Counter

from rtdeliver.errors import RemoteFailure, Unavailable
from rtdeliver.interfaces import IPlatform
from rtdeliver.metrics import Sample, counter
from rtdeliver.model import Topic


class PublishOutcome(enum.Enum):
    """Whether a dispatcher accepted an event; the value is the name on the wire."""

    ACCEPTED = "accepted"
    FAILED = "failed"


class Publisher:
    """Publishes events. A failure is an outcome, not an exception, since the data is stored.

    :param waiting: how many events may wait for a dispatcher; further ones fail at once.
    """

    def __init__(self, *, platform: IPlatform, waiting: int) -> None:
        self._platform = platform
        self._limit = waiting
        self._waiting = 0
        self._outcomes = Counter(dict.fromkeys(PublishOutcome, 0))

    @property
    def waiting(self) -> int:
        """How many events wait for a dispatcher."""
        return self._waiting

    async def publish(self, topic: Topic, type: str, data: object) -> PublishOutcome:
        """Publish an event, and return whether a dispatcher accepted it."""
        outcome = await self._publish(topic, type, data)
        self._outcomes[outcome] += 1
        return outcome

    def samples(self) -> list[Sample]:
        return [
            counter(
                "app_published",
                "Events that the app published, or failed to publish.",
                events,
                delivery=outcome.value,
            )
            for outcome, events in self._outcomes.items()
        ]

    async def _publish(self, topic: Topic, type: str, data: object) -> PublishOutcome:
        if self._waiting >= self._limit:
            return PublishOutcome.FAILED
        self._waiting += 1
        try:
            await self._platform.publish(topic, type, data)
        except (RemoteFailure, Unavailable):
            # The platform has logged why.
            return PublishOutcome.FAILED
        finally:
            self._waiting -= 1
        return PublishOutcome.ACCEPTED
