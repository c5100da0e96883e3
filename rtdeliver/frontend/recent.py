"""Which events were delivered to this frontend a short while ago."""

from twisted.internet.interfaces import IReactorTime

from rtdeliver.config.sections import Viewers
from rtdeliver.model import Event, Topic


class RecentEvents:
    """Remembers events by topic and id: at least the last ``recent_events``, for
    ``recent_seconds``.

    It keeps two generations and drops the older one as a whole. So it holds at most twice as many
    events, and no search is needed to forget them.
    """

    def __init__(self, *, settings: Viewers, clock: IReactorTime) -> None:
        self._clock = clock
        self._settings = settings
        self._young: set[tuple[Topic, str]] = set()
        self._old: set[tuple[Topic, str]] = set()
        self._rotated_at = clock.seconds()

    def seen(self, event: Event) -> bool:
        """Return whether ``event`` was seen before, and remember it."""
        self._rotate_if_due()
        key = (event.topic, event.id)
        if key in self._young or key in self._old:
            return True
        self._young.add(key)
        return False

    def _rotate_if_due(self) -> None:
        now = self._clock.seconds()
        if (
            len(self._young) >= self._settings.recent_events
            or now - self._rotated_at >= self._settings.recent_seconds
        ):
            self._old, self._young = self._young, set()
            self._rotated_at = now
