"""Measures how one dispatcher routes events of many topics to many frontends."""

import argparse
import random
from collections.abc import Mapping, Sequence

from rtdeliver.bench.options import positive_int
from rtdeliver.bench.progress import Progress
from rtdeliver.bench.publish import Case, add_load_arguments, load_settings, measure
from rtdeliver.bench.report import Report

NAME = "route"
HELP = "Publishes to random topics, which are spread over many stand-in frontends."

_SINGLE, _BATCH = KINDS = ("single", "batch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_load_arguments(parser)
    parser.add_argument(
        "--frontends", type=positive_int, default=50, help="stand-in frontends, all in one process"
    )
    parser.add_argument(
        "--topics", type=positive_int, default=10_000, help="topics, spread over the frontends"
    )
    parser.add_argument(
        "--viewers-per-topic",
        type=positive_int,
        default=3,
        help="each topic has viewers on one to this many frontends",
    )
    parser.add_argument(
        "--kind", choices=KINDS, action="append", help="measure only single events, or only batches"
    )


def run(options: argparse.Namespace, progress: Progress) -> list[Report]:
    topics = [f"bench:{number}" for number in range(options.topics)]
    nodes = [f"stand-in-{number}" for number in range(options.frontends)]
    viewers = spread(topics, nodes, most=options.viewers_per_topic)
    return [
        measure(_case(kind, options, topics, viewers), progress)
        for kind in KINDS
        if kind in (options.kind or KINDS)
    ]


def spread(topics: Sequence[str], nodes: Sequence[str], *, most: int) -> dict[str, list[str]]:
    """Return the topics of each node; each topic is on one to ``most`` nodes, chosen at random.

    Every run makes the same choice.
    """
    chance = random.Random(0)
    found: dict[str, list[str]] = {node: [] for node in nodes}
    for topic in topics:
        for node in chance.sample(nodes, chance.randint(1, min(most, len(nodes)))):
            found[node].append(topic)
    return found


def _case(
    kind: str,
    options: argparse.Namespace,
    topics: Sequence[str],
    viewers: Mapping[str, Sequence[str]],
) -> Case:
    batch = options.batch if kind == _BATCH else 0
    return Case(
        title=f"route {kind}",
        settings={
            "topics": len(topics),
            "frontends": len(viewers),
            "viewers_per_topic": options.viewers_per_topic,
            **load_settings(options, batch),
        },
        topics=topics,
        viewers=viewers,
        batch=batch,
        connections=options.connections,
        seconds=options.seconds,
        rate=options.rate or 0.0,
        pad=options.bytes,
    )
