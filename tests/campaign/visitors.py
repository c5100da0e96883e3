"""Who watches meanwhile: viewers that change topics and connect again, and what they are sent."""

import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import httpx

from tests.campaign.history import GapTold, History, Key, Receipt
from tests.campaign.matching import LATE_SECONDS
from tests.campaign.producers import TOPICS, Publisher, in_thread
from tests.integration.roles import DEADLINE_SECONDS
from tests.integration.streams import Stream, Viewers

_CHANGE_SECONDS = 8.0
_CONNECT_SECONDS = 8.0
_LOOK_SECONDS = 0.02
# A visitor does something after a pause of this range.
_STEP_SECONDS = (0.2, 2.0)
_LEAVES = 0.02
_REMOVES = 0.3
# Few enough that a topic often has no viewer at a frontend, or its last one leaves; and enough that
# most are watched for longer than an event may be late.
_MOST_TOPICS = 20
_STAYERS_TOPICS = 15
# Without an answer, nobody knows what a visitor watches. It stays and does nothing more, so that
# it is seen what comes of its other topics.
_LINGER_SECONDS = LATE_SECONDS + 2
_FOR_EVER_SECONDS = float("inf")


class Visit:
    """One stream of a visitor, and its history."""

    def __init__(self, stream: Stream, history: History) -> None:
        self.stream = stream
        self.history = history
        self.connection = ""

    def look(self) -> None:
        """Move what has arrived into the history."""
        frames = self.stream.frames
        count = len(frames)
        for frame in frames[:count]:
            data = frame.data
            if frame.event == "message":
                event = data["data"]
                key = Key(event["producer"], event["number"])
                self.history.receipts.append(
                    Receipt(key, data["topic"], event["dispatcher"], frame.at)
                )
            elif frame.event == "gap":
                self.history.gaps.append(GapTold(data["lost"], frozenset(data["topics"]), frame.at))
            elif frame.event == "connected":
                self.connection = data["connection"]
                confirmed = {*data["topics"]} - {*data.get("pending", ())}
                self.history.confirm(sorted(confirmed), frame.at)
        del frames[:count]


class Visitor:
    """A viewer: connects to some frontend, and again to another one when its stream ends.

    :param stays: it leaves by itself never, and keeps its topics. Others change topics all the
        time, through any frontend, and publish to a new topic as soon as they have their answer.
    :ivar visits: each stream that it had.
    """

    def __init__(
        self,
        name: str,
        viewers: Viewers,
        urls: Sequence[str],
        publisher: Publisher,
        *,
        dispatchers: int,
        stays: bool,
        seed: str,
    ) -> None:
        self.visits: list[Visit] = []
        self._name = name
        self._viewers = viewers
        self._urls = urls
        self._publisher = publisher
        self._dispatchers = dispatchers
        self._stays = stays
        self._random = random.Random(seed)
        self._client = httpx.Client(timeout=_CHANGE_SECONDS)
        self._stopping = threading.Event()
        self._done = in_thread(self._run)

    def stop(self) -> None:
        """Do nothing more; a stream that is open stays open."""
        self._stopping.set()

    def join(self) -> None:
        """Wait until nothing more is done.

        :raises Exception: what has ended it before its time.
        """
        self._done.result(DEADLINE_SECONDS)
        self._client.close()
        self._publisher.close()

    def look(self) -> None:
        """Take in what has arrived since; only when it does nothing more."""
        if self.visits:
            self._look(self.visits[-1])

    def _run(self) -> None:
        while not self._stopping.wait(0.2):
            with suppress(OSError):
                visit = self._connect(self._random.randrange(len(self._urls)))
                self._stay(visit)
                if not self._stopping.is_set():
                    self._leave(visit)

    def _connect(self, frontend: int) -> Visit:
        count = _STAYERS_TOPICS if self._stays else self._random.randrange(4)
        topics = self._random.sample(TOPICS, count)
        began = time.monotonic()
        stream = self._viewers.connect(self._urls[frontend], *topics, wait=False)
        visit = Visit(stream, History(self._name, frontend, began))
        self.visits.append(visit)
        return visit

    def _stay(self, visit: Visit) -> None:
        """Watch until the stream ends, or the visitor has enough of it."""
        if not self._watch(visit, _CONNECT_SECONDS, until_connected=True) or not visit.connection:
            return
        if self._stays:
            self._watch(visit, _FOR_EVER_SECONDS)
            return
        while self._watch(visit, self._random.uniform(*_STEP_SECONDS)):
            if self._random.random() < _LEAVES:
                return
            if not self._change(visit):
                self._watch(visit, _LINGER_SECONDS)
                return

    def _watch(self, visit: Visit, seconds: float, *, until_connected: bool = False) -> bool:
        """Take in what comes for some time; return whether the stream goes on, and the visitor."""
        deadline = time.monotonic() + seconds
        while self._look(visit) and not self._stopping.wait(_LOOK_SECONDS):
            if time.monotonic() > deadline or (until_connected and visit.connection):
                return True
        return False

    def _look(self, visit: Visit) -> bool:
        """Take in what has arrived; return whether the stream goes on."""
        ended = visit.stream.ended
        visit.look()
        if ended:
            visit.history.end(time.monotonic())
        return not ended

    def _leave(self, visit: Visit) -> None:
        visit.history.end(time.monotonic())
        with suppress(KeyError):
            # One that has ended is read no more.
            self._viewers.stall(visit.stream)
        visit.stream.socket.close()
        visit.stream.ended = True
        visit.look()

    def _change(self, visit: Visit) -> bool:
        """Watch other topics; return ``False`` where nobody knows whether that was done."""
        history = visit.history
        held = sorted({p.topic for p in history.promises if p.until is None})
        others = [topic for topic in TOPICS if topic not in held]
        add: list[str] = []
        remove: list[str] = []
        if len(held) < _MOST_TOPICS:
            add = self._random.sample(others, self._random.randint(1, 3))
        if held and (not add or self._random.random() < _REMOVES):
            remove = self._random.sample(held, 1)
        history.give_up(remove, time.monotonic())
        url = f"{self._random.choice(self._urls)}/connections/{visit.connection}/topics"
        try:
            answer = self._client.post(url, json={"add": add, "remove": remove})
        except httpx.TransportError:
            return False
        if answer.status_code not in (200, 202):
            return False
        told = answer.json()
        confirmed = {*told["topics"]} - {*told.get("pending", ())}
        history.confirm(sorted(confirmed), time.monotonic())
        for topic in add:
            self._publisher.publish(topic, self._random.randrange(self._dispatchers))
        return True
