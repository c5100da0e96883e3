"""What the doctor says of machines that are made up."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.command.doctor import Finding, examine, examine_redis
from rtdeliver.command.machine import Machine, read_machine
from rtdeliver.command.redis import NOT_TOLD, RedisState
from rtdeliver.process.descriptors import descriptors_for

GOOD = Machine(
    descriptors=1_000_000,
    somaxconn=8192,
    ports=55_000,
    buffer_bytes=1 << 32,
    tracked=1_000_000,
    swappiness=10,
    memory_bytes=1 << 34,
    processors=4,
    clock_is_synchronized=True,
)
REDIS = RedisState("10.0.0.4:6379", "", "7.2.4", "noeviction", 0.001)


def to_mend(viewers: int = 50_000, workers: int = 1, **different: Any) -> list[Finding]:
    machine = msgspec.structs.replace(GOOD, **different)
    findings = examine(machine, viewers=viewers, workers=workers, backlog=4096)
    return [finding for finding in findings if finding.mend]


class MachineTests(SynchronousTestCase):
    def test_a_good_machine_is_fine(self) -> None:
        self.assertEqual(to_mend(), [])
        self.assertEqual(to_mend(tracked=None, swappiness=None, clock_is_synchronized=None), [])

    def test_each_thing_that_is_wrong_has_a_command_that_mends_it(self) -> None:
        for different, what, mend in (
            ({"descriptors": 20_000}, "open files", "LimitNOFILE=5"),
            ({"somaxconn": 128}, "wait to be accepted", "net.core.somaxconn=4096"),
            ({"ports": 28_000}, "ports", "ip_local_port_range"),
            ({"buffer_bytes": 1 << 20}, "TCP buffers", "net.ipv4.tcp_mem="),
            ({"tracked": 65_536}, "firewall", "nf_conntrack_max=100000"),
            ({"swappiness": 60}, "swappiness", "vm.swappiness=10"),
            ({"memory_bytes": 1 << 20}, "memory", "more memory"),
            ({"clock_is_synchronized": False}, "clock", "set-ntp true"),
        ):
            [finding] = to_mend(**different)
            self.assertIn(what, finding.what)
            self.assertIn(mend, finding.mend)

    def test_workers_share_the_viewers(self) -> None:
        self.assertEqual(to_mend(200_000, 4), [])
        self.assertEqual(len(to_mend(200_000, 1)), 1)
        [finding] = to_mend(200_000, 5)
        self.assertEqual(finding.mend, "--workers 4")

    def test_this_machine_can_be_looked_at(self) -> None:
        machine = read_machine()
        for name in ("descriptors", "somaxconn", "ports", "buffer_bytes", "memory_bytes"):
            self.assertGreater(getattr(machine, name), 0)

    @given(st.integers(200, 2_000_000))
    def test_no_fewer_descriptors_are_enough(self, connections: int) -> None:
        def streams(limit: int) -> int:
            return limit - 256 - max(64, min(limit // 32, 16_384))

        needed = descriptors_for(connections)
        self.assertGreaterEqual(streams(needed), connections)
        self.assertLess(streams(needed - 2), connections)


class RedisTests(SynchronousTestCase):
    def to_mend(self, **different: Any) -> list[Finding]:
        state = msgspec.structs.replace(REDIS, **different)
        return [finding for finding in examine_redis(state) if finding.mend]

    def test_a_good_one_is_fine(self) -> None:
        self.assertEqual(self.to_mend(), [])
        self.assertEqual(self.to_mend(version=NOT_TOLD, policy=NOT_TOLD), [])

    def test_what_is_wrong_is_told(self) -> None:
        for different, word in (
            ({"trouble": "Redis cannot be reached"}, "runs there"),
            ({"version": "6.2.14"}, "7.0 or later"),
            ({"policy": "allkeys-lru"}, "noeviction"),
            ({"round_trip_seconds": 0.02}, "same datacenter"),
        ):
            [finding] = self.to_mend(**different)
            self.assertIn(REDIS.place, finding.what)
            self.assertIn(word, finding.mend)
