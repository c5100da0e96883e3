"""How keys are spread over several stores."""

import hashlib
from collections.abc import Iterable


def shard_of(names: Iterable[str], key: str) -> str:
    """Return the one of ``names`` that holds ``key``, by rendezvous hashing.

    If a shard is added or removed, only the keys of that shard move.
    """
    return max(
        names,
        key=lambda name: hashlib.blake2b(f"{name}\n{key}".encode(), digest_size=8).digest(),
    )
