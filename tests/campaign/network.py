"""A network that can fail: TCP links that pass, cut, stall or delay what they carry."""

import asyncio
import enum
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_CHUNK_BYTES = 65536
_PATIENCE_SECONDS = 30.0
# With this linger, a close resets the connection.
_RESET = struct.pack("ii", 1, 0)


class Mode(enum.Enum):
    """What a link does with connections and with what they carry."""

    PASS = "it forwards at once"
    CUT = "it resets the connections, and each new one"
    STALL = "it accepts connections and forwards nothing"
    SLOW = "it forwards each chunk after a delay"


class Link:
    """Accepts connections on a free port of the loopback interface, and connects each to a target.

    A stalled link reads no more than a few buffers. When it passes again, what it holds goes on,
    also where the sender has closed its end meanwhile. A reset takes along what is held.
    """

    def __init__(self, target_port: int, delay_seconds: float) -> None:
        self.port = 0
        self._target_port = target_port
        self._delay_seconds = delay_seconds
        self._mode = Mode.PASS
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def become(self, mode: Mode) -> None:
        """Change what the link does."""
        self._mode = mode
        self._changed.set()
        self._changed = asyncio.Event()
        if mode is Mode.CUT:
            await self._end_connections()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._end_connections()

    async def _end_connections(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        # The end of a connection is no failure of the link.
        with suppress(OSError, asyncio.CancelledError), _ending(writer):
            await self._carry(reader, writer)
        self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode is Mode.CUT:
            raise ConnectionResetError
        await self._may_pass()
        target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        with _ending(target_writer):
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pump(reader, target_writer))
                    both.create_task(self._pump(target_reader, writer))
            except* OSError:
                raise ConnectionResetError from None

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            await self._may_pass()
            writer.write(data)
            await writer.drain()
        await self._may_pass()
        writer.write_eof()

    async def _may_pass(self) -> None:
        if self._mode is Mode.SLOW:
            await asyncio.sleep(self._delay_seconds)
        while self._mode is Mode.STALL:
            await self._changed.wait()


@contextmanager
def _ending(writer: asyncio.StreamWriter) -> Iterator[None]:
    """Close a connection at the end, or reset it if an error ends it."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()
        raise
    writer.close()


class Network:
    """Links by name, carried in a thread of their own; a context manager.

    :param delay_seconds: how long a slow link holds each chunk.
    """

    def __init__(self, delay_seconds: float = 0.2) -> None:
        self._delay_seconds = delay_seconds
        self._links: dict[str, Link] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "Network":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for link in self._links.values():
            self._run(link.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE_SECONDS)
        self._loop.close()

    def add(self, name: str, target_port: int) -> int:
        """Make a link to a port of the loopback interface; return the port that it listens on."""
        link = self._links[name] = Link(target_port, self._delay_seconds)
        self._run(link.listen())
        return link.port

    def become(self, name: str, mode: Mode) -> None:
        """Change what a link does. When a cut returns, its connections are reset."""
        self._run(self._links[name].become(mode))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE_SECONDS)
