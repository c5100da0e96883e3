"""Network namespaces with a delay between them, as if they were far from each other.

Each namespace has one address, on a TUN device. A process reads the packets from all devices and
writes each to where it is to go, once the delay is over; so nothing of the machine's own network
is touched, and no module of the kernel is needed that adds delays.
"""

import ctypes
import fcntl
import heapq
import ipaddress
import itertools
import multiprocessing
import os
import selectors
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

_TUN = Path("/dev/net/tun")
# linux/if_tun.h, sched.h
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_PACKET_BYTES = 65536

_libc = ctypes.CDLL(None, use_errno=True)


def why_not() -> str | None:
    """Why there can be no such namespaces here; ``None`` if there can."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    if shutil.which("ip") is None:
        return "there is no ip command"
    if not _TUN.exists():
        return f"there is no {_TUN}"
    probe = f"rtdeliver-{os.getpid()}"
    added = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if added.returncode:
        return f"no network namespace can be made: {added.stderr.strip()}"
    _ip("netns", "delete", probe)
    return None


class WideArea:
    """Places that reach each other with a delay.

    :param places: their names.
    :param delay_seconds: of a packet from one place to another.
    """

    def __init__(self, places: Sequence[str], *, delay_seconds: float) -> None:
        self.addresses = {place: f"10.213.{n}.1" for n, place in enumerate(places, 1)}
        self._delay_seconds = delay_seconds
        self._namespaces = {place: f"rtdeliver-{os.getpid()}-{place}" for place in places}
        self._stack = ExitStack()

    def __enter__(self) -> "WideArea":
        with ExitStack() as stack:
            devices = {place: self._add(place, stack) for place in self._namespaces}
            by_address = {
                ipaddress.ip_address(self.addresses[place]).packed: device
                for place, device in devices.items()
            }
            carrier = multiprocessing.get_context("fork").Process(
                target=_carry, args=(by_address, self._delay_seconds), daemon=True
            )
            carrier.start()
            stack.callback(carrier.join)
            stack.callback(carrier.kill)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def prefix(self, place: str) -> list[str]:
        """What goes before a command that is to run at ``place``."""
        return ["ip", "netns", "exec", self._namespaces[place]]

    @contextmanager
    def inside(self, place: str) -> Iterator[None]:
        """Let the sockets that this thread makes be at ``place``."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self._namespaces[place]}", os.O_RDONLY)
        try:
            _enter(there)
            yield
        finally:
            _enter(here)
            os.close(there)
            os.close(here)

    def _add(self, place: str, stack: ExitStack) -> int:
        namespace = self._namespaces[place]
        _ip("netns", "add", namespace)
        stack.callback(_ip, "netns", "delete", namespace)
        device = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK)
        stack.callback(os.close, device)
        wanted = struct.pack("16sH22x", b"rtdeliver%d", _IFF_TUN | _IFF_NO_PI)
        name = fcntl.ioctl(device, _TUNSETIFF, wanted)[:16].rstrip(b"\0").decode()
        _ip("link", "set", name, "netns", namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", namespace, "address", "add", f"{self.addresses[place]}/16", "dev", name)
        _ip("-n", namespace, "link", "set", name, "up")
        return device


def _carry(devices: Mapping[bytes, int], delay_seconds: float) -> None:
    """Write each packet to the device of its destination once the delay is over, for ever."""
    selector = selectors.DefaultSelector()
    for device in devices.values():
        selector.register(device, selectors.EVENT_READ)
    under_way: list[tuple[float, int, int, bytes]] = []
    numbers = itertools.count()
    while True:
        wait = under_way[0][0] - time.monotonic() if under_way else None
        for key, _ in selector.select(None if wait is None else max(wait, 0)):
            packet = os.read(key.fd, _PACKET_BYTES)
            destination = devices.get(packet[16:20]) if packet[0] >> 4 == 4 else None
            if destination is not None:
                due = time.monotonic() + delay_seconds
                heapq.heappush(under_way, (due, next(numbers), destination, packet))
        while under_way and under_way[0][0] <= time.monotonic():
            _, _, destination, packet = heapq.heappop(under_way)
            os.write(destination, packet)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns failed")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
