"""Starts the processes that read a server's streams, and gives them orders."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from rtdeliver.bench.http import address_of
from rtdeliver.bench.latency import merged
from rtdeliver.bench.machine import allow_descriptors, source_addresses
from rtdeliver.bench.processes import Child
from rtdeliver.bench.progress import Progress
from rtdeliver.bench.reading import (
    SPARE_DESCRIPTORS,
    EndWindow,
    Finish,
    Measure,
    Opened,
    Outcome,
    ReaderPlan,
    Reopen,
    read_streams,
)
from rtdeliver.bench.tally import Window

STREAMS_PER_READER = 19_000
# How long to wait for the last events after all are published.
LAST_SECONDS = 10

_ANSWER_SECONDS = 30.0
_STREAMS_IN_FLIGHT = 200


class Readers:
    """Processes that hold streams.

    :param streams: how many streams they hold in all.
    """

    def __init__(self, children: Sequence[Child], streams: int) -> None:
        self._children = children
        self._streams = streams

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in self._children]

    def wait_open(self, progress: Progress, text: str = "connecting") -> float:
        """Wait until all streams are open; return the seconds that the slowest reader took."""
        latest: dict[Child, Opened] = {}
        waiting = list(self._children)
        while waiting:
            for child in waiting:
                latest[child] = child.receive(_ANSWER_SECONDS)
            done = sum(opened.streams for opened in latest.values())
            progress.update(done, self._streams, f"{text}: {done:,} streams")
            waiting = [child for child in waiting if latest[child].streams < latest[child].of]
        return max(opened.seconds for opened in latest.values())

    def measure(self, window: Window) -> None:
        """Measure the events that are due in ``window``. Publish nothing before this returns."""
        for child in self._children:
            child.send(Measure(window))
        for child in self._children:
            child.receive(_ANSWER_SECONDS)

    def end_window(self, end_ns: int) -> None:
        """Measure no events that are due from ``end_ns`` on, which must be now."""
        for child in self._children:
            child.send(EndWindow(end_ns))

    def reopen(self) -> None:
        """Close all streams, then open all of them again at once; see `wait_open`."""
        for child in self._children:
            child.send(Reopen())

    def finish(self, published: Mapping[int, int]) -> Outcome:
        """Wait at most `LAST_SECONDS` for the last events; return what was received.

        :param published: how many events there are, by topic.
        """
        for child in self._children:
            child.send(Finish(published, LAST_SECONDS))
        return _sum([child.receive(_ANSWER_SECONDS + LAST_SECONDS) for child in self._children])


@contextmanager
def started_readers(
    url: str,
    *,
    topics: Sequence[str],
    streams: int,
    readers: int = 0,
    in_flight: int = _STREAMS_IN_FLIGHT,
    open_seconds: float = 120.0,
) -> Iterator[Readers]:
    """Start readers, which begin to open their streams; they end with the ``with`` block.

    :param url: the server's; each stream's topic is appended to it.
    :param topics: the streams watch these in turns.
    :param readers: how many processes; 0 for as few as can hold the streams.
    :param in_flight: how many streams may be opening at a time.
    :raises BenchError: if there are not enough descriptors or ports.
    """
    readers = readers or readers_for(streams)
    share = -(-streams // readers)
    allow_descriptors(share + SPARE_DESCRIPTORS, "a reader of streams")
    sources = source_addresses(streams) if address_of(url)[0].startswith("127.") else []
    with ExitStack() as stack:
        children = []
        for number, first in enumerate(range(0, streams, share)):
            plan = ReaderPlan(
                url=url,
                topics=list(topics),
                first=first,
                streams=min(share, streams - first),
                sources=sources,
                in_flight=-(-in_flight // readers),
                open_seconds=open_seconds,
            )
            children.append(stack.enter_context(Child(f"reader {number}", read_streams, plan)))
        yield Readers(children, streams)


def readers_for(streams: int) -> int:
    """Return how many readers are needed to hold this number of streams."""
    return -(-streams // STREAMS_PER_READER)


def _sum(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(
        received=sum(outcome.received for outcome in outcomes),
        receives=sum(outcome.receives for outcome in outcomes),
        lost=sum(outcome.lost for outcome in outcomes),
        twice=sum(outcome.twice for outcome in outcomes),
        out_of_order=sum(outcome.out_of_order for outcome in outcomes),
        gaps=sum(outcome.gaps for outcome in outcomes),
        ended=sum(outcome.ended for outcome in outcomes),
        per_second=[
            sum(second)
            for second in zip(*(outcome.per_second for outcome in outcomes), strict=True)
        ],
        latency=merged(outcome.latency for outcome in outcomes),
    )
