"""Which events belong to a sample: every process picks the same, and nothing travels with them."""

from binascii import crc32
from collections.abc import Mapping

_CHECKSUMS = 2**32


def is_sampled(id: str, one_in: int) -> bool:
    """Return whether the event with this id belongs to the sample of 1 event in ``one_in``.

    The events whose id has the lowest checksums (CRC-32) are picked, so that each sample holds all
    events of every smaller one.

    :param one_in: 0 for an empty sample.
    """
    return one_in > 0 and crc32(id.encode()) * one_in < _CHECKSUMS


class TypeSamples:
    """A sample whose size depends on the type of the event.

    :param one_in: the size for types that ``by_type`` does not name, as for `is_sampled`.
    """

    def __init__(self, one_in: int, by_type: Mapping[str, int]) -> None:
        self._one_in = one_in
        self._by_type = dict(by_type)
        sizes = [size for size in (one_in, *self._by_type.values()) if size]
        self._largest = min(sizes, default=0)

    def may_have(self, id: str) -> bool:
        """Return whether the event is in the sample if its type is the one most sampled."""
        return is_sampled(id, self._largest)

    def has(self, id: str, type: str) -> bool:
        """Return whether the event is in the sample."""
        return is_sampled(id, self._by_type.get(type, self._one_in))
