"""How keys are spread over several stores."""

import hashlib
from collections.abc import Iterable


def shard_of(names: Iterable[str], key: str) -> str:
    """Return the one of ``names`` that has ``key``, by rendezvous hashing.

    One shard more or less moves only its own share.
    """
    return max(
        names,
        key=lambda name: hashlib.blake2b(f"{name}\n{key}".encode(), digest_size=8).digest(),
    )
