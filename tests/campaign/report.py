"""What a campaign tells: counts, and for each broken promise enough to find the fault."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.campaign.accounting import Account, Disorder
from tests.campaign.datacenter import Happened
from tests.campaign.matching import Loss

_MOST = 40
# Which faults are shown with a loss: those that were there so long before, or after.
_AROUND_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Report:
    """The account of a campaign, beside what happened.

    :ivar began: when the campaign began, in seconds of time.monotonic(). Times in the text count
        from then on.
    :ivar drops: what the processes that ran at the end have dropped, by place and reason.
    :ivar failures: internal errors of the processes, and answers that nobody should get.
    """

    account: Account
    began: float
    happened: Sequence[Happened]
    drops: Mapping[str, Mapping[str, int]]
    failures: Sequence[str]

    @property
    def is_clean(self) -> bool:
        """Whether all promises were kept, and nothing failed inside."""
        return self.account.is_clean and not self.failures

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        sum = self.account
        counts = {
            "accepted": sum.accepted,
            "due receipts": sum.due,
            "received": sum.received,
            "told by gaps": sum.told,
            "told by gaps without a number": sum.told_without_number,
            "lost with a killed dispatcher": sum.killed,
            "undecided, since the stream ended": len(sum.undecided),
            "unaccounted": len(sum.unaccounted),
            "told and not counted": sum.uncounted,
            "twice": len(sum.twice),
            "out of order": len(sum.out_of_order),
        }
        yield from (f"{count:9,}  {what}" for what, count in counts.items())
        yield from (f"dropped at {at}: {dict(why)}" for at, why in self.drops.items() if why)
        yield from self.failures
        losses = sorted(sum.unaccounted, key=lambda loss: loss.event.accepted)
        for loss in losses[:_MOST]:
            yield from self._loss(loss)
        for what, disorders in (("twice", sum.twice), ("out of order", sum.out_of_order)):
            for disorder in disorders[:_MOST]:
                yield from self._disorder(what, disorder)

    def _loss(self, loss: Loss) -> Iterator[str]:
        event, history, since, *_ = loss
        yield (
            f"LOST {event.topic}: {event.key.producer} number {event.key.number}, "
            f"accepted by d{event.dispatcher} at {self._time(event.accepted)} "
            f"(begun {self._time(event.began)}), by {history.viewer} at n{history.frontend}, "
            f"connected {self._time(history.began)}, subscribed {self._time(since)}"
        )
        for gap in history.gaps:
            if event.topic in gap.topics:
                yield f"    a gap of {gap.lost} at {self._time(gap.at)}"
        yield from self._around(event.accepted)

    def _disorder(self, what: str, disorder: Disorder) -> Iterator[str]:
        receipt, history = disorder
        yield (
            f"{what.upper()} {receipt.topic}: {receipt.key.producer} number {receipt.key.number}, "
            f"through d{receipt.dispatcher}, at {self._time(receipt.at)}, "
            f"by {history.viewer} at n{history.frontend}, connected {self._time(history.began)}"
        )
        yield from self._around(receipt.at)

    def _around(self, at: float) -> Iterator[str]:
        for fault, began, ended in self.happened:
            if began - _AROUND_SECONDS / 4 <= at <= ended + _AROUND_SECONDS:
                yield (
                    f"    {fault.action} {fault.place}, {self._time(began)} to {self._time(ended)}"
                )

    def _time(self, at: float) -> str:
        return f"{at - self.began:.3f} s"
