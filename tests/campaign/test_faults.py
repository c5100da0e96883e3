"""What is drawn from a seed."""

import itertools

from twisted.trial.unittest import SynchronousTestCase

from tests.campaign.faults import KINDS, places, plan


class PlanTests(SynchronousTestCase):
    def test_a_seed_has_one_plan(self) -> None:
        first, again, other = (plan(seed, 500, dispatchers=3, frontends=3) for seed in (1, 1, 2))
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

    def test_a_longer_plan_begins_like_a_shorter_one(self) -> None:
        short, long = (plan(1, seconds, dispatchers=2, frontends=3) for seconds in (60, 600))
        self.assertEqual(long[: len(short) - 1], short[:-1])

    def test_all_faults_end_in_time(self) -> None:
        faults = plan(3, 100, dispatchers=3, frontends=3)
        self.assertLessEqual(max(fault.until for fault in faults), 100)
        self.assertEqual(faults, sorted(faults))

    def test_one_thing_at_a_time_happens_to_a_place(self) -> None:
        faults = plan(4, 3000, dispatchers=3, frontends=3)
        faults.sort(key=lambda fault: (fault.place, fault.at))
        for first, second in itertools.pairwise(faults):
            self.assertTrue(first.place != second.place or first.until < second.at)

    def test_everything_happens_to_every_place(self) -> None:
        faults = plan(5, 36000, dispatchers=2, frontends=3)
        named = places(2, 3)
        self.assertEqual(
            {(fault.action, fault.place) for fault in faults},
            {(kind.action, place) for kind in KINDS for place in named[kind.places]},
        )

    def test_only_what_is_asked_for_happens(self) -> None:
        faults = plan(6, 600, dispatchers=3, frontends=3, actions=["kill", "slow"])
        self.assertEqual({fault.action for fault in faults}, {"kill", "slow"})
