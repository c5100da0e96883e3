"""A simulated crowd, which shows what very many likes of a video look like."""

import math
import random

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rtdeliver.config.sections import LikesCrowd
from rtdeliver.errors import TooManyRequests, Unavailable
from rtdeliver.likes.model import REACTIONS, Video
from rtdeliver.likes.videos import Liked, Videos
from rtdeliver.metrics import Sample, counter

log = Logger()

# How often the likes that are due are sent.
_STEP_SECONDS = 0.02
# Most likes are hearts.
_MOODS = (*REACTIONS, "heart", "heart", "heart")


class Crowd:
    """Adds likes to videos through the backend, as browsers do.

    A video has one crowd at a time.
    """

    def __init__(self, *, videos: Videos, settings: LikesCrowd, clock: IReactorTime) -> None:
        self._videos = videos
        self.settings = settings
        self._clock = clock
        self._loops: dict[Video, LoopingCall] = {}
        self._in_flight = 0
        self._skipped = 0

    def come(self, video: Video) -> None:
        """Begin to add likes to a video.

        :raises TooManyRequests: if the video has a crowd already.
        """
        if video in self._loops:
            raise TooManyRequests(
                "this video has a crowd already",
                headers={"Retry-After": str(math.ceil(self.settings.seconds))},
            )
        begin = self._clock.seconds()
        sent = 0

        def step() -> None:
            nonlocal sent
            passed = min(self._clock.seconds() - begin, self.settings.seconds)
            due = int(passed * self.settings.likes_per_second)
            for _ in range(due - sent):
                self._like(video)
            sent = max(sent, due)
            if passed >= self.settings.seconds:
                self._loops.pop(video).stop()

        loop = self._loops[video] = LoopingCall(step)
        loop.clock = self._clock
        loop.start(_STEP_SECONDS).addErrback(self._fail, video)

    def leave(self) -> None:
        """End all crowds."""
        while self._loops:
            self._loops.popitem()[1].stop()

    def samples(self) -> list[Sample]:
        return [
            counter(
                "app_crowd_skipped",
                "Likes of crowds that were skipped because the backend could not keep up.",
                self._skipped,
            )
        ]

    def _like(self, video: Video) -> None:
        if self._in_flight >= self.settings.likes_per_second:
            self._skipped += 1
            return
        self._in_flight += 1
        liked = self._videos.count_like(video, None, random.choice(_MOODS))
        Deferred.fromCoroutine(liked).addBoth(self._liked)

    def _liked(self, outcome: Liked | Failure) -> None:
        self._in_flight -= 1
        if isinstance(outcome, Failure):
            self._skipped += 1
            if not outcome.check(Unavailable):
                log.failure("a like of a crowd failed", outcome)

    def _fail(self, failure: Failure, video: Video) -> None:
        self._loops.pop(video, None)
        log.failure("a crowd ended early", failure)
