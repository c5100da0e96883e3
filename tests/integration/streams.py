"""Viewers for tests: many streams in one thread, read with a parser of their own."""

import itertools
import json
import re
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx

from rtdeliver.bench.http import wait_until
from tests.chunked import ChunkDecoder
from tests.integration.roles import DEADLINE_SECONDS, HTTP


class Frame:
    """One frame of a stream: its fields, and when it arrived."""

    def __init__(self, fields: dict[str, str], at: float) -> None:
        self.fields = fields
        self.at = at

    @property
    def event(self) -> str:
        return self.fields.get("event", "message")

    @property
    def id(self) -> str | None:
        return self.fields.get("id")

    @property
    def data(self) -> Any:
        return json.loads(self.fields["data"])

    def __repr__(self) -> str:
        return f"Frame({self.fields})"


class FrameParser:
    """Reads an event stream as WHATWG HTML 9.2.6 says, from scratch, line by line."""

    def __init__(self) -> None:
        self._rest = b""
        self._fields: dict[str, str] = {}
        self.comments = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that ``data`` completes."""
        now = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        frames = []
        for line in lines:
            if b"\r" in line:
                raise ValueError(f"a carriage return in a line: {line!r}")
            if not line:
                if self._fields:
                    frames.append(Frame(self._fields, now))
                self._fields = {}
                continue
            name, _, value = line.decode().partition(":")
            if not name:
                self.comments += 1
                continue
            value = value.removeprefix(" ")
            if name in self._fields:
                value = f"{self._fields[name]}\n{value}"
            self._fields[name] = value
        return frames


class Stream:
    """One viewer. Its frames are complete in the order in which they came.

    :param receive_buffer_bytes: SO_RCVBUF, for a reader that is to be slow; 0 leaves it alone.
    :param tls: how to connect where the URL begins with ``https``.
    :param query: what the URL carries beside the topics.
    """

    def __init__(
        self,
        url: str,
        topics: Sequence[str],
        headers: dict[str, str],
        receive_buffer_bytes: int = 0,
        tls: ssl.SSLContext | None = None,
        query: Mapping[str, str] | None = None,
    ) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        query_string = urlencode(
            [*(("topic", topic) for topic in topics), *(query or {}).items()], quote_via=quote
        )
        self.socket = socket.socket()
        if receive_buffer_bytes:
            # Before it connects: the window that is offered then is not taken back.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(DEADLINE_SECONDS)
        self.socket.connect((parts.hostname, parts.port or 80))
        if parts.scheme == "https":
            assert tls is not None
            self.socket = tls.wrap_socket(
                self.socket, server_hostname=parts.hostname, suppress_ragged_eofs=False
            )
        lines = [f"GET /connect?{query_string} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self.socket.setblocking(False)
        self.url = url
        self.head = b""
        self.frames: list[Frame] = []
        self.ended = False
        self.ended_cleanly = False
        self.bytes_read = 0
        self._tls = tls
        self._chunks: ChunkDecoder | None = None
        self._missing_bytes: int | None = None
        self._parser = FrameParser()

    @property
    def comments(self) -> int:
        """How many comment lines, heartbeats, came."""
        return self._parser.comments

    @property
    def connection(self) -> str:
        """The connection id of the first frame."""
        assert self.frames, f"no frame yet; head: {self.head!r}"
        assert self.frames[0].event == "connected", self.frames[0]
        connection: str = self.frames[0].data["connection"]
        return connection

    @property
    def events(self) -> list[dict[str, Any]]:
        """The published events received so far."""
        return [frame.data for frame in self.frames if frame.event == "message"]

    def control(self, name: str) -> list[Frame]:
        """The control frames of this name received so far."""
        return [frame for frame in self.frames if frame.event == name]

    def subscribe(self, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> httpx.Response:
        """Change what is watched on this stream."""
        url = f"{self.url}/connections/{self.connection}/topics"
        change = {"add": list(add), "remove": list(remove)}
        if self._tls is None:
            return HTTP.post(url, json=change)
        return httpx.post(url, json=change, verify=self._tls, timeout=DEADLINE_SECONDS)

    def on_readable(self, at_most: int = 262144) -> bool:
        """Read what is there; ``False`` at the end of the stream."""
        try:
            data = self.socket.recv(at_most)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            self.ended = True
            return False
        if not data:
            # A chunked one ends with its last chunk, before the connection does.
            self.ended_cleanly = self._chunks is None
            self.ended = True
            return False
        self.bytes_read += len(data)
        if b"\r\n\r\n" not in self.head:
            self.head, separator, data = (self.head + data).partition(b"\r\n\r\n")
            self.head += separator
            head = self.head.lower()
            if separator and b"transfer-encoding: chunked" in head:
                self._chunks = ChunkDecoder()
            if separator and (length := re.search(rb"\r\ncontent-length: (\d+)", head)):
                self._missing_bytes = int(length[1])
        if self._chunks is not None:
            data = self._chunks.feed(data)
        self.frames.extend(self._parser.feed(data))
        if self._missing_bytes is not None:
            self._missing_bytes -= len(data)
        if self._missing_bytes == 0 or (self._chunks is not None and self._chunks.complete):
            self.ended_cleanly = self.ended = True
            return False
        return True


class Viewers:
    """Reads any number of streams in a thread of its own; a context manager.

    :param tls: how to connect where a URL begins with ``https``.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._selector = selectors.DefaultSelector()
        self._streams: list[Stream] = []
        self._lock = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Viewers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._thread.join(DEADLINE_SECONDS)
        for stream in self._streams:
            stream.socket.close()
        self._selector.close()

    def connect(
        self,
        url: str,
        *topics: str,
        headers: dict[str, str] | None = None,
        wait: bool = True,
        receive_buffer_bytes: int = 0,
        query: Mapping[str, str] | None = None,
    ) -> Stream:
        """Open a stream and read it from now on.

        :param wait: for its first frame.
        """
        stream = Stream(url, topics, headers or {}, receive_buffer_bytes, self._tls, query)
        with self._lock:
            self._streams.append(stream)
            self._selector.register(stream.socket, selectors.EVENT_READ, stream)
        if wait:
            self.wait(lambda: bool(stream.frames) or stream.ended, "the first frame came")
        return stream

    def connect_many(self, count: int, url: str, *topics: str) -> list[Stream]:
        """Open ``count`` streams with the same topics, and wait for all first frames."""
        streams = [self.connect(url, *topics, wait=False) for _ in range(count)]
        self.wait(
            lambda: all(stream.frames or stream.ended for stream in streams), "all frames came"
        )
        return streams

    def stall(self, stream: Stream) -> None:
        """Read no more of ``stream``."""
        with self._lock:
            self._selector.unregister(stream.socket)

    def resume(self, stream: Stream) -> None:
        """Read ``stream`` again after `stall`."""
        with self._lock:
            self._selector.register(stream.socket, selectors.EVENT_READ, stream)

    def close(self, stream: Stream) -> None:
        """Leave."""
        self.stall(stream)
        stream.socket.close()
        stream.ended = True

    def wait(
        self, condition: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS
    ) -> None:
        """Wait until ``condition()`` is true, or fail."""
        wait_until(condition, what, seconds=seconds)

    def _run(self) -> None:
        while not self._stopping:
            with self._lock:
                ready = self._selector.select(0)
                for key, _ in ready:
                    if not key.data.on_readable():
                        self._selector.unregister(key.fileobj)
            if not ready:
                time.sleep(0.001)


class Browser:
    """A page: when its stream ends, it waits as it was told, connects to the next frontend, and
    subscribes again, with the new connection's id. A context manager.

    :param urls: of the frontends; it begins with the first.
    :param note: called when a subscribe is answered by 200.
    :ivar lives: each stream that it had, with what ``note`` returned for it.
    """

    def __init__(
        self, viewers: Viewers, urls: Sequence[str], *topics: str, note: Callable[[], int]
    ) -> None:
        self.lives: list[tuple[Stream, int]] = []
        self._viewers = viewers
        self._urls = urls
        self._topics = topics
        self._note = note
        self._retry_seconds = 0.2
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Browser":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(DEADLINE_SECONDS)

    def _run(self) -> None:
        for url in itertools.cycle(self._urls):
            with suppress(OSError, httpx.TransportError):
                self._live(self._viewers.connect(url))
            if self._stopping.wait(self._retry_seconds):
                return

    def _live(self, stream: Stream) -> None:
        if stream.control("connected"):
            self._retry_seconds = int(stream.frames[0].fields["retry"]) / 1000
            while not stream.ended and stream.subscribe(add=self._topics).status_code != 200:
                if self._stopping.wait(self._retry_seconds):
                    return
            self.lives.append((stream, self._note()))
        while not stream.ended and not self._stopping.wait(0.01):
            pass
