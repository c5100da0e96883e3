"""Which events were delivered to this frontend a short while ago."""

from hashlib import blake2b

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rtdeliver.config.sections import Viewers
from rtdeliver.metrics import Sample, counter, gauge
from rtdeliver.model import Event

log = Logger()

# Of a million events, the chance that two have the same digest is less than one in 10^16.
_DIGEST_BYTES = 12


class RecentEvents:
    """Remembers events by topic and id for ``recent_seconds``, and forgets them after twice that.

    It keeps two generations and drops the older one as a whole, so no search is needed to forget.
    A generation ends after ``recent_seconds``, or earlier if it has half of ``recent_events``. Only
    then something may be forgotten early, which is counted, and logged the first time.

    An event takes about 100 bytes, however long its topic and id are, since a digest stands for
    them.
    """

    def __init__(self, *, settings: Viewers, clock: IReactorTime) -> None:
        self._clock = clock
        self._settings = settings
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()
        # When the younger generation began.
        self._began_at = clock.seconds()
        self.forgotten = 0
        """How many events were forgotten early."""

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def seen(self, event: Event) -> bool:
        """Return whether ``event`` was seen before, and remember it."""
        self._turn_if_due()
        # A topic has no line breaks.
        text = f"{event.topic}\n{event.id}"
        key = blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()
        if key in self._young or key in self._old:
            return True
        self._young.add(key)
        return False

    def samples(self) -> list[Sample]:
        return [
            gauge("recent_events", "Events whose repeats are recognized.", len(self)),
            counter(
                "recent_forgotten",
                "Events forgotten early, so that repeats of them would be sent again.",
                self.forgotten,
            ),
        ]

    def _turn_if_due(self) -> None:
        seconds = self._settings.recent_seconds
        now = self._clock.seconds()
        if now >= self._began_at + 2 * seconds:
            self._turn(now)
            self._old = set()
        elif now >= self._began_at + seconds:
            self._turn(self._began_at + seconds)
        elif len(self._young) >= self._settings.recent_events // 2:
            self._note_forgotten(len(self._old))
            self._turn(now)

    def _turn(self, began_at: float) -> None:
        self._old, self._young = self._young, set()
        self._began_at = began_at

    def _note_forgotten(self, events: int) -> None:
        if events and not self.forgotten:
            log.warn(
                "more than {most} events came in {seconds} s: repeats of earlier ones would be sent"
                " again. Raise viewers.recent_events",
                most=self._settings.recent_events // 2,
                seconds=self._settings.recent_seconds,
            )
        self.forgotten += events
