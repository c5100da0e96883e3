"""Who publishes meanwhile, and writes down which dispatcher has accepted each event."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import httpx

from tests.campaign.history import Accepted, Key, Ledger
from tests.integration.roles import DEADLINE_SECONDS

TOPICS = [f"live:{number}" for number in range(80)]

_ANSWER_SECONDS = 1.5


def in_thread(work: Callable[[], None]) -> Future[None]:
    """Work in a thread; the result has the error that ends it."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except Exception as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, daemon=True).start()
    return done


class Publisher:
    """Publishes numbered events, and writes down which dispatcher has accepted each.

    An event without an answer is published again with the same id, at the next dispatcher, and so
    on for some rounds. So it may be received though nobody has accepted it.

    :param ledger: shared with others.
    """

    def __init__(self, name: str, urls: Sequence[str], ledger: Ledger) -> None:
        self._name = name
        self._urls = urls
        self._ledger = ledger
        self._number = 0
        self._client = httpx.Client(timeout=_ANSWER_SECONDS)

    def publish(self, topic: str, first: int) -> None:
        """Publish one event, at the dispatcher in place ``first`` if that accepts it."""
        self._number += 1
        key = Key(self._name, self._number)
        began = time.monotonic()
        for attempt in range(2 * len(self._urls)):
            dispatcher = (first + attempt) % len(self._urls)
            asked = time.monotonic()
            if self._ask(key, topic, dispatcher):
                now = time.monotonic()
                self._ledger.accepted.append(Accepted(key, topic, dispatcher, began, asked, now))
                return

    def close(self) -> None:
        self._client.close()

    def _ask(self, key: Key, topic: str, dispatcher: int) -> bool:
        event = {
            "topic": topic,
            "id": f"{key.producer}-{key.number}",
            "data": {"producer": key.producer, "number": key.number, "dispatcher": dispatcher},
        }
        try:
            answer = self._client.post(self._urls[dispatcher] + "/publish", json=event)
        except httpx.TransportError:
            return False
        if answer.status_code not in (202, 503):
            self._ledger.refusals.append(
                f"{key} was answered by {answer.status_code}: {answer.text}"
            )
        return answer.status_code == 202


class Producer:
    """Publishes to random topics at all dispatchers in turn, in a thread of its own."""

    def __init__(
        self, publisher: Publisher, *, dispatchers: int, pause_seconds: float, seed: str
    ) -> None:
        self._publisher = publisher
        self._dispatchers = dispatchers
        self._pause_seconds = pause_seconds
        self._random = random.Random(seed)
        self._stopping = threading.Event()
        self._done = in_thread(self._run)

    def stop(self) -> None:
        """Publish once more to each topic at each dispatcher, and end."""
        self._stopping.set()

    def join(self) -> None:
        """Wait until nothing more is published.

        :raises Exception: what has ended it before its time.
        """
        self._done.result(DEADLINE_SECONDS)

    def _run(self) -> None:
        while not self._stopping.wait(self._pause_seconds):
            dispatcher = self._random.randrange(self._dispatchers)
            self._publisher.publish(self._random.choice(TOPICS), dispatcher)
        for topic in TOPICS:
            for dispatcher in range(self._dispatchers):
                self._publisher.publish(topic, dispatcher)
        self._publisher.close()
