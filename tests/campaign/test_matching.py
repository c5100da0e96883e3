"""Gaps and losses at random, against a search that tries all ways."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.campaign.history import Accepted, GapTold, History, Key
from tests.campaign.matching import LATE_SECONDS, Loss, match

TOPICS = ["live:red", "live:green", "live:blue"]
TIMES = st.floats(0, 2 * LATE_SECONDS)


class MatchTests(SynchronousTestCase):
    @given(
        began=st.lists(st.tuples(TIMES, st.sampled_from(TOPICS)), max_size=5),
        gaps=st.lists(
            st.builds(
                GapTold,
                lost=st.integers(1, 3),
                topics=st.frozensets(st.sampled_from(TOPICS), min_size=1),
                at=TIMES,
            ),
            max_size=3,
        ),
    )
    def test_gaps_are_used_so_that_they_tell_of_as_many_as_they_can(
        self, began: list[tuple[float, str]], gaps: list[GapTold]
    ) -> None:
        losses = [
            Loss(
                Accepted(Key("p", number), topic, 0, at, at, at),
                History("v", 0, 0),
                since=0,
                told_by=at + LATE_SECONDS,
            )
            for number, (at, topic) in enumerate(began)
        ]
        numbered, without_number, untold = match(losses, gaps)
        self.assertCountEqual([*numbered, *untold], losses)
        self.assertEqual(without_number, [])
        self.assertEqual(len(numbered), most_told(losses, [gap.lost or 0 for gap in gaps], gaps))


def most_told(losses: Sequence[Loss], left: Sequence[int], gaps: Sequence[GapTold]) -> int:
    """How many of the losses can be told by gaps, found by trying all ways."""
    if not losses:
        return 0
    event = losses[0].event
    told = [most_told(losses[1:], left, gaps)]
    for number, each in enumerate(gaps):
        if (
            left[number]
            and event.topic in each.topics
            and event.began < each.at < event.began + LATE_SECONDS
        ):
            fewer = [count - (place == number) for place, count in enumerate(left)]
            told.append(1 + most_told(losses[1:], fewer, gaps))
    return max(told)
