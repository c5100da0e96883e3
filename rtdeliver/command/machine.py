"""What there is on this machine, as its kernel tells."""

import os
import re
import resource
import shutil
import subprocess
from pathlib import Path

import msgspec

_ANSWER_SECONDS = 5


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of this machine, and of processes that are started as this one was.

    What is None is not known, or is not there.

    :param descriptors: how many files one process may have open: the hard limit.
    :param somaxconn: how many connections of one listener may wait to be accepted.
    :param ports: how many connections there may be from one address to another.
    :param buffer_bytes: how much memory all TCP sockets together may take before the kernel saves.
    :param tracked: how many connections the firewall can track.
    :param swappiness: how eagerly the kernel swaps, where there is swap.
    :param memory_bytes: how much memory is available.
    :param clock_is_synchronized: whether NTP sets the clock.
    """

    descriptors: int
    somaxconn: int
    ports: int
    buffer_bytes: int
    tracked: int | None
    swappiness: int | None
    memory_bytes: int
    processors: int
    clock_is_synchronized: bool | None


def read_machine() -> Machine:
    """Look at this machine."""
    low, high = _numbers("/proc/sys/net/ipv4/ip_local_port_range")
    _, pressure_pages, _ = _numbers("/proc/sys/net/ipv4/tcp_mem")
    memory = Path("/proc/meminfo").read_text()
    has_swap = _kilobytes(memory, "SwapTotal") > 0
    [swappiness] = _numbers("/proc/sys/vm/swappiness")
    [somaxconn] = _numbers("/proc/sys/net/core/somaxconn")
    return Machine(
        descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        somaxconn=somaxconn,
        ports=high - low + 1,
        buffer_bytes=pressure_pages * resource.getpagesize(),
        tracked=_tracked(),
        swappiness=swappiness if has_swap else None,
        memory_bytes=_kilobytes(memory, "MemAvailable") * 1024,
        processors=len(os.sched_getaffinity(0)),
        clock_is_synchronized=_clock_is_synchronized(),
    )


def _numbers(path: str) -> list[int]:
    return [int(word) for word in Path(path).read_text().split()]


def _kilobytes(memory: str, name: str) -> int:
    found = re.search(rf"^{name}: +(\d+) kB$", memory, re.MULTILINE)
    return int(found[1]) if found else 0


def _tracked() -> int | None:
    try:
        [most] = _numbers("/proc/sys/net/netfilter/nf_conntrack_max")
    except OSError:
        return None
    return most


def _clock_is_synchronized() -> bool | None:
    program = shutil.which("timedatectl")
    if program is None:
        return None
    try:
        told = subprocess.run(  # noqa: S603
            [program, "show", "--property=NTPSynchronized", "--value"],
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(told)
