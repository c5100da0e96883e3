"""What visitors may do to hurt the others. Each attack goes on in a process of its own."""

import itertools
import json
import multiprocessing
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx

from tests.integration.roles import RoleProcess

TOPICS = 100
_UNFINISHED = (
    b"POST /connections/none/topics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 262144\r\n\r\n"
)


@contextmanager
def attacked(attack: Callable[[str], None], role: RoleProcess) -> Iterator[None]:
    """Attack a frontend's public listener until the block ends."""
    attacker = multiprocessing.Process(
        target=attack, args=(role.ports["public"],), name=attack.__name__, daemon=True
    )
    attacker.start()
    time.sleep(1)
    try:
        yield
        assert attacker.is_alive(), f"{attack.__name__} has ended"
    finally:
        attacker.kill()
        attacker.join()


def unfinished_bodies(address: str) -> None:
    """300 requests at a time send a body slowly, and never all of it."""
    while True:
        senders = [_connect(address) for _ in range(300)]
        for sender in senders:
            sender.sendall(_UNFINISHED)
        for _ in range(10):
            for sender in senders:
                with suppress(OSError):
                    sender.sendall(b"x" * 16384)
            time.sleep(0.1)
        for sender in senders:
            sender.close()


def slow_readers(address: str) -> None:
    """Five viewers of 100 topics cease to read, while a producer publishes to these."""
    readers = [_connect(address, receive_buffer_bytes=4096) for _ in range(5)]
    topics = "&topic=".join(busy_topics())
    for reader in readers:
        reader.sendall(f"GET /connect?topic={topics} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    while True:
        time.sleep(0.05)
        for reader in readers:
            with suppress(OSError):
                reader.recv(4096)


def busy_topics() -> list[str]:
    return [f"slow:{number}" for number in range(TOPICS)]


def long_topics(address: str) -> None:
    """Streams of 100 topics of 1,000 bytes come and go."""
    _come_and_go(address, lambda number: f"{number:0>1000}")


def colliding_topics(address: str) -> None:
    """The same with topics that have one hash in Lua 5.1.

    Of a string of 160 bytes, and of one with a few more in front, that hash sees each sixth byte
    from the end only (``luaS_newlstr`` in ``lstring.c``).
    """

    def topic(number: int) -> str:
        text = ["x"] * 160
        for place, digit in zip((-2, -3, -4, -5, -6, -8), f"{number % 1_000_000:06}", strict=True):
            text[place] = digit
        return "".join(text)

    _come_and_go(address, topic)


def _come_and_go(address: str, topic: Callable[[int], str]) -> None:
    numbers = itertools.count()
    with httpx.Client(base_url=f"http://{address}", timeout=30) as client:
        while True:
            streams = []
            for _ in range(100):
                stream = _connect(address)
                stream.sendall(b"GET /connect HTTP/1.1\r\nHost: localhost\r\n\r\n")
                connection = _connection_of(stream)
                topics = [topic(next(numbers)) for _ in range(TOPICS)]
                client.post(f"/connections/{connection}/topics", json={"add": topics})
                streams.append(stream)
            for stream in streams:
                stream.close()


def _connection_of(stream: socket.socket) -> str:
    received = b""
    while b"}" not in received:
        piece = stream.recv(65536)
        assert piece, received
        received += piece
    data: dict[str, Any] = json.loads(received[received.index(b"data: ") + 6 :].split(b"\n")[0])
    identifier: str = data["connection"]
    return identifier


def _connect(address: str, receive_buffer_bytes: int = 0) -> socket.socket:
    host, port = address.split(":")
    client = socket.socket()
    if receive_buffer_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    client.connect((host, int(port)))
    return client
