"""Runs a campaign from its plan to its report."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.campaign.accounting import Account, account
from tests.campaign.datacenter import Datacenter
from tests.campaign.faults import Fault
from tests.campaign.history import Disturbance, Drops, Ledger
from tests.campaign.matching import LATE_SECONDS
from tests.campaign.producers import Producer, Publisher
from tests.campaign.report import Report
from tests.campaign.visitors import Visitor
from tests.integration.streams import Viewers

HEAL_SECONDS = 8.0
"""How long producers and viewers go on after the last fault, when all are ready."""

_PRODUCERS = 3
_PRODUCER_PAUSE_SECONDS = 0.025
_STAYERS = 6
_MOVERS = 9


class Size(NamedTuple):
    """How many processes there are."""

    dispatchers: int = 3
    frontends: int = 3


def run(
    faults: Sequence[Fault], *, seed: int, seconds: float, size: Size, tell: Callable[[str], None]
) -> Report:
    """Let the faults of a plan happen while producers publish and viewers watch.

    :param seconds: when the faults are over.
    :param tell: is told what happens.
    """
    with (
        Datacenter(dispatchers=size.dispatchers, frontends=size.frontends) as datacenter,
        Viewers() as viewers,
        _Crowd(datacenter, viewers, seed=seed, size=size) as crowd,
    ):
        began = time.monotonic()
        _carry_out(faults, datacenter, began, tell)
        _wait_until(began + seconds)
        datacenter.wait_ready()
        _wait_until(time.monotonic() + HEAL_SECONDS)
        tell("the faults are over")
        crowd.stop()
        return Report(
            _settle(crowd, datacenter),
            began=began,
            happened=datacenter.happened,
            drops={name: place.dropped() for name, place in datacenter.places.items()},
            failures=[*datacenter.failures(), *crowd.ledger.refusals],
        )


class _Crowd:
    """All producers and visitors; a context manager, so that none outlives a failure."""

    def __init__(self, datacenter: Datacenter, viewers: Viewers, *, seed: int, size: Size) -> None:
        self.ledger = Ledger()
        self._urls = datacenter.publish_urls
        self._producers = [
            Producer(
                self._publisher(f"p{number}"),
                dispatchers=size.dispatchers,
                pause_seconds=_PRODUCER_PAUSE_SECONDS,
                seed=f"{seed}-p{number}",
            )
            for number in range(_PRODUCERS)
        ]
        self.visitors = [
            Visitor(
                f"v{number}",
                viewers,
                datacenter.public_urls,
                self._publisher(f"v{number}"),
                dispatchers=size.dispatchers,
                stays=number < _STAYERS,
                seed=f"{seed}-v{number}",
            )
            for number in range(_STAYERS + _MOVERS)
        ]

    def __enter__(self) -> "_Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        for visitor in self.visitors:
            visitor.stop()
        for producer in self._producers:
            producer.stop()

    def stop(self) -> None:
        """Nobody does anything more, but streams that are open stay open.

        The last events are published when nobody changes topics any more.
        """
        for visitor in self.visitors:
            visitor.stop()
        for visitor in self.visitors:
            visitor.join()
        for producer in self._producers:
            producer.stop()
        for producer in self._producers:
            producer.join()

    def _publisher(self, name: str) -> Publisher:
        return Publisher(name, self._urls, self.ledger)


def _carry_out(
    faults: Sequence[Fault], datacenter: Datacenter, began: float, tell: Callable[[str], None]
) -> None:
    steps = [(fault.at, 0, fault) for fault in faults]
    steps += [(fault.until, 1, fault) for fault in faults]
    for at, is_end, fault in sorted(steps):
        _wait_until(began + at)
        if is_end:
            datacenter.end(fault)
        else:
            tell(str(fault))
            datacenter.begin(fault)


def _settle(crowd: _Crowd, datacenter: Datacenter) -> Account:
    """Wait until all that is due has come or was told, but no longer than it may take."""
    deadline = time.monotonic() + LATE_SECONDS
    while True:
        for visitor in crowd.visitors:
            visitor.look()
        # What is told is counted before.
        sum = _account(crowd, datacenter, datacenter.drops())
        if sum.is_clean or time.monotonic() > deadline:
            return sum
        _wait_until(time.monotonic() + 1)


def _account(crowd: _Crowd, datacenter: Datacenter, drops: Drops) -> Account:
    histories = [visit.history for visitor in crowd.visitors for visit in visitor.visits]
    return account(
        crowd.ledger.accepted,
        histories,
        kills=datacenter.kills,
        disturbances=[
            Disturbance(fault.place, began, ended) for fault, began, ended in datacenter.happened
        ],
        drops=drops,
    )


def _wait_until(at: float) -> None:
    time.sleep(max(0.0, at - time.monotonic()))
