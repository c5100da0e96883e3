"""Very many pages for tests: each reconnects as it is told, and subscribes again."""

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import httpx

from tests.integration.roles import DEADLINE_SECONDS
from tests.integration.streams import Stream, Viewers


class Page:
    """What a browser's page with an EventSource does, moved on by `Pages`.

    :ivar streams: that it had, the current one last.
    :ivar subscribed: whether it has its topic on the current stream.
    :ivar is_away: whether it waits until it connects again.
    """

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.subscribed = False
        self.is_away = True
        self.reconnect_at = 0.0
        self.answer: Future[httpx.Response] | None = None

    @property
    def retry_seconds(self) -> float:
        """How long it was told to wait, by the last frame that said so."""
        for frame in reversed(self.streams[-1].frames):
            if "retry" in frame.fields:
                return int(frame.fields["retry"]) / 1000
        return 0.5


class Pages:
    """Runs many pages in a thread of its own, over any of several frontends; a context manager.

    :param urls: of the frontends; a page takes a random one, and another when it is refused.
    :param at_once: topics that pages ask for when they connect. They add ``topic`` afterwards, if
        it is not among these.
    :ivar reconnected_at: when a stream was opened again, on the monotonic clock.
    """

    def __init__(
        self,
        viewers: Viewers,
        urls: Sequence[str],
        topic: str,
        count: int,
        at_once: Sequence[str] = (),
    ) -> None:
        self.pages = [Page() for _ in range(count)]
        self.reconnected_at: list[float] = []
        self._viewers = viewers
        self._urls = list(urls)
        self._topic = topic
        self._at_once = at_once
        self._pool = ThreadPoolExecutor(4)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Pages":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._thread.join(DEADLINE_SECONDS)
        self._pool.shutdown(cancel_futures=True)

    @property
    def all_subscribed(self) -> bool:
        """Whether every page has an open stream, and its topic on it."""
        return all(page.subscribed and not page.streams[-1].ended for page in self.pages)

    def reconnects_by_second(self) -> list[int]:
        """How many streams were opened again in each second from the first one on."""
        if not self.reconnected_at:
            return []
        first = min(self.reconnected_at)
        seconds = [int(at - first) for at in self.reconnected_at]
        return [seconds.count(second) for second in range(max(seconds) + 1)]

    def _run(self) -> None:
        while not self._stopping:
            for page in self.pages:
                self._move_on(page)
            time.sleep(0.02)

    def _move_on(self, page: Page) -> None:
        now = time.monotonic()
        if page.streams and not page.streams[-1].ended:
            self._subscribe(page)
        elif not page.is_away:
            page.subscribed, page.answer = False, None
            page.is_away = True
            page.reconnect_at = now + page.retry_seconds
        elif now >= page.reconnect_at:
            self._connect(page)

    def _connect(self, page: Page) -> None:
        with suppress(OSError):
            url = random.choice(self._urls)
            page.streams.append(self._viewers.connect(url, *self._at_once, wait=False))
            page.is_away = False
            if len(page.streams) > 1:
                self.reconnected_at.append(time.monotonic())
            return
        page.reconnect_at = time.monotonic() + 0.2

    def _subscribe(self, page: Page) -> None:
        stream = page.streams[-1]
        if page.answer is None and stream.frames and stream.frames[0].event == "connected":
            if self._topic in self._at_once:
                page.subscribed = True
                return
            page.answer = self._pool.submit(stream.subscribe, add=[self._topic])
        if page.answer is not None and page.answer.done() and not page.subscribed:
            answer = page.answer.result()
            page.subscribed = answer.status_code == 200
            if not page.subscribed:
                page.answer = None
