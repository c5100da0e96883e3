"""Which members have streams at this frontend."""

from rtdeliver.model import Member


class Members:
    """Counts the streams of each member."""

    def __init__(self) -> None:
        self._streams: dict[Member, int] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, member: object) -> bool:
        return member in self._streams

    def add(self, member: Member) -> bool:
        """Count a new stream, and return whether it is the member's only one."""
        self._streams[member] = self._streams.get(member, 0) + 1
        return self._streams[member] == 1

    def discard(self, member: Member) -> bool:
        """Count an ended stream, and return whether it was the member's last."""
        streams = self._streams.pop(member) - 1
        if streams:
            self._streams[member] = streams
        return not streams
