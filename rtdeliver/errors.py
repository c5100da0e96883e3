"""Which requests are refused, which calls can fail, and what a refusal is called on the wire."""

from collections.abc import Mapping, Sequence
from typing import ClassVar


class Refusal(Exception):
    """A request is refused; the answer is ``{"error": name, "message": ...}``.

    :param message: what is wrong and what would be right, for the person who sent it.
    :param lines: for a batch, the numbers of the bad lines; the first line is 1.
    :param topics: those that the client may not use, if that is what is wrong.
    :param headers: header fields of the answer, such as ``Allow``.
    """

    name: ClassVar[str] = "bad_request"
    status: ClassVar[int] = 400

    def __init__(
        self,
        message: str,
        *,
        lines: Sequence[int] = (),
        topics: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.lines = tuple(lines)
        self.topics = tuple(topics)
        self.headers = dict(headers or {})


class BadRequest(Refusal):
    """The body or the query does not fit this path."""


class BadJson(Refusal):
    """The body is not JSON in UTF-8."""

    name = "bad_json"


class BadTopic(Refusal):
    """A topic breaks the rule for topics."""

    name = "bad_topic"


class BadEvent(Refusal):
    """A field of an event, other than its topic, is missing or wrong."""

    name = "bad_event"


class Unauthorized(Refusal):
    """The secret or the token that the request needs is missing or wrong."""

    name = "unauthorized"
    status = 401


class Forbidden(Refusal):
    """The client may not do this here."""

    name = "forbidden"
    status = 403


class NotFound(Refusal):
    """Nothing is served at this path."""

    name = "not_found"
    status = 404


class UnknownConnection(Refusal):
    """No connection has this id; one that had it may have ended."""

    name = "unknown_connection"
    status = 404


class MethodNotAllowed(Refusal):
    """The path exists, but does not take this method."""

    name = "method_not_allowed"
    status = 405


class RequestTimeout(Refusal):
    """A part of the request took too long to come."""

    name = "request_timeout"
    status = 408


class TooManyTopics(Refusal):
    """The connection would have more topics than it may have."""

    name = "too_many_topics"
    status = 409


class StaleIncarnation(Refusal):
    """The events were meant for an earlier process of this node."""

    name = "stale_incarnation"
    status = 410


class TooLarge(Refusal):
    """An event, a batch or a body is over its limit."""

    name = "too_large"
    status = 413


class UriTooLong(Refusal):
    """The request line is over its limit."""

    name = "uri_too_long"
    status = 414


class UnsupportedMediaType(Refusal):
    """The body has a media type that this path does not take."""

    name = "unsupported_media_type"
    status = 415


class TooManyRequests(Refusal):
    """The client has sent too many requests; ``Retry-After`` says when it may send the next."""

    name = "too_many_requests"
    status = 429


class HeadersTooLarge(Refusal):
    """The head of the request is over its limit."""

    name = "headers_too_large"
    status = 431


class InternalError(Refusal):
    """An unexpected error in this process; its log has the details."""

    name = "internal_error"
    status = 500


class Unavailable(Refusal):
    """This process cannot reach something that it depends on."""

    name = "unavailable"
    status = 503


class RemoteFailure(Exception):
    """A call to another node failed."""


class Unreachable(RemoteFailure):
    """No connection could be made, so nothing reached the other node."""


class Refused(Unreachable):
    """The other machine refused the connection: the node's process is gone."""


class AnswerLost(RemoteFailure):
    """No answer came to a request: the other node may have carried it out."""


class AnsweredNo(RemoteFailure):
    """The other node answered with a refusal.

    :param status: the HTTP status of the answer.
    :param body: of the answer.
    """

    def __init__(self, status: int, message: str, body: bytes = b"") -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.body = body


class StreamLost(Exception):
    """The client of a stream is gone; nothing more can be sent on the stream."""


class ConfigError(Exception):
    """An option or a configuration key is wrong; the text is one line for the operator."""

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))
