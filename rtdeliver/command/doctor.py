"""Says whether this machine can hold so many viewers, and what would mend it."""

import argparse
import math
import sys
from collections.abc import Iterator
from typing import NamedTuple

from rtdeliver.command.failure import CommandError
from rtdeliver.command.machine import Machine, read_machine
from rtdeliver.command.redis import NOT_TOLD, RedisState, look_at
from rtdeliver.config.load import load_config
from rtdeliver.process.descriptors import descriptors_for

# What a stream takes: in its process, and in the kernel while nothing waits.
_STREAM_BYTES = 2_000
_SOCKET_BYTES = 4_000
# What a process takes without streams.
_PROCESS_BYTES = 64 << 20
# Above this, the kernel swaps out what idle streams need while it keeps files in memory.
_MOST_SWAPPINESS = 10
_OLDEST_REDIS = (7, 0)
_SLOW_REDIS_SECONDS = 0.005


class Finding(NamedTuple):
    """One thing that was looked at.

    :ivar mend: what would mend it; empty if it is fine.
    """

    what: str
    found: str
    mend: str = ""


class Doctor:
    NAME = "doctor"
    HELP = "says whether this machine can hold so many viewers, and what would mend it"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--viewers", type=int, default=10_000, help="%(default)s by default")
        parser.add_argument("--config", metavar="FILE", help="the settings of the roles")

    @staticmethod
    def run(options: argparse.Namespace) -> None:
        if options.viewers < 1:
            raise CommandError("--viewers must be at least 1")
        config = load_config(options.config, {})
        findings = [
            *examine(
                read_machine(),
                viewers=options.viewers,
                workers=max(1, config.workers.count),
                backlog=config.listeners.backlog,
            )
        ]
        for state in look_at(config.redis):
            findings += examine_redis(state)
        for finding in findings:
            print(f"{'mend' if finding.mend else 'fine'}  {finding.what}: {finding.found}")
            if finding.mend:
                print(f"      {finding.mend}")
        sys.stdout.flush()
        count = sum(bool(finding.mend) for finding in findings)
        if count:
            raise CommandError(
                f"{count} of {len(findings)} things to mend for {options.viewers} viewers"
            )


def examine(machine: Machine, *, viewers: int, workers: int, backlog: int) -> Iterator[Finding]:
    """Yield what was found about a machine that is to hold so many viewers.

    :param workers: how many processes share them.
    :param backlog: how many connections are to wait to be accepted.
    """
    each = math.ceil(viewers / workers)
    needed = descriptors_for(each)
    yield _at_least(
        "open files of a process", machine.descriptors, needed,
        f"ulimit -n {needed}, and LimitNOFILE={needed} in the systemd unit; or more --workers",
    )  # fmt: skip
    yield _at_least(
        "connections that wait to be accepted", machine.somaxconn, backlog,
        f"sysctl -w net.core.somaxconn={backlog}",
    )  # fmt: skip
    yield _at_least(
        "ports from one proxy address to one frontend address", machine.ports, each,
        "sysctl -w net.ipv4.ip_local_port_range='10240 65535', or several addresses or UNIX sockets"
        " for a proxy on this machine",
    )  # fmt: skip
    buffers = viewers * _SOCKET_BYTES
    pages = math.ceil(buffers / 4096)
    yield _at_least(
        "MB of TCP buffers", machine.buffer_bytes // 10**6, math.ceil(buffers / 10**6),
        f"sysctl -w net.ipv4.tcp_mem='{pages} {pages * 2} {pages * 4}'",
    )  # fmt: skip
    if machine.tracked is not None:
        yield _at_least(
            "connections that the firewall tracks", machine.tracked, 2 * viewers,
            f"sysctl -w net.netfilter.nf_conntrack_max={2 * viewers}",
        )  # fmt: skip
    memory = viewers * (_STREAM_BYTES + _SOCKET_BYTES) + workers * _PROCESS_BYTES
    yield _at_least(
        "MB of memory", machine.memory_bytes // 10**6, math.ceil(memory / 10**6),
        "more memory, or fewer viewers here",
    )  # fmt: skip
    if machine.swappiness is not None:
        is_low = machine.swappiness <= _MOST_SWAPPINESS
        yield Finding(
            "swappiness", f"{machine.swappiness}",
            "" if is_low else f"sysctl -w vm.swappiness={_MOST_SWAPPINESS}",
        )  # fmt: skip
    yield Finding(
        "processors", f"{machine.processors} for {workers} workers",
        "" if workers <= machine.processors else f"--workers {machine.processors}",
    )  # fmt: skip
    yield _clock(machine)


def examine_redis(state: RedisState) -> Iterator[Finding]:
    """Yield what was found about one Redis."""
    what = f"Redis at {state.place}"
    if state.trouble:
        yield Finding(what, state.trouble, "see that it runs there, and lets this machine in")
        return
    if state.version != NOT_TOLD:
        is_new = tuple(map(int, state.version.split(".")[:2])) >= _OLDEST_REDIS
        oldest = ".".join(map(str, _OLDEST_REDIS))
        mend = "" if is_new else f"install {oldest} or later"
        yield Finding(f"{what}, version", state.version, mend)
    yield Finding(
        f"{what}, maxmemory-policy", state.policy,
        "" if state.policy in ("noeviction", NOT_TOLD)
        else "redis-cli config set maxmemory-policy noeviction",
    )  # fmt: skip
    is_fast = state.round_trip_seconds <= _SLOW_REDIS_SECONDS
    yield Finding(
        f"{what}, round trip", f"{state.round_trip_seconds * 1000:.1f} ms",
        "" if is_fast else "a Redis in the same datacenter that is not busy with other work",
    )  # fmt: skip


def _at_least(what: str, there: int, needed: int, mend: str) -> Finding:
    return Finding(what, f"{there:,}, {needed:,} needed", "" if there >= needed else mend)


def _clock(machine: Machine) -> Finding:
    if machine.clock_is_synchronized is None:
        return Finding("clock", "not known whether it is synchronized")
    if machine.clock_is_synchronized:
        return Finding("clock", "synchronized")
    return Finding("clock", "not synchronized", "timedatectl set-ntp true")
