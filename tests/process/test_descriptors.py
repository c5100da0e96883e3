"""How many streams a process takes."""

import resource

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.process.descriptors import max_connections


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

    def restore_descriptor_limit(self) -> None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
