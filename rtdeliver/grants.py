"""Which topics somebody may watch or publish to: patterns, and who matches them.

A pattern is literal text in which ``*`` stands for any run of characters, also for none. No regular
expression is made of it, so no pattern takes more time than its length times that of the topic.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from rtdeliver.errors import BadRequest
from rtdeliver.model import TOPIC_BYTES, Topic

MOST_PATTERNS = 100
"""How many patterns a claim or a setting may have."""

# Of sets of patterns that are kept, so that many viewers with the same share one.
_KEPT = 1024


class Patterns:
    """A set of patterns. Those with the same texts are the same object; see `patterns`."""

    __slots__ = ("_all", "_exact", "_prefixes", "_split", "texts")

    def __init__(self, texts: tuple[str, ...]) -> None:
        self.texts = texts
        parts = [text.split("*") for text in texts]
        self._all = any(text and not text.strip("*") for text in texts)
        self._exact = frozenset(first for first, *rest in parts if not rest)
        self._prefixes = tuple(p[0] for p in parts if len(p) == 2 and not p[1])
        self._split = tuple(
            (p[0], tuple(filter(None, p[1:-1])), p[-1])
            for p in parts
            if len(p) > 2 or (len(p) == 2 and p[1])
        )

    def cover(self, text: str) -> bool:
        """Return whether some pattern matches the whole of ``text``."""
        return (
            self._all
            or text in self._exact
            or (bool(self._prefixes) and text.startswith(self._prefixes))
            or any(_matches(text, *parts) for parts in self._split)
        )


class Grants(msgspec.Struct, frozen=True, gc=False):
    """What somebody may do.

    :param subscribe: the topics that may be watched.
    :param publish: the topics that may be published to.
    """

    subscribe: Patterns
    publish: Patterns


def patterns(texts: Iterable[str]) -> Patterns:
    """Return patterns with these texts.

    :raises BadRequest: if there are too many, or if one is empty or longer than a topic.
    """
    return _patterns(tuple(texts))


@lru_cache(_KEPT)
def _patterns(texts: tuple[str, ...]) -> Patterns:
    if len(texts) > MOST_PATTERNS:
        raise BadRequest(f"there may be at most {MOST_PATTERNS} patterns, not {len(texts)}")
    for text in texts:
        if not text:
            raise BadRequest("a pattern must have at least one character; * matches everything")
        if len(text.encode("utf-8", "surrogatepass")) > TOPIC_BYTES:
            raise BadRequest(f"a pattern may have at most {TOPIC_BYTES} bytes of UTF-8")
    return Patterns(texts)


@lru_cache(_KEPT)
def grants(subscribe: Patterns, publish: Patterns) -> Grants:
    """Return the grants of these patterns. The same ones are the same object."""
    return Grants(subscribe, publish)


NOTHING = grants(patterns(()), patterns(()))
"""The grants of who may do nothing."""

EVERYTHING = grants(patterns(("*",)), patterns(("*",)))
"""The grants of who may do all."""


def _matches(text: str, first: str, between: tuple[str, ...], last: str) -> bool:
    """Whether ``text`` is ``first``, then the others in order, then ``last``, with any between."""
    end = len(text) - len(last)
    if not (text.startswith(first) and text.endswith(last)) or end < len(first):
        return False
    position = len(first)
    for part in between:
        # The leftmost place leaves most room for what follows.
        position = text.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True


def not_covered(topics: Iterable[Topic], *allowed: Patterns) -> tuple[Topic, ...]:
    """Return those of ``topics`` that none of the patterns match."""
    return tuple(t for t in topics if not any(each.cover(t) for each in allowed))


def named(topics: Sequence[Topic]) -> str:
    """Return the first of ``topics`` as a message names them."""
    more = f" and {len(topics) - 3} more" if len(topics) > 3 else ""
    return ", ".join(topic[:100] for topic in topics[:3]) + more
