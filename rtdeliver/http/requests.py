"""What is in a request: its header fields, query, body, token and address."""

import re
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from twisted.web.server import Request

from rtdeliver.errors import BadRequest, UnsupportedMediaType

JSON = "application/json"
NDJSON = "application/x-ndjson"

TOKEN_COOKIE = "rtdeliver_token"  # noqa: S105
"""The cookie in which a browser may send a member's token."""

# How many a list has, unless a request asks for more or less.
_USUAL, _MOST = 100, 1000
_LIMIT = re.compile(r"[0-9]{1,4}")
_HOST = re.compile(r"[A-Za-z0-9._-]+(?=:|$)|\[[0-9A-Fa-f:.]+\](?=:|$)")

_CHARSET = re.compile(r"""(?:^|;)\s*charset\s*=\s*"?([^\s;"]*)""", re.IGNORECASE)
# JSON in ASCII is JSON in UTF-8.
_UTF8 = ("utf-8", "utf8", "us-ascii", "ascii")


class Post(msgspec.Struct, frozen=True):
    """A POST with its complete body.

    :param content_type: the field ``Content-Type``; empty if it is missing.
    :param incarnation: the field ``Rt-Incarnation``; empty if it is missing.
    :param token: what limits the topics that may be published to; empty if nothing does.
    """

    content_type: str
    incarnation: str
    body: bytes
    token: str = ""


def header(request: Request, name: str) -> str:
    """Return a header field, decoded as Latin-1; empty if it is missing."""
    return request.requestHeaders.getRawHeaders(name.encode(), [b""])[0].decode("latin-1")


def media_type(content_type: str, *accepted: str) -> str:
    """Return the media type in a ``Content-Type`` field, without its parameters.

    :raises UnsupportedMediaType: if it is not one of ``accepted``, or has another charset than
        UTF-8.
    """
    name, _, parameters = content_type.partition(";")
    given = name.strip().lower()
    if given not in accepted:
        raise UnsupportedMediaType(
            f"send Content-Type: {' or '.join(accepted)}", headers={"Accept": ", ".join(accepted)}
        )
    charset = _CHARSET.search(parameters)
    if charset is not None and charset[1].lower() not in _UTF8:
        raise UnsupportedMediaType(f"send UTF-8, and not charset={charset[1]}")
    return given


def post_of(request: Request) -> Post:
    """Return the POST that a request is.

    :raises UnsupportedMediaType: if the body is compressed.
    """
    coding = header(request, "Content-Encoding").strip().lower()
    if coding not in ("", "identity"):
        raise UnsupportedMediaType(
            f"send the body uncompressed, and not with Content-Encoding: {coding}",
            headers={"Accept-Encoding": "identity"},
        )
    content: Any = request.content
    return Post(
        content_type=header(request, "Content-Type"),
        incarnation=header(request, "Rt-Incarnation"),
        body=content.read(),
        token=getattr(request, "publish_token", ""),
    )


def query_values(request: Request, name: str) -> list[str]:
    """Return the values of a query parameter, in order.

    :raises BadRequest: if a value is not UTF-8.
    """
    # Twisted and Werkzeug split a query at `;` too, which may be a part of a value.
    _, _, query = request.uri.partition(b"?")
    pairs = (pair.partition(b"=") for pair in query.replace(b"+", b" ").split(b"&"))
    values = [value for key, _, value in pairs if unquote_to_bytes(key) == name.encode()]
    try:
        return [unquote_to_bytes(value).decode() for value in values]
    except UnicodeDecodeError:
        raise BadRequest(f"the value of {name} is not UTF-8") from None


def single_value(request: Request, name: str) -> str:
    """Return the value of a query parameter; empty if it is missing.

    :raises BadRequest: if there are several, or the value is not UTF-8.
    """
    values = query_values(request, name)
    if len(values) > 1:
        raise BadRequest(f"give one {name}, not {len(values)}")
    return values[0] if values else ""


def limit_of(request: Request) -> int:
    """Return how many of something a request asks for, 1 to 1000; 100 if it does not say.

    :raises BadRequest: if that is not such a number.
    """
    text = single_value(request, "limit")
    if text and (not _LIMIT.fullmatch(text) or not 1 <= int(text) <= _MOST):
        raise BadRequest(f"limit must be a number from 1 to {_MOST}, not {text[:40]}")
    return int(text or _USUAL)


def bearer_token(request: Request) -> str:
    """Return the bearer token in the Authorization field; empty if there is none."""
    scheme, _, token = header(request, "Authorization").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def token_cookie(request: Request) -> str:
    """Return the token in the cookie; empty if there is none."""
    value = request.getCookie(TOKEN_COOKIE.encode())
    return value.decode("latin-1") if value else ""


def client_address(request: Request, *, behind_proxy: bool) -> str:
    """Return the address that a request comes from; empty for a UNIX socket.

    :param behind_proxy: whether to use the last entry of ``X-Forwarded-For``, which the nearest
        proxy sets.
    """
    if behind_proxy:
        # A proxy may add a second field after the one that the client sent.
        fields = request.requestHeaders.getRawHeaders(b"X-Forwarded-For", [b""])
        forwarded = fields[-1].decode("latin-1").rpartition(",")[2].strip()
        if forwarded:
            return forwarded
    return str(getattr(request.getClientAddress(), "host", ""))


def host_of(request: Request) -> str:
    """Return the host of the Host field, without the port; ``localhost`` if it is invalid."""
    match = _HOST.match(header(request, "Host"))
    return match[0] if match else "localhost"
