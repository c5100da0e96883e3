"""The head of a request: its line and its header fields (RFC 9112).

Heads are checked before Twisted reads them. Twisted takes some that a proxy in front of it may read
differently, and refuses others without saying why.
"""

import re
from collections.abc import Iterable, Sequence

import msgspec

from rtdeliver.errors import BadRequest, HeadersTooLarge, Refusal, UriTooLong

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE = re.compile(rb"(%b) ([\x21-\x7e]+) HTTP/1\.([01])" % _TOKEN)
_FIELD = re.compile(rb"(%b):[ \t]*(.*?)[ \t]*" % _TOKEN, re.DOTALL)
# uri-host [":" port] of RFC 3986, section 3.2.2.
_AUTHORITY = re.compile(
    rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\])(?::[0-9]{0,5})?"
)
_ABSOLUTE = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE)
# Everything but CR, LF and NUL may be in a value (RFC 9110, section 5.5).
_FORBIDDEN = re.compile(rb"[\r\n\0]")
_MOST_FIELDS = 250

Fields = list[tuple[bytes, bytes]]
"""Names in small letters, and values."""


class Head(msgspec.Struct, frozen=True):
    """The head of a request, as the lines that Twisted is to read.

    :param target: the path, perhaps with a query; ``*`` for the server as a whole.
    """

    lines: Sequence[bytes]
    target: bytes


def read_request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the method, the target and the minor version of HTTP.

    :raises BadRequest: if it is no request line.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise BadRequest(
            f"the request line {_shown(line)} must be a method, a target and HTTP/1.1 or HTTP/1.0,"
            " with one space between"
        )
    return match[1], match[2], match[3]


def read_head(lines: Sequence[bytes]) -> Head:
    """Check the head of a request.

    A target in absolute form becomes a path, and its host replaces the field (RFC 9112, section
    3.2.2).

    :param lines: without the empty line at the end.
    :raises Refusal: `BadRequest` or `HeadersTooLarge`.
    """
    method, target, minor = read_request_line(lines[0])
    fields = [_field(line) for line in lines[1:]]
    if len(fields) > _MOST_FIELDS:
        raise HeadersTooLarge(f"a request may have at most {_MOST_FIELDS} header fields")
    _check_framing(fields, is_1_0=minor == b"0")
    host = _host(fields, is_1_0=minor == b"0")
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:
        host, target = absolute[1], _path(absolute[2], method)
        if not host or not _AUTHORITY.fullmatch(host):
            raise BadRequest(f"the target names no host: {_shown(host)}")
    elif not target.startswith(b"/") and target != b"*":
        raise BadRequest(f"the target {_shown(target)} must begin with / or http://")
    others = [line for line, (name, _) in zip(lines[1:], fields, strict=True) if name != b"host"]
    hosts = [] if host is None else [b"Host: " + host]
    return Head(
        lines=[b"%b %b HTTP/1.%b" % (method, target, minor), *hosts, *others], target=target
    )


def too_large(lines: Iterable[bytes], limit_bytes: int) -> Refusal:
    """Return the refusal of a head that is larger than ``limit_bytes``.

    :param lines: what came before the line that is too much.
    """
    what = f"{limit_bytes} bytes (http.head_bytes)"
    if any(lines):
        return HeadersTooLarge(
            f"the request line and the header fields, with cookies, may have at most {what}"
        )
    return UriTooLong(
        f"the request line may have at most {what}; for more topics, POST them to"
        " /connections/{id}/topics"
    )


def list_of(values: Iterable[bytes]) -> list[bytes]:
    """Return the members of a field that is a list, in small letters (RFC 9110, section 5.6.1)."""
    return [member.strip(b" \t").lower() for value in values for member in value.split(b",")]


def _field(line: bytes) -> tuple[bytes, bytes]:
    if line[:1] in (b" ", b"\t"):
        raise BadRequest("a header field must be on one line")
    match = _FIELD.fullmatch(line)
    if match is None:
        raise BadRequest(f"the header line {_shown(line)} must be NAME: VALUE")
    if _FORBIDDEN.search(match[2]):
        raise BadRequest(f"the header field {_shown(match[1])} has a line break or a NUL in it")
    return match[1].lower(), match[2]


def _check_framing(fields: Fields, *, is_1_0: bool) -> None:
    """Refuse what may be read in two ways (RFC 9112, section 6)."""
    codings = list_of(value for name, value in fields if name == b"transfer-encoding")
    lengths = [value for name, value in fields if name == b"content-length"]
    if codings and (codings != [b"chunked"] or is_1_0):
        raise BadRequest("Transfer-Encoding must be chunked, and only in HTTP/1.1")
    if codings and lengths:
        raise BadRequest("send Content-Length or Transfer-Encoding, and not both")
    if len(lengths) > 1 or not all(re.fullmatch(rb"[0-9]{1,18}", value) for value in lengths):
        raise BadRequest("Content-Length must be one decimal number")


def _host(fields: Fields, *, is_1_0: bool) -> bytes | None:
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1 or not (hosts or is_1_0):
        raise BadRequest(f"a request must have one Host field, not {len(hosts)} (RFC 9112, 3.2)")
    if hosts and not _AUTHORITY.fullmatch(hosts[0]):
        raise BadRequest(f"the Host field {_shown(hosts[0])} must be HOST or HOST:PORT")
    return hosts[0] if hosts else None


def _path(rest: bytes, method: bytes) -> bytes:
    if rest.startswith(b"/"):
        return rest
    return b"*" if not rest and method == b"OPTIONS" else b"/" + rest


def _shown(data: bytes) -> str:
    """Return the beginning of what a client sent, for a message to it."""
    text = repr(data[:60].decode("latin-1"))
    return text if len(data) <= 60 else f"{text}..."
