"""How late the reactor is: how long what is due waits for what runs."""

from collections import deque

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from rtdeliver.metrics import Sample, gauge

_PERIOD_SECONDS = 0.25
# What is told is the most of the last 15 s, so that a scrape does not miss a short stall.
_PERIODS = 60


class ReactorLag:
    """Measures by how much a timer of the reactor is late."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._lags: deque[float] = deque(maxlen=_PERIODS)
        self._due_at = 0.0
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        self._wait()

    def stop(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def samples(self) -> list[Sample]:
        return [
            gauge(
                "reactor_lag_seconds",
                "By how much the reactor was late at most in the last 15 s.",
                max(self._lags, default=0),
            )
        ]

    def _wait(self) -> None:
        self._due_at = self._clock.seconds() + _PERIOD_SECONDS
        self._call = self._clock.callLater(_PERIOD_SECONDS, self._note)

    def _note(self) -> None:
        self._lags.append(max(0, self._clock.seconds() - self._due_at))
        self._wait()
