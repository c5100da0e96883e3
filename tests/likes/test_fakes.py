"""The fakes of the platform keep its contract."""

from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import Unavailable
from rtdeliver.model import Member, Topic
from tests.contracts.platform import AwayPlatformContract, PlatformContract
from tests.likes.fakes import AwayPlatform, HangingPlatform, RecordingPlatform


class RecordingPlatformTests(PlatformContract, SynchronousTestCase):
    implementation = RecordingPlatform
    platform: RecordingPlatform

    def setUp(self) -> None:
        self.platform = RecordingPlatform()

    def watch(self, topic: Topic, viewers: int) -> None:
        self.platform.watching[topic] += viewers

    def come(self, members: Sequence[Member]) -> None:
        self.platform.there.update(members)

    def delivered(self) -> list[dict[str, Any]]:
        return [event._asdict() for event in self.platform.events]


class AwayPlatformTests(AwayPlatformContract, SynchronousTestCase):
    implementation = AwayPlatform

    def setUp(self) -> None:
        self.platform = AwayPlatform()


class HangingPlatformTests(AwayPlatformContract, SynchronousTestCase):
    """Where the test answers with errors."""

    implementation = HangingPlatform
    platform: HangingPlatform

    def setUp(self) -> None:
        self.platform = HangingPlatform()

    def let_be_answered(self) -> None:
        for answer in self.platform.answers:
            self.assertNoResult(answer)
            answer.errback(Unavailable("no dispatcher answers"))
