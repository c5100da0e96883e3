"""What the machine has and allows."""

import os
import resource
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.bench.machine import (
    BenchError,
    allow_descriptors,
    check_memory,
    children,
    cpu_seconds,
    fixed_port,
    processors,
    rss_bytes,
    source_addresses,
)


class LimitTests(SynchronousTestCase):
    def test_too_many_descriptors_are_refused_with_what_to_do(self) -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with self.assertRaisesRegex(BenchError, f"raise it with: ulimit -n {hard + 1}$"):
            allow_descriptors(hard + 1, "a reader")

    def test_the_soft_limit_is_raised_as_far_as_the_hard_one_goes(self) -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1000, before[1]))
        allow_descriptors(1001, "a reader")
        raised = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.assertGreaterEqual(raised[0], min(before[1], 20_000))
        allow_descriptors(1, "a reader")
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), raised)

    def test_streams_come_from_as_many_addresses_as_have_ports_for_them(self) -> None:
        self.assertEqual(source_addresses(1), ["127.0.0.2"])
        self.assertEqual(source_addresses(8_000), ["127.0.0.2"])
        self.assertEqual(source_addresses(8_001), ["127.0.0.2", "127.0.0.3"])
        self.assertEqual(len(source_addresses(100_000)), 13)

    def test_a_fixed_port_is_none_that_the_kernel_gives_to_clients(self) -> None:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        for _ in range(100):
            self.assertIn(fixed_port(), range(1024, lowest))

    def test_too_little_memory_is_told(self) -> None:
        check_memory(1)
        with self.assertRaisesRegex(BenchError, "take fewer viewers"):
            check_memory(1 << 60)


class UsageTests(SynchronousTestCase):
    def test_a_process_uses_memory_and_time(self) -> None:
        self.assertGreater(rss_bytes(os.getpid()), 1_000_000)
        self.assertGreater(cpu_seconds(os.getpid()), 0)
        self.assertEqual(rss_bytes(), 0)

    def test_there_is_a_processor(self) -> None:
        self.assertGreaterEqual(processors(), 1)

    def test_this_process_is_among_the_children_of_its_parent(self) -> None:
        self.assertIn(os.getpid(), children(os.getppid()))
