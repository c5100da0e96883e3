"""How keys are spread over several stores, and how these are asked together."""

import hashlib
from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList


def shard_of(names: Iterable[str], key: str) -> str:
    """Return the one of ``names`` that has ``key``, by rendezvous hashing.

    One shard more or less moves only its own share.
    """
    return max(
        names,
        key=lambda name: hashlib.blake2b(f"{name}\n{key}".encode(), digest_size=8).digest(),
    )


async def all_of(answers: Iterable[Deferred[Any]]) -> list[Any]:
    """Wait for all of ``answers``, then return them, or raise the first error."""
    results = []
    for succeeded, answer in await DeferredList(list(answers), consumeErrors=True):
        if not succeeded:
            answer.raiseException()
        results.append(answer)
    return results
