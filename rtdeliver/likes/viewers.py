"""How many viewers each video has, according to the dispatchers."""

from collections.abc import Iterable

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rtdeliver.errors import RemoteFailure, Unavailable
from rtdeliver.interfaces import IPlatform
from rtdeliver.likes.model import Video

log = Logger()


class ViewerCounts:
    """Asks the dispatchers regularly, and publishes each number that has changed.

    It keeps the last numbers, so that a page that loads does not wait for a dispatcher.
    """

    def __init__(
        self,
        *,
        videos: Iterable[Video],
        platform: IPlatform,
        every_seconds: float,
        clock: IReactorTime,
    ) -> None:
        self._counts: dict[Video, int | None] = dict.fromkeys(videos)
        self._platform = platform
        self._every_seconds = every_seconds
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def start(self) -> None:
        """Begin to ask the dispatchers."""
        self._loop.start(self._every_seconds)

    def stop(self) -> None:
        """Stop asking."""
        if self._loop.running:
            self._loop.stop()

    def of(self, video: Video) -> int | None:
        """Return how many viewers ``video`` has; ``None`` while no dispatcher answers."""
        return self._counts[video]

    async def _look(self) -> None:
        await DeferredList([Deferred.fromCoroutine(self._look_at(video)) for video in self._counts])

    async def _look_at(self, video: Video) -> None:
        try:
            viewers = await self._platform.viewers(video.live)
            before, self._counts[video] = self._counts[video], viewers
            if viewers != before and self._loop.running:
                await self._platform.publish(video.live, "viewers", {"viewers": viewers})
        except (RemoteFailure, Unavailable):
            # The number is unknown until the next answer. The platform has logged why.
            self._counts[video] = None
        except Exception:
            # The next attempt may succeed.
            log.failure("cannot find out how many viewers {video} has", video=video.name)
