"""Tests of rtdeliver.routing.rows."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.sections import Redis
from rtdeliver.errors import Unavailable
from rtdeliver.messages import Route
from rtdeliver.model import FrontendRef, Topic
from rtdeliver.routing.rows import Rows
from rtdeliver.routing.scripts import Row, RowEntry

RED = Topic("live:red")
N1, N2 = (
    FrontendRef(node=node, url=f"http://{node}:8081", incarnation="first") for node in ("n1", "n2")
)
GRACE_SECONDS = 10.0
FRESH_SECONDS = 0.05


def row(
    *frontends: FrontendRef,
    without: Sequence[FrontendRef] = (),
    dead: Sequence[FrontendRef] = (),
    table: bytes = b"1",
    known: bool = True,
    lease_seconds: float = 30,
    **state: Any,
) -> Row:
    """Return a row of ``frontends``, as it is read.

    :param without: frontends that live, and are not in the row.
    :param dead: frontends in the row whose leases have ended.
    """

    def entry(frontend: FrontendRef, viewers: int, lives: bool) -> RowEntry:
        return RowEntry(
            node=frontend.node,
            viewers=viewers,
            frontend=frontend if lives else None,
            known=known,
            lease_seconds=lease_seconds if lives else 0,
        )

    return Row(
        entries=[
            *(entry(frontend, 1, True) for frontend in frontends),
            *(entry(frontend, 0, True) for frontend in without),
            *(entry(frontend, 1, False) for frontend in dead),
        ],
        table=table,
        **{"young_seconds": 0.0, "lost": False, **state},
    )


class ScriptedRedis:
    """Hears all when the test says so, and answers reads likewise."""

    def __init__(self, clock: Clock) -> None:
        self.heard_at = clock.seconds()
        self.pings: list[Deferred[None]] = []
        self.reads: list[Deferred[Row]] = []
        self.further: list[Sequence[str]] = []
        self._clock = clock

    def hears_since(self, seconds: float) -> bool:
        return self._clock.seconds() - self.heard_at < seconds

    def hear_all(self) -> Deferred[None]:
        self.pings.append(Deferred())
        return self.pings[-1]

    async def row(self, topic: Topic, further: Sequence[str]) -> Row:
        assert topic == RED
        self.further.append(further)
        self.reads.append(Deferred())
        return await self.reads[-1]

    def answer(self, answer: Row | Exception) -> None:
        """Answer the oldest read."""
        read = self.reads.pop(0)
        if isinstance(answer, Row):
            read.callback(answer)
        else:
            read.errback(answer)

    def pong(self) -> None:
        """Answer the pings."""
        self.heard_at = self._clock.seconds()
        pings, self.pings = self.pings, []
        for ping in pings:
            ping.callback(None)


class RowsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.redis = ScriptedRedis(self.clock)
        self.dead: list[str] = []
        self.rows = Rows(
            redis=self.redis,  # type: ignore[arg-type]
            scripts=self.redis,  # type: ignore[arg-type]
            settings=Redis(grace_seconds=GRACE_SECONDS, fresh_seconds=FRESH_SECONDS),
            clock=self.clock,
            dead=self.dead.append,
        )

    def ask(self) -> Deferred[Route]:
        return self.rows.route(RED)

    def read(self, answer: Row) -> Route:
        """Ask for a row that is read anew."""
        asked = self.ask()
        self.redis.answer(answer)
        route: Route = self.successResultOf(asked)
        return route


class FreshnessTests(RowsTestCase):
    """A row is used only as long as it surely holds."""

    def test_a_row_that_was_read_is_served_without_a_question(self) -> None:
        self.assertEqual(Route((N1,)), self.read(row(N1)))
        self.assertEqual(Route((N1,)), self.successResultOf(self.ask()))

    def test_a_row_that_has_changed_is_read_again(self) -> None:
        self.read(row(N1))
        self.rows.mark_changed([RED])
        self.assertEqual(Route((N1, N2)), self.read(row(N1, N2)))

    def test_without_a_word_from_redis_a_row_is_served_for_a_moment_only(self) -> None:
        self.read(row(N1))
        self.clock.advance(FRESH_SECONDS * 1.01)
        asked = self.ask()
        self.assertNoResult(asked)
        self.redis.pong()
        self.assertEqual(Route((N1,)), self.successResultOf(asked))

    def test_a_change_that_is_heard_before_the_answer_to_the_ping_counts(self) -> None:
        self.read(row(N1))
        self.clock.advance(3)
        asked = self.ask()
        self.rows.mark_changed([RED])
        self.redis.pong()
        self.assertNoResult(asked)
        self.redis.answer(row(N2))
        self.assertEqual(Route((N2,)), self.successResultOf(asked))

    def test_where_the_ping_is_not_answered_the_row_is_read(self) -> None:
        self.read(row(N1))
        self.clock.advance(3)
        asked = self.ask()
        # The subscription is lost.
        self.redis.pings.pop().callback(None)
        self.redis.answer(row(N2))
        self.assertEqual(Route((N2,)), self.successResultOf(asked))

    def test_who_asks_during_a_read_is_not_served_by_it_if_the_row_has_changed(self) -> None:
        first = self.ask()
        self.rows.mark_changed([RED])
        second, third = self.ask(), self.ask()
        self.redis.answer(row(N1))
        self.assertEqual(Route((N1,)), self.successResultOf(first))
        self.assertNoResult(second)
        self.redis.answer(row(N2))
        self.assertEqual([Route((N2,))] * 2, [self.successResultOf(d) for d in (second, third)])
        self.assertEqual([], self.redis.reads)

    def test_who_asks_during_a_read_is_not_served_by_it_if_changes_may_be_unheard(self) -> None:
        first = self.ask()
        second = self.ask()
        self.clock.advance(FRESH_SECONDS * 1.01)
        self.redis.answer(row(N1))
        self.successResultOf(first)
        self.assertNoResult(second)
        self.redis.answer(row(N2))
        self.assertEqual(Route((N2,)), self.successResultOf(second))

    def test_one_read_serves_all_who_asked_while_nothing_changed(self) -> None:
        asked = [self.ask() for _ in range(3)]
        self.redis.answer(row(N1))
        self.assertEqual([Route((N1,))] * 3, [self.successResultOf(each) for each in asked])
        self.assertEqual([], self.redis.reads)

    def test_a_row_that_changes_while_it_is_read_is_read_again_at_the_next_question(self) -> None:
        asked = self.ask()
        self.rows.mark_changed([RED])
        self.redis.answer(row(N1))
        self.successResultOf(asked)
        self.assertEqual(Route((N2,)), self.read(row(N2)))

    def test_a_row_with_a_lease_that_has_ended_is_read_again(self) -> None:
        self.read(row(N1))
        self.clock.advance(30)
        self.redis.pong()
        self.assertEqual(Route(()), self.read(row()))

    def test_a_dead_node_is_told(self) -> None:
        dead = RowEntry(node="n9", viewers=1, frontend=None, known=False, lease_seconds=-2)
        self.read(Row(entries=[dead], table=b"1", young_seconds=0, lost=False))
        self.assertEqual(["n9"], self.dead)


class LossTests(RowsTestCase):
    """Redis is away, and comes back with or without its data."""

    def lose(self) -> None:
        self.rows.suspect_all()

    def test_while_it_is_away_old_rows_are_served_as_uncertain(self) -> None:
        self.read(row(N1))
        self.lose()
        asked = self.ask()
        self.redis.answer(Unavailable("away"))
        self.assertEqual(Route((N1,), certain=False), self.successResultOf(asked))

    def test_while_it_is_away_a_row_that_was_never_read_is_unavailable(self) -> None:
        first, second = self.ask(), self.ask()
        self.redis.answer(Unavailable("away"))
        for asked in (first, second):
            self.failureResultOf(asked, Unavailable)

    def test_a_lost_subscription_makes_rows_old_but_reads_certain(self) -> None:
        self.read(row(N1))
        self.rows.mark_all_changed()
        self.assertEqual(Route((N2,)), self.read(row(N2)))

    def test_after_it_is_back_routes_are_uncertain_until_all_have_announced_again(self) -> None:
        self.read(row(N1))
        self.lose()
        self.rows.expect_again()
        self.assertEqual(Route((N1,), certain=False), self.read(row(N1)))
        self.clock.advance(GRACE_SECONDS)
        self.redis.pong()
        self.assertEqual(Route((N1,)), self.successResultOf(self.ask()))

    def test_an_old_row_keeps_frontends_that_have_not_announced_again(self) -> None:
        self.read(row(N1, N2))
        self.lose()
        self.rows.expect_again()
        self.assertEqual({N1, N2}, set(self.read(row(table=b"")).frontends))
        self.assertEqual({N1, N2}, set(self.read(row(N1, table=b"2", known=False)).frontends))
        self.assertEqual(["n1", "n2"], sorted(self.redis.further[-1]))
        self.clock.advance(GRACE_SECONDS)
        self.assertEqual(Route((N1,)), self.read(row(N1, table=b"2")))

    def test_a_lease_that_ends_soon_after_it_is_back_takes_no_frontend_out(self) -> None:
        self.read(row(N1))
        self.lose()
        self.rows.expect_again()
        self.read(row(N1, lease_seconds=0.1))
        self.clock.advance(0.2)
        self.assertEqual(Route((N1,), certain=False), self.read(row(dead=[N1])))
        self.clock.advance(GRACE_SECONDS)
        self.assertEqual(Route(()), self.read(row(dead=[N1])))

    def test_a_lease_that_nobody_could_renew_counts_as_running(self) -> None:
        self.read(row(N1, lease_seconds=3))
        self.lose()
        self.clock.advance(5)
        self.rows.note_leases([])
        self.assertTrue(self.rows.has_lease(N1))
        self.rows.expect_again()
        self.rows.note_leases([])
        self.assertTrue(self.rows.has_lease(N1))
        self.assertFalse(self.rows.has_lease(N2))
        self.clock.advance(GRACE_SECONDS)
        self.assertFalse(self.rows.has_lease(N1))

    def test_a_frontend_that_leaves_a_topic_soon_after_it_is_back_has_left(self) -> None:
        self.read(row(N1, N2))
        self.lose()
        self.rows.expect_again()
        self.read(row(N1, N2))
        self.rows.mark_changed([RED])
        self.assertEqual(Route((N1,), certain=False), self.read(row(N1, without=[N2])))

    def test_an_empty_row_that_was_never_read_is_unavailable_until_all_have_announced_again(
        self,
    ) -> None:
        self.rows.route(RED)
        self.redis.answer(row(N1))
        self.rows._rows.clear()
        self.lose()
        self.rows.expect_again()
        for answer in (row(table=b""), row(table=b"2")):
            asked = self.ask()
            self.redis.answer(answer)
            self.failureResultOf(asked, Unavailable)
        self.clock.advance(GRACE_SECONDS)
        self.assertEqual(Route(()), self.read(row(table=b"2")))

    def test_a_row_that_is_announced_again_is_uncertain_until_all_are(self) -> None:
        self.rows.route(RED)
        self.redis.answer(row(N1))
        self.rows._rows.clear()
        self.lose()
        self.rows.expect_again()
        self.assertEqual(Route((N1,), certain=False), self.read(row(N1, table=b"2")))

    def test_data_that_survived_is_available_at_once(self) -> None:
        self.rows.route(RED)
        self.redis.answer(row(N1))
        self.rows._rows.clear()
        self.lose()
        self.rows.expect_again()
        self.assertEqual(Route((N1,), certain=False), self.read(row(N1)))

    def test_a_redis_that_somebody_has_emptied_is_noticed(self) -> None:
        self.read(row(N1))
        self.rows.mark_changed([RED])
        self.assertEqual(Route((N1,), certain=False), self.read(row(table=b"2")))

    def test_a_young_table_that_frontends_have_lost_another_for_is_not_believed(self) -> None:
        asked = self.ask()
        self.redis.answer(row(lost=True, young_seconds=1))
        self.failureResultOf(asked, Unavailable)
        self.assertEqual(
            Route((N1,), certain=False),
            self.read(row(N1, lost=True, young_seconds=1)),
        )
        self.clock.advance(GRACE_SECONDS)
        self.redis.pong()
        self.assertEqual(Route((N1,)), self.successResultOf(self.ask()))

    def test_a_new_table_of_new_frontends_is_believed(self) -> None:
        self.assertEqual(Route(()), self.read(row(table=b"")))
        self.rows.mark_changed([RED])
        self.assertEqual(Route((N1,)), self.read(row(N1, table=b"2", young_seconds=9)))
