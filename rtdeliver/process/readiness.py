"""When the log says that a role is ready, and when that it is not."""

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

log = Logger()

_LOOK_SECONDS = 0.1
# A role that has just started needs some time, and nobody has to know.
_PATIENCE_LOOKS = 10


class Readiness:
    """Looks regularly whether a role is ready, and logs each change.

    :param missing: returns why the role is not ready; empty when it is.
    """

    def __init__(self, role: str, missing: Callable[[], list[str]], clock: IReactorTime) -> None:
        self._role = role
        self._missing = missing
        self._was_ready: bool | None = None
        self._looks = 0
        self._where = ""
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def start(self, where: str) -> None:
        """Begin to look.

        :param where: the places where the role listens.
        """
        self._where = where
        self._looking.start(_LOOK_SECONDS)

    def stop(self) -> None:
        if self._looking.running:
            self._looking.stop()

    def _look(self) -> None:
        missing = self._missing()
        self._looks += 1
        if not missing and self._was_ready is not True:
            self._was_ready = True
            log.info("{role} is ready: {where}", role=self._role, where=self._where)
        elif missing and (self._was_ready or self._has_waited()):
            self._was_ready = False
            log.warn("{role} is not ready: {why}", role=self._role, why="; ".join(missing))

    def _has_waited(self) -> bool:
        return self._was_ready is None and self._looks >= _PATIENCE_LOOKS
