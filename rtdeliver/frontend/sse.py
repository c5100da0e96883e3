"""Frames of an event stream (WHATWG HTML, section 9.2).

Lines end in LF alone. ``id`` and ``data`` always come together. A heartbeat is a comment without a
blank line after it. No frame contains ``retry`` alone. Client libraries read other forms
differently.
"""

from collections.abc import Mapping, Sequence

from rtdeliver.model import ConnectionId, Event, Topic
from rtdeliver.wire import encode_line

CONTENT_TYPE = b"text/event-stream; charset=utf-8"
HEARTBEAT = b":\n"
HEARTBEAT_EVENT = b"event: heartbeat\ndata: {}\n\n"
"""A heartbeat for pages, which cannot see comments."""

_STAY_AWAY_SECONDS = 86_400


def event_frame(event: Event) -> bytes:
    """Return the frame of an event, which a browser passes to ``onmessage``."""
    return b"id: %b\ndata: %b\n\n" % ((event.position or event.id).encode(), event.line)


def connected_frame(
    connection_id: ConnectionId,
    *,
    topics: Sequence[Topic],
    pending: Sequence[Topic],
    resumed: Sequence[Topic] = (),
    lost: Sequence[Topic] | None = None,
    heads: Mapping[Topic, str] | None = None,
    heartbeat_seconds: float,
    receipts_one_in: int = 0,
    expires_in_seconds: float | None = None,
    reconnect_seconds: float,
) -> bytes:
    """Return the first frame of a stream.

    :param pending: topics that no dispatcher has confirmed yet; left out when there are none.
    :param resumed: the topics of a client that comes back, of which it is sent what it missed.
    :param lost: its other topics, of which it may have missed events; ``None`` for a client that
        comes for the first time.
    :param heads: the positions of the last events of those topics that have a history: a client
        that comes back has caught up once it has these; left out when there are none.
    :param heartbeat_seconds: within this time the client is always sent something, if only a
        heartbeat.
    :param receipts_one_in: the share of the events that a page is to tell it has received, as 1 in
        so many; left out when it is 0.
    :param expires_in_seconds: how long the client's token is valid; left out without a token.
    :param reconnect_seconds: how long a browser waits before it reconnects.
    """
    fields: dict[str, object] = {"connection": connection_id, "topics": sorted(topics)}
    if pending:
        fields["pending"] = sorted(pending)
    if lost is not None:
        fields["resumed"] = sorted(resumed)
        fields["lost"] = sorted(lost)
    if heads:
        fields["heads"] = heads
    fields["heartbeat_seconds"] = _number(heartbeat_seconds)
    if receipts_one_in:
        fields["receipts_one_in"] = receipts_one_in
    if expires_in_seconds is not None:
        fields["expires_in_seconds"] = round(expires_in_seconds, 1)
    return _control_frame("connected", fields, reconnect_seconds=reconnect_seconds)


def busy_frame(reason: str, *, reconnect_seconds: float) -> bytes:
    """Return the frame that asks the client to reconnect after ``reconnect_seconds``.

    It is the last frame of a stream.
    """
    return _control_frame("busy", {"reason": reason}, reconnect_seconds=reconnect_seconds)


def expired_frame() -> bytes:
    """Return the frame that says that the member's token has expired, the last of its stream."""
    return _control_frame("expired", {"expired": True})


def disconnected_frame(reason: str, *, reconnect: bool) -> bytes:
    """Return the frame that says that a backend has ended the stream, the last of its stream.

    :param reconnect: whether the client may come back. One that may not is told to wait for a day,
        since an EventSource comes back unless its page closes it.
    """
    return _control_frame(
        "disconnected",
        {"reason": reason, "reconnect": reconnect},
        reconnect_seconds=None if reconnect else _STAY_AWAY_SECONDS,
    )


def topics_frame(added: Sequence[Topic], removed: Sequence[Topic]) -> bytes:
    """Return the frame that says which topics a backend has added to a stream, or removed."""
    return _control_frame("topics", {"added": sorted(added), "removed": sorted(removed)})


def gap_frame(lost: int, topics: Sequence[Topic]) -> bytes:
    """Return the frame that says that ``lost`` events of ``topics`` were not sent.

    :param lost: 0 if the number is unknown; the frame then has ``null``.
    """
    return _control_frame("gap", {"lost": lost or None, "topics": sorted(topics)})


def _control_frame(name: str, fields: object, *, reconnect_seconds: float | None = None) -> bytes:
    retry = b"" if reconnect_seconds is None else b"retry: %d\n" % round(reconnect_seconds * 1000)
    return b"%bevent: %b\ndata: %b\n\n" % (retry, name.encode(), encode_line(fields))


def _number(seconds: float) -> float | int:
    return int(seconds) if seconds == int(seconds) else seconds
