"""The chunked transfer coding, in which HTTP/1.1 clients get streams (RFC 9112, section 7.1).

Clients see each chunk as soon as it is there, and the last chunk tells an orderly end from a crash.
The bytes that many viewers share are coded once for all of them. HTTP/1.0 knows no coding, so
`PlainStream` takes it off.
"""

from zope.interface import implementer

from rtdeliver.errors import StreamLost
from rtdeliver.interfaces import IStream, IStreamOwner

LAST_CHUNK = b"0\r\n\r\n"
"""What ends a stream in order."""

_HEAD_END = b"\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return a chunk of ``data``, which must not be empty, since that would be the last chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def contents(chunks: bytes) -> bytes:
    """Return what is in complete chunks."""
    pieces = []
    position = 0
    while position < len(chunks):
        begin = chunks.index(b"\r\n", position) + 2
        end = begin + int(chunks[position : begin - 2], 16)
        pieces.append(chunks[begin:end])
        position = end + 2
    return b"".join(pieces)


@implementer(IStream)
class PlainStream:
    """Sends what is in the chunks that it is given, for a client that knows no chunks.

    It takes all that it is given, and sends it on as the client reads. While it holds some, it
    takes nothing. The first send begins with the head of the response, which is in no chunk.

    It is between its owner and another stream, which it treats as that one's owner does.
    """

    _stream: IStream

    def __init__(self, owner: IStreamOwner) -> None:
        self._owner = owner
        self._is_first = True
        self._rest = b""
        self._owner_waits = False
        self._closing = False

    def attached(self, stream: IStream) -> None:
        """Send through ``stream`` from now on."""
        self._stream = stream
        self._owner.attached(self)

    def send(self, data: bytes) -> int:
        if self._rest:
            self._owner_waits = True
            return 0
        head, chunks = b"", data
        if self._is_first:
            end = data.index(_HEAD_END) + len(_HEAD_END)
            head, chunks = data[:end], data[end:]
            self._is_first = False
        self._send(head + contents(chunks))
        return len(data)

    def writable(self) -> None:
        """Called when the other stream takes data again."""
        try:
            self._send(self._rest)
        except StreamLost:
            self._stream.abort()
            return
        if self._rest:
            return
        if self._closing:
            self._stream.close()
        elif self._owner_waits:
            self._owner_waits = False
            self._owner.writable()

    def unsent_bytes(self) -> int:
        return self._stream.unsent_bytes() + len(self._rest)

    def close(self) -> None:
        self._closing = True
        if not self._rest:
            self._stream.close()

    def abort(self) -> None:
        self._stream.abort()

    def _send(self, data: bytes) -> None:
        self._rest = data[self._stream.send(data) :] if data else b""
