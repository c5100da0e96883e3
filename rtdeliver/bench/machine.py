"""What this machine has and allows, and what a process uses of it."""

import os
import random
import resource
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

# By default, Linux gives clients 28,232 ports. It tries all even ports before the odd ones, so each
# connect takes a millisecond once half of them are in use.
_STREAMS_PER_ADDRESS = 8_000
# The most descriptors that the kernel allows a process, unless fs.nr_open was changed.
_MANY = 1_048_576
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A benchmark cannot go on; the text says why, in one line for the user."""


def allow_descriptors(needed: int, what: str) -> None:
    """Raise the limit of file descriptors, of this process and its later children, to the hard one.

    :param needed: how many descriptors a process needs.
    :param what: names that process in the error.
    :raises BenchError: if the hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchError(
            f"{what} needs {needed} file descriptors, but only {hard} are allowed: "
            f"raise it with: ulimit -n {needed}"
        )
    if soft != hard:
        most = _MANY if hard == resource.RLIM_INFINITY else min(hard, _MANY)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed, most), hard))


def source_addresses(streams: int) -> list[str]:
    """Return enough loopback addresses for this number of streams to one listener.

    The streams are to take the addresses in turns.

    :raises BenchError: if the kernel gives clients too few ports.
    """
    lowest, highest = _client_ports()
    addresses = -(-streams // _STREAMS_PER_ADDRESS)
    if highest - lowest < 2 * -(-streams // addresses):
        raise BenchError(
            f"clients get the ports {lowest} to {highest} only: "
            "allow more with: sysctl -w net.ipv4.ip_local_port_range='32768 60999'"
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

    A client that keeps trying to reach a closed port may be given that port for its own end, and
    then connects to itself. This cannot happen with these ports.
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
    """Check that this much memory is available.

    :raises BenchError: if it is not.
    """
    lines = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines())
    available = int(lines["MemAvailable"].split()[0]) * 1024
    if available < needed_bytes:
        raise BenchError(
            f"about {needed_bytes / 1e6:.0f} MB of memory are needed, but only "
            f"{available / 1e6:.0f} MB are available: take fewer viewers"
        )


def processors() -> int:
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0))


def cpu_seconds(*pids: int) -> float:
    """Return the processor time that these processes have used so far, in all their threads."""
    return sum(_cpu_ticks(pid) for pid in pids) / _TICKS_PER_SECOND


def rss_bytes(*pids: int) -> int:
    """Return the resident memory of these processes. Shared memory counts once for each."""
    return sum(_rss_bytes(pid) for pid in pids)


def children(pid: int) -> Sequence[int]:
    """Return the running processes that the main thread of process ``pid`` has started."""
    return [int(child) for child in _read(f"/proc/{pid}/task/{pid}/children").split()]


def _client_ports() -> tuple[int, int]:
    """Return the lowest and the highest port that the kernel gives to clients."""
    lowest, highest = map(int, _read("/proc/sys/net/ipv4/ip_local_port_range").split())
    return lowest, highest


def _cpu_ticks(pid: int) -> int:
    # The command's name, in parentheses, may contain spaces.
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _rss_bytes(pid: int) -> int:
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")
