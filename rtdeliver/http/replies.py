"""How requests are answered: with JSON, refusals too."""

from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from twisted.web.server import Request

from rtdeliver.errors import InternalError, Refusal
from rtdeliver.http.requests import JSON, Post
from rtdeliver.wire import as_json


class Reply(msgspec.Struct, frozen=True):
    """An answer to a client; ``value`` is sent as JSON."""

    status: int
    value: object
    headers: Mapping[str, str] = {}

    @property
    def body(self) -> bytes:
        return as_json(self.value)


COMMON_FIELDS = {b"Server": b"rtdeliver", b"X-Content-Type-Options": b"nosniff"}
"""The header fields of every response."""

COMMON_LINES = b"".join(b"%b: %b\r\n" % field for field in COMMON_FIELDS.items())

PostHandler = Callable[[Post], Coroutine[Any, Any, Reply]]
"""Serves a POST, or raises a `Refusal`."""


def reason_phrase(status: int) -> bytes:
    """Return what a status is called."""
    return HTTPStatus(status).phrase.encode()


def refusal_reply(refusal: Refusal) -> Reply:
    """Return the answer to a request that is refused."""
    value: dict[str, object] = {"error": refusal.name, "message": refusal.message}
    if refusal.lines:
        value["lines"] = refusal.lines
    if refusal.topics:
        value["topics"] = refusal.topics
    return Reply(refusal.status, value, refusal.headers)


def internal_error() -> InternalError:
    """Return the refusal of a request that failed with an unexpected error, which is logged."""
    return InternalError("unexpected error; the log of the server has the details")


def answer(request: Request, status: int, value: object) -> bytes:
    """Set up a JSON response and return its body."""
    return reply_to(request, Reply(status, value))


def reply_to(request: Request, reply: Reply) -> bytes:
    """Set up the response to a request and return its body."""
    body = reply.body
    for name, value in reply.headers.items():
        request.setHeader(name, value)
    request.setResponseCode(reply.status, reason_phrase(reply.status))
    request.setHeader("Content-Type", JSON)
    request.setHeader("Cache-Control", "no-store")
    request.setHeader("Content-Length", str(len(body)))
    return b"" if request.method == b"HEAD" else body


def refuse(request: Request, refusal: Refusal) -> bytes:
    """Set up the response to a refused request and return its body."""
    return reply_to(request, refusal_reply(refusal))


def last_response(refusal: Refusal) -> bytes:
    """Return the bytes of the response to a refused request, after which the connection ends."""
    reply = refusal_reply(refusal)
    body = reply.body
    fields = b"".join(b"%b: %b\r\n" % (k.encode(), v.encode()) for k, v in reply.headers.items())
    return (
        b"HTTP/1.1 %d %b\r\n%bContent-Type: application/json\r\nCache-Control: no-store\r\n%b"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n%b"
    ) % (reply.status, reason_phrase(reply.status), COMMON_LINES, fields, len(body), body)


def close_after(request: Request) -> None:
    """Close the client's connection after the response."""
    channel: Any = request.channel
    channel.persistent = False
    request.setHeader("Connection", "close")
