"""How what was stored is told to those who watch."""

import enum
from collections import Counter

from rtdeliver.errors import RemoteFailure, Unavailable
from rtdeliver.interfaces import IPlatform
from rtdeliver.metrics import Sample, counter
from rtdeliver.model import Topic


class PublishOutcome(enum.Enum):
    """What became of an event; the value is its name on the wire."""

    ACCEPTED = "accepted"
    FAILED = "failed"


class Publisher:
    """Publishes; whoever stored what is told need not care whether that succeeds.

    :param waiting: how many events may wait for a dispatcher; further ones fail at once.
    """

    def __init__(self, *, platform: IPlatform, waiting: int) -> None:
        self._platform = platform
        self._limit = waiting
        self._waiting = 0
        self._told = Counter(dict.fromkeys(PublishOutcome, 0))

    @property
    def waiting(self) -> int:
        """How many events wait for a dispatcher."""
        return self._waiting

    async def publish(self, topic: Topic, type: str, data: object) -> PublishOutcome:
        """Publish an event, and return what became of it."""
        delivery = await self._publish(topic, type, data)
        self._told[delivery] += 1
        return delivery

    def samples(self) -> list[Sample]:
        return [
            counter(
                "app_published",
                "Events that the app published, or failed to.",
                events,
                delivery=delivery.value,
            )
            for delivery, events in self._told.items()
        ]

    async def _publish(self, topic: Topic, type: str, data: object) -> PublishOutcome:
        if self._waiting >= self._limit:
            return PublishOutcome.FAILED
        self._waiting += 1
        try:
            await self._platform.publish(topic, type, data)
        except (RemoteFailure, Unavailable):
            # The platform has told the log.
            return PublishOutcome.FAILED
        finally:
            self._waiting -= 1
        return PublishOutcome.ACCEPTED
