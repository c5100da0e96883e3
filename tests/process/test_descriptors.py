"""How many streams a process takes."""

import resource

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import ConfigError
from rtdeliver.process.descriptors import max_connections, max_waiting


class MaxConnectionsTests(SynchronousTestCase):
    def test_a_process_takes_as_many_streams_as_configured(self) -> None:
        self.restore_descriptor_limit()
        self.assertEqual(max_connections(7), 7)

    def test_a_process_takes_no_more_streams_than_it_has_descriptors_for(self) -> None:
        self.restore_descriptor_limit()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = max_connections(0)
        self.assertGreater(allowed, 0)
        self.assertLess(allowed, hard)
        self.assertEqual(max_connections(hard * 2), allowed)

    def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one(self) -> None:
        self.restore_descriptor_limit()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard // 2, hard))
        max_connections(0)
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), (hard, hard))

    def test_a_reserve_is_left_whatever_the_limit_is(self) -> None:
        for hard in [512, 513, 600, 700, 1024, 4096, 20_000, 1_048_576]:
            self.limit_descriptors(hard)
            with self.subTest(limit=hard):
                self.assertGreater(max_connections(0), 0)
                self.assertGreaterEqual(hard - max_connections(0) - max_waiting(), 256)

    def test_a_process_does_not_start_with_too_few_descriptors(self) -> None:
        for hard in [1, 100, 511]:
            self.limit_descriptors(hard)
            for count in (lambda: max_connections(0), max_waiting):
                with self.assertRaisesRegex(ConfigError, f"only {hard} files .* ulimit -n 512"):
                    count()

    def limit_descriptors(self, hard: int) -> None:
        self.patch(resource, "getrlimit", lambda _: (hard, hard))
        self.patch(resource, "setrlimit", lambda *_: None)

    def restore_descriptor_limit(self) -> None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
