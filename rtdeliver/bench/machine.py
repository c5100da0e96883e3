"""What this machine has and allows: descriptors, ports, processors, and what a process uses."""

import os
import random
import resource
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

# Linux gives 28,232 by default. It looks through all even ones before the odd ones, so that each
# connect takes a millisecond once half of them are taken.
_STREAMS_PER_ADDRESS = 8_000
# What the kernel allows a process at most, unless fs.nr_open was changed.
_MANY = 1_048_576
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """Why a measurement cannot be made; the text is one line for the user."""


def allow_descriptors(needed: int, what: str) -> None:
    """Raise this process's limit of file descriptors, which its children inherit, all the way.

    :param needed: how many descriptors one of these processes needs.
    :param what: names that process.
    :raises BenchError: if the hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchError(
            f"{what} needs {needed} file descriptors and may have {hard}: "
            f"raise it with: ulimit -n {needed}"
        )
    if soft != hard:
        most = _MANY if hard == resource.RLIM_INFINITY else min(hard, _MANY)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed, most), hard))


def source_addresses(streams: int) -> list[str]:
    """Return loopback addresses that have ports for so many streams to one listener, in turns.

    :raises BenchError: if the kernel gives clients too few ports.
    """
    lowest, highest = _client_ports()
    addresses = -(-streams // _STREAMS_PER_ADDRESS)
    if highest - lowest < 2 * -(-streams // addresses):
        raise BenchError(
            f"clients get only the ports {lowest} to {highest}: "
            "raise it with: sysctl -w net.ipv4.ip_local_port_range='32768 60999'"
        )
    return [f"127.0.0.{2 + number}" for number in range(addresses)]


def fixed_port() -> int:
    """Return a free port that stays free while nothing listens on it."""
    while True:
        port = random.choice(fixed_ports())
        if is_free(port):
            return port


def fixed_ports() -> range:
    """Return ports that the kernel does not give to clients.

    A client that tries again and again to reach a closed port among its own kind may be given the
    very port, and then connects to itself.
    """
    lowest, _ = _client_ports()
    return range(max(1024, lowest - 12000), lowest)


def is_free(port: int) -> bool:
    """Whether nothing listens on a port of the loopback interface."""
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


def check_memory(needed_bytes: int) -> None:
    """Check that so much memory is available.

    :raises BenchError: if it is not.
    """
    lines = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines())
    available = int(lines["MemAvailable"].split()[0]) * 1024
    if available < needed_bytes:
        raise BenchError(
            f"about {needed_bytes / 1e6:.0f} MB of memory are needed and {available / 1e6:.0f} MB "
            "are available: take fewer viewers"
        )


def processors() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0))


def cpu_seconds(*pids: int) -> float:
    """Processor time that these processes have used so far, all threads of each."""
    return sum(_cpu_ticks(pid) for pid in pids) / _TICKS_PER_SECOND


def rss_bytes(*pids: int) -> int:
    """Memory that these processes have resident, what they share counted for each."""
    return sum(_rss_bytes(pid) for pid in pids)


def children(pid: int) -> Sequence[int]:
    """The processes that the main thread of this one has started, and that still run."""
    return [int(child) for child in _read(f"/proc/{pid}/task/{pid}/children").split()]


def _client_ports() -> tuple[int, int]:
    """Return the lowest and the highest port that the kernel gives to clients."""
    lowest, highest = map(int, _read("/proc/sys/net/ipv4/ip_local_port_range").split())
    return lowest, highest


def _cpu_ticks(pid: int) -> int:
    # The name of the command, in brackets, may hold spaces.
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _rss_bytes(pid: int) -> int:
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")
