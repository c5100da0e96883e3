"""Which members have streams at this frontend."""

from collections.abc import Collection, Hashable
from typing import Generic, TypeVar

from rtdeliver.model import Member

V = TypeVar("V", bound=Hashable)


class Members(Generic[V]):
    """Maps each member to its streams."""

    def __init__(self) -> None:
        # Mostly a member has one stream, and then there is no set around it.
        self._streams: dict[Member, V | set[V]] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, member: object) -> bool:
        return member in self._streams

    def streams(self, member: Member) -> Collection[V]:
        """Return the streams of a member as they are now."""
        held = self._streams.get(member)
        if held is None:
            return ()
        return tuple(held) if isinstance(held, set) else (held,)

    def add(self, member: Member, stream: V) -> bool:
        """Note a new stream, and return whether it is the member's only one."""
        held = self._streams.get(member)
        if held is None:
            self._streams[member] = stream
        elif isinstance(held, set):
            held.add(stream)
        else:
            self._streams[member] = {held, stream}
        return held is None

    def discard(self, member: Member, stream: V) -> bool:
        """Note that a stream has ended, and return whether it was the member's last."""
        held = self._streams[member]
        if isinstance(held, set) and len(held) > 1:
            held.discard(stream)
            return False
        del self._streams[member]
        return True
