"""How many watch each video, as the dispatchers say."""

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
    """Asks again and again, and publishes what has changed.

    So a page that loads waits for no dispatcher.
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
        """Begin to ask."""
        self._loop.start(self._every_seconds)

    def stop(self) -> None:
        """Ask no more."""
        if self._loop.running:
            self._loop.stop()

    def of(self, video: Video) -> int | None:
        """Return how many watch ``video``; ``None`` while no dispatcher says so."""
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
            # Who asks is told that nobody knows; the platform has told the log.
            self._counts[video] = None
        except Exception:
            # Another look may fare better.
            log.failure("the viewers of {video} are not known", video=video.name)
