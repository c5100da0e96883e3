"""Tests of rtdeliver.likes.limits."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import TooManyRequests
from rtdeliver.likes.limits import Allowance, RateLimit, one_client
from rtdeliver.likes.model import Visitor
from rtdeliver.model import Member
from tests.likes.fakes import ANN, BOB, HOME, values, visitor_limit

ALLOWANCES = st.builds(
    Allowance, st.sampled_from([0.1, 0.3, 1, 7, 100]), st.integers(min_value=1, max_value=4)
)


class World:
    """A limit at some time in this century, and who was let through when."""

    def __init__(self, allowance: Allowance, *, visitors: int = 100) -> None:
        self.clock = Clock()
        self.clock.advance(1_795_417_956.123)
        self.limit = RateLimit(
            what="likes", allowance=allowance, visitors=visitors, clock=self.clock
        )

    def takes(self, visitor: str, times: int = 1) -> list[bool]:
        """Which of so many tries are let through."""
        return [self.retry_after(visitor) == 0 for _ in range(times)]

    def retry_after(self, visitor: str) -> int:
        """In how many seconds a visitor is told to come again; 0 if it is let through."""
        try:
            self.limit.take(visitor)
        except TooManyRequests as refusal:
            return int(refusal.headers["Retry-After"])
        return 0


class RateLimitTests(SynchronousTestCase):
    def test_one_who_did_nothing_may_do_so_much_at_once(self) -> None:
        world = World(Allowance(per_second=2, burst=3))
        self.assertEqual(world.takes("ann", 5), [True, True, True, False, False])

    def test_so_much_a_second_comes_back(self) -> None:
        world = World(Allowance(per_second=2, burst=3))
        world.takes("ann", 3)
        world.clock.advance(0.4)
        self.assertEqual(world.takes("ann"), [False])
        world.clock.advance(0.1)
        self.assertEqual(world.takes("ann", 2), [True, False])
        world.clock.advance(1)
        self.assertEqual(world.takes("ann", 3), [True, True, False])

    def test_no_more_comes_back_than_was_there(self) -> None:
        world = World(Allowance(per_second=2, burst=3))
        world.takes("ann", 3)
        world.clock.advance(3600)
        self.assertEqual(world.takes("ann", 4), [True, True, True, False])

    def test_what_is_refused_does_not_count(self) -> None:
        world = World(Allowance(per_second=1, burst=1))
        world.takes("ann")
        for _ in range(9):
            world.clock.advance(0.1)
            self.assertEqual(world.takes("ann"), [False])
        world.clock.advance(0.1)
        self.assertEqual(world.takes("ann"), [True])

    def test_visitors_do_not_share(self) -> None:
        world = World(Allowance(per_second=1, burst=1))
        self.assertEqual(world.takes("ann") + world.takes("bob") + world.takes("ann"), [1, 1, 0])

    def test_a_refusal_says_when_to_come_again_in_whole_seconds(self) -> None:
        for per_second, seconds in ((10, 1), (1, 1), (0.4, 3), (0.1, 10)):
            world = World(Allowance(per_second=per_second, burst=1))
            world.takes("ann")
            self.assertEqual(world.retry_after("ann"), seconds)

    def test_a_refusal_says_how_much_is_allowed(self) -> None:
        world = World(Allowance(per_second=0.5, burst=1))
        world.takes("ann")
        refusal = self.assertRaises(TooManyRequests, world.limit.take, "ann")
        self.assertEqual(refusal.message, "too many likes: 0.5 a second are allowed")

    def test_refusals_are_counted(self) -> None:
        world = World(Allowance(per_second=1, burst=2))
        world.takes("ann", 5)
        self.assertEqual(world.limit.refused, 3)

    def test_no_more_visitors_are_remembered_than_so_many(self) -> None:
        world = World(Allowance(per_second=1, burst=1), visitors=3)
        for number in range(10):
            world.takes(f"visitor {number}")
        self.assertEqual(len(world.limit), 3)

    def test_those_who_did_nothing_for_longest_are_forgotten(self) -> None:
        world = World(Allowance(per_second=0.1, burst=2), visitors=2)
        for visitor in ("ann", "bob", "ann", "eve"):
            world.takes(visitor)
        self.assertEqual(world.takes("ann"), [False])
        self.assertEqual(world.takes("bob", 3), [True, True, False])

    def test_who_is_refused_is_not_forgotten_for_that(self) -> None:
        world = World(Allowance(per_second=0.1, burst=1), visitors=2)
        for visitor in ("ann", "bob", "ann", "eve"):
            world.takes(visitor)
        self.assertEqual(world.takes("ann"), [False])


class VisitorLimitTests(SynchronousTestCase):
    """A visitor may do two things at once, an address four; one a second comes back."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.limit = visitor_limit(self.clock, burst=2, at_address=4)

    def taken(self, visitor: Visitor, times: int) -> int:
        """How many of so many tries are let through."""
        refused = 0
        for _ in range(times):
            try:
                self.limit.take(visitor)
            except TooManyRequests:
                refused += 1
        return times - refused

    def refusal(self, visitor: Visitor) -> TooManyRequests:
        refusal: TooManyRequests = self.assertRaises(TooManyRequests, self.limit.take, visitor)
        return refusal

    def test_many_names_do_no_more_than_the_address_may(self) -> None:
        names = [Visitor(Member(f"name{number}"), HOME) for number in range(101)]
        self.assertEqual(sum(self.taken(name, 20) for name in names), 4)

    def test_a_name_does_no_more_than_it_may_at_many_addresses(self) -> None:
        places = [Visitor(ANN, f"10.0.0.{number}") for number in range(9)]
        self.assertEqual(sum(self.taken(place, 20) for place in places), 2)

    def test_visitors_without_a_name_share_a_visitors_limit_at_one_address(self) -> None:
        self.assertEqual(self.taken(Visitor(None, HOME), 9), 2)
        self.assertEqual(self.taken(Visitor(None, "10.0.0.2"), 9), 2)

    def test_what_is_refused_takes_nothing_of_the_other_limit(self) -> None:
        self.assertEqual(self.taken(Visitor(ANN, HOME), 20), 2)
        self.assertEqual(self.taken(Visitor(BOB, HOME), 20), 2)
        self.assertEqual(self.taken(Visitor(Member("cyd"), HOME), 20), 0)
        self.assertEqual(self.taken(Visitor(Member("cyd"), "10.0.0.2"), 20), 2)

    def test_a_refusal_says_whose_limit_it_was(self) -> None:
        self.taken(Visitor(ANN, HOME), 2)
        self.assertIn("too many things:", self.refusal(Visitor(ANN, HOME)).message)
        self.taken(Visitor(BOB, HOME), 2)
        refusal = self.refusal(Visitor(Member("cyd"), HOME))
        self.assertIn("too many things from your address:", refusal.message)

    def test_who_comes_again_when_it_was_told_to_is_let_through(self) -> None:
        """Both limits are used up, and one of them for longer."""
        self.taken(Visitor(ANN, HOME), 2)
        self.clock.advance(0.5)
        self.taken(Visitor(BOB, HOME), 2)
        seconds = int(self.refusal(Visitor(BOB, HOME)).headers["Retry-After"])
        self.clock.advance(seconds)
        self.assertEqual(self.taken(Visitor(BOB, HOME), 1), 1)

    def test_refusals_are_counted_by_whose_limit_it_was(self) -> None:
        self.taken(Visitor(ANN, HOME), 5)
        self.taken(Visitor(BOB, HOME), 2)
        self.taken(Visitor(Member("cyd"), HOME), 4)
        self.assertEqual(
            values(self.limit.samples("likes")),
            {"app_refused.likes.visitor": 3, "app_refused.likes.address": 4},
        )


class OneClientTests(SynchronousTestCase):
    def test_an_ipv4_address_is_a_client_however_it_is_written(self) -> None:
        for address in ("203.0.113.9", "203.0.113.9:51234", "::ffff:203.0.113.9"):
            self.assertEqual(one_client(address), "203.0.113.9")

    def test_all_addresses_of_an_ipv6_network_are_one_client(self) -> None:
        for address in ("2001:db8:1:2::1", "2001:DB8:1:2:a:b:c:d", "[2001:db8:1:2::3]:443"):
            self.assertEqual(one_client(address), "2001:db8:1:2::/64")
        self.assertNotEqual(one_client("2001:db8:1:3::1"), "2001:db8:1:2::/64")

    def test_what_is_no_address_stands_for_itself(self) -> None:
        for text in ("", "unknown", "_hidden", "1.2.3", "[]", "1.2.3:4", "[x]:1"):
            self.assertEqual(one_client(text), text)


class AnyTakesTests(SynchronousTestCase):
    @given(
        ALLOWANCES,
        st.lists(
            st.tuples(
                st.sampled_from(["ann", "bob"]),
                st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.3, 1.0, 2.5, -0.5, -100.0]),
            ),
            max_size=40,
        ),
    )
    def test_within_any_time_nobody_gets_more_than_the_burst_and_what_comes_back(
        self, allowance: Allowance, steps: list[tuple[str, float]]
    ) -> None:
        world = World(allowance)
        passed = 0.0
        granted: dict[str, list[float]] = {"ann": [], "bob": []}
        for visitor, seconds in steps:
            world.clock.advance(seconds)
            passed += max(0.0, seconds)
            granted[visitor] += [passed for taken in world.takes(visitor) if taken]
        for times in granted.values():
            for first, last in combinations(range(len(times)), 2):
                most = allowance.burst + allowance.per_second * (times[last] - times[first])
                self.assertLessEqual(last - first + 1, most + 1e-5)

    @given(ALLOWANCES, st.lists(st.sampled_from([0.0, 0.01, 0.3, 2.5]), max_size=20))
    def test_who_comes_again_when_it_was_told_to_is_let_through(
        self, allowance: Allowance, pauses: list[float]
    ) -> None:
        world = World(allowance)
        for pause in pauses:
            world.clock.advance(pause)
            if seconds := world.retry_after("ann"):
                world.clock.advance(seconds)
                self.assertEqual(world.takes("ann"), [True])
