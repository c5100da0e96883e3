"""Undoes the chunked transfer coding, as a client does."""


class ChunkDecoder:
    """Decodes chunks (RFC 9112, section 7.1) from whatever pieces of them come."""

    def __init__(self) -> None:
        self._rest = b""
        self._missing = 0
        self._is_in_chunk = False
        self.complete = False

    def feed(self, data: bytes) -> bytes:
        """Return the content of the chunks in ``data``.

        :raises ValueError: if these are no chunks.
        """
        self._rest += data
        content = b""
        while self._rest and not self.complete:
            if self._missing:
                piece = self._rest[: self._missing]
                content += piece
                self._missing -= len(piece)
                self._rest = self._rest[len(piece) :]
                continue
            line, end, rest = self._rest.partition(b"\r\n")
            if not end:
                break
            self._rest = rest
            if self._is_in_chunk:
                if line:
                    raise ValueError(f"a chunk is too long: {line!r}")
                self._is_in_chunk = False
                continue
            self._missing = int(line.split(b";")[0], 16)
            if self._missing:
                self._is_in_chunk = True
            elif rest.startswith(b"\r\n"):
                self.complete = True
            else:
                self._rest = line + end + rest
                break
        return content
