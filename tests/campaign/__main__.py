"""Runs a campaign from the command line: ``python -m tests.campaign --seconds 3600 --seed N``.

It prints the plan, what happens, and the report. The exit status is 1 if a promise was broken.
"""

import argparse
import random
import sys

from tests.campaign.campaign import Size, run
from tests.campaign.faults import KINDS, plan


def main() -> int:
    actions = sorted({kind.action for kind in KINDS})
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--seconds", type=float, default=100, help="how long faults happen")
    parser.add_argument("--seed", type=int, help="a random one, if none is given")
    parser.add_argument("--dispatchers", type=int, default=3)
    parser.add_argument("--frontends", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=actions, default=[], help="what may happen")
    parser.add_argument("--no-faults", action="store_true")
    given = parser.parse_args()
    seed = random.randrange(10**6) if given.seed is None else given.seed
    faults = plan(
        seed,
        given.seconds,
        dispatchers=given.dispatchers,
        frontends=given.frontends,
        actions=given.only,
    )
    faults = [] if given.no_faults else faults
    _tell(f"seed {seed}: {len(faults)} faults")
    for fault in faults:
        _tell(str(fault))
    size = Size(given.dispatchers, given.frontends)
    report = run(faults, seed=seed, seconds=given.seconds, size=size, tell=_tell)
    _tell(str(report))
    return 0 if report.is_clean else 1


def _tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
