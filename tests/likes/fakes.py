"""What stands in for the platform and the database in tests of the live-video app."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from rtdeliver.errors import Unavailable
from rtdeliver.interfaces import IPlatform
from rtdeliver.likes.database_file import connect, upgrade
from rtdeliver.likes.limits import Allowance, RateLimit, VisitorLimit
from rtdeliver.messages import Presence
from rtdeliver.metrics import Sample
from rtdeliver.model import Member, Topic
from rtdeliver.wire import encode

T = TypeVar("T")

ANN, BOB, EVE = Member("ann"), Member("bob"), Member("eve")
HOME = "10.0.0.1"


class Published(NamedTuple):
    """An event as viewers get it: ``data`` is what they read from its JSON."""

    topic: str
    type: str
    data: Any


@implementer(IPlatform)
class RecordingPlatform:
    """Keeps what is published, and answers what the test says.

    :param look: called before each event is kept; ``looks`` has what it returned.
    """

    def __init__(self, look: Callable[[], object] = lambda: None) -> None:
        self.events: list[Published] = []
        self.looks: list[object] = []
        self.questions: list[object] = []
        self.watching: Counter[Topic] = Counter()
        self.there: set[Member] = set()
        self.failures: dict[Topic, Exception] = {}
        self.disconnected: list[tuple[Member, str]] = []
        self._look = look

    def publish(self, topic: Topic, type: str, data: object) -> Deferred[None]:
        self.looks.append(self._look())
        if topic in self.failures:
            return fail(self.failures[topic])
        self.events.append(Published(topic, type, json.loads(encode(data))))
        return succeed(None)

    def viewers(self, topic: Topic) -> Deferred[int]:
        self.questions.append(topic)
        if topic in self.failures:
            return fail(self.failures[topic])
        return succeed(self.watching[topic])

    def presence(self, members: Sequence[Member]) -> Deferred[Sequence[Presence]]:
        self.questions.append(list(members))
        return succeed([Presence(member=name, online=name in self.there) for name in members])

    def disconnect(self, member: Member, reason: str) -> Deferred[None]:
        self.disconnected.append((member, reason))
        return succeed(None)


@implementer(IPlatform)
class AwayPlatform:
    """Cannot be reached."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error or Unavailable("no dispatcher answers")

    def publish(self, topic: Topic, type: str, data: object) -> Deferred[None]:
        return fail(self._error)

    def viewers(self, topic: Topic) -> Deferred[int]:
        return fail(self._error)

    def presence(self, members: Sequence[Member]) -> Deferred[Sequence[Presence]]:
        return fail(self._error)

    def disconnect(self, member: Member, reason: str) -> Deferred[None]:
        return fail(self._error)


@implementer(IPlatform)
class HangingPlatform:
    """Answers each call when and how the test says."""

    def __init__(self) -> None:
        self.answers: list[Deferred[Any]] = []

    def publish(self, topic: Topic, type: str, data: object) -> Deferred[None]:
        return self._answer()

    def viewers(self, topic: Topic) -> Deferred[int]:
        return self._answer()

    def presence(self, members: Sequence[Member]) -> Deferred[Sequence[Presence]]:
        return self._answer()

    def disconnect(self, member: Member, reason: str) -> Deferred[None]:
        return self._answer()

    def _answer(self) -> Deferred[Any]:
        self.answers.append(Deferred())
        return self.answers[-1]


class PromptDatabase:
    """Runs each transaction at once on a SQLite database of its own, in memory."""

    def __init__(self) -> None:
        self.connection = connect(":memory:", busy_seconds=0)
        upgrade(self.connection)

    def run(self, transaction: Callable[[Any], T]) -> Deferred[T]:
        return execute(self._run, transaction)

    def close(self) -> None:
        self.connection.close()

    def _run(self, transaction: Callable[[Any], T]) -> T:
        with self.connection:
            return transaction(self.connection.cursor())


class HangingDatabase:
    """Answers each call when and how the test says."""

    def __init__(self) -> None:
        self.answers: list[Deferred[Any]] = []

    def run(self, transaction: Callable[[Any], T]) -> Deferred[T]:
        self.answers.append(Deferred())
        return self.answers[-1]


class AwayDatabase:
    """Cannot be used."""

    def run(self, transaction: Callable[[Any], T]) -> Deferred[T]:
        return fail(Unavailable("the database is away"))


def visitor_limit(clock: IReactorTime, *, burst: float = 2, at_address: float = 4) -> VisitorLimit:
    """Return a limit of ``burst`` for each visitor, and of ``at_address`` for all at one address.

    One a second comes back.
    """
    visitors, addresses = (
        RateLimit(what=what, allowance=Allowance(1, most), visitors=10, clock=clock)
        for what, most in (("things", burst), ("things from your address", at_address))
    )
    return VisitorLimit(visitors=visitors, addresses=addresses)


def values(samples: Sequence[Sample]) -> Mapping[str, float]:
    """Return samples by name, and by the value of their only label if there is one."""
    return {".".join([sample.name, *sample.labels.values()]): sample.value for sample in samples}
