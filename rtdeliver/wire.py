"""Bodies on the wire: how they are decoded and checked, and how they are encoded.

People write some bodies by hand (`/publish`, `/connections/.../topics`); in these, an unknown field
is an error. In bodies between nodes, unknown fields are ignored, so that two versions can work
together.
"""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from rtdeliver.config.sections import Publishing
from rtdeliver.errors import (
    BadEvent,
    BadJson,
    BadRequest,
    BadTopic,
    Forbidden,
    Refusal,
    TooLarge,
)
from rtdeliver.messages import (
    END,
    Acknowledgement,
    Announcement,
    HistoryPage,
    HistoryQuery,
    HopRecord,
    Presence,
    PresenceHeartbeat,
    Receipt,
    Refreshed,
    Revocations,
    Subscriptions,
    TopicMembers,
    TopicsChange,
)
from rtdeliver.model import (
    BEGINNING,
    ConnectionId,
    Control,
    Event,
    FrontendRef,
    Gap,
    Item,
    MemberTopics,
    Place,
    Revocation,
    Topic,
    check_event_id,
    check_event_type,
    check_member,
    check_position,
    check_topic,
)

T = TypeVar("T")

# The numbers of scripts in Redis are exact up to this.
_EXACT = 2**53
# So the viewers of very many topics may be added up.
_MOST_VIEWERS = 2**31 - 1

# The longest reason for which streams are ended, and the longest name of a token or a connection.
_REASON_CHARACTERS = 256
_NAME_CHARACTERS = 1024
# How many topics a backend may add to a member's streams at a time, and how many it may remove.
_MOST_MEMBER_TOPICS = 100
# What the line of a control begins with, as `encode_batch` writes it.
_CONTROL = b'{"control":'
# How many events a page may tell at a time to have received.
_MOST_RECEIPTS = 100

encode = msgspec.json.encode
"""Return a value as compact JSON in UTF-8."""


# Some client libraries end a line at these, as Python's str.splitlines does. JSON has them within
# strings only, where they may be escaped (RFC 8259, section 7).
_LINE_ENDS = {
    "\u0085".encode(): b"\\u0085",
    "\u2028".encode(): b"\\u2028",
    "\u2029".encode(): b"\\u2029",
}
# What a body begins with that is not plain UTF-8.
_BEGINNINGS = {
    b"\xef\xbb\xbf": "it begins with a byte-order mark (BOM); send UTF-8 without one",
    b"\xff\xfe": "it is in UTF-16; send UTF-8",
    b"\xfe\xff": "it is in UTF-16; send UTF-8",
    b"\x1f\x8b": "it is compressed with gzip; send it uncompressed",
    b"\x28\xb5\x2f\xfd": "it is compressed with zstd; send it uncompressed",
}
# Escapes, among them pairs of surrogates, and ``half`` a pair (RFC 8259, section 8.2).
_SURROGATES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)


def encode_line(value: Any) -> bytes:
    """Return ``value`` as compact JSON on what every client takes for one line."""
    return _on_one_line(encode(value))


def as_json(value: Any) -> bytes:
    """Return ``value`` as compact JSON with a line break at its end, for people who use curl."""
    return encode(value) + b"\n"


class Draft(msgspec.Struct, frozen=True):
    """An event as its producer gave it: checked, not yet accepted.

    ``data`` is compact JSON on one line.
    """

    topic: Topic
    type: str
    data: bytes
    id: str | None


class _PublishBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    topic: str
    data: msgspec.Raw
    type: str = "message"
    id: str | None = None


class _TopicsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    add: list[str] = []
    remove: list[str] = []
    # As far as numbers in JavaScript are exact.
    sequence: Annotated[int, Meta(ge=0, lt=2**53)] | None = None


class _TokenBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: str


class _DisconnectBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    member: str | None = None
    connection: str | None = None
    token: str | None = None
    reason: Annotated[str, Meta(max_length=_REASON_CHARACTERS)] = ""
    reconnect: bool = False


class _MemberTopicsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    add: Annotated[list[str], Meta(max_length=_MOST_MEMBER_TOPICS)] = []
    remove: Annotated[list[str], Meta(max_length=_MOST_MEMBER_TOPICS)] = []


class _ReceiptBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    connection: str
    round_trip_ms: Annotated[float, Meta(ge=0, le=60_000)]
    events: Annotated[list[str], Meta(max_length=_MOST_RECEIPTS)]


class _AnnouncementBody(msgspec.Struct, frozen=True):
    frontend: FrontendRef
    counts: dict[str, int]
    held: dict[str, int] = {}
    full: bool = False
    part: int = 0
    more: bool = False
    lease_seconds: float = 30.0
    sequence: int = 0
    after: int = 0


class _HeartbeatBody(msgspec.Struct, frozen=True):
    members: list[str]
    heartbeat_seconds: float | None = None


class _TopicBody(msgspec.Struct, frozen=True):
    viewers: int


class _RefusalBody(msgspec.Struct, frozen=True):
    message: str
    topics: list[str] = []


class _TypeLine(msgspec.Struct, frozen=True):
    type: str = "message"


class _EventLine(msgspec.Struct, frozen=True):
    topic: str
    id: str | None = None
    lost: int = 0
    stored: bool = False
    at: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    position: Annotated[str, Meta(max_length=64)] = ""


class _QueryBody(msgspec.Struct, frozen=True, omit_defaults=True):
    topic: str
    since: str = ""
    at: Annotated[int, Meta(ge=0, le=_EXACT)] | None = None
    rewind: Annotated[int, Meta(ge=0, le=_EXACT)] | None = None
    before: str = ""
    newest: bool = False
    limit: Annotated[int, Meta(ge=0, le=_EXACT)] = 100


class _QueriesBody(msgspec.Struct, frozen=True):
    queries: Annotated[list[_QueryBody], Meta(max_length=100)]


class _PageBody(msgspec.Struct, frozen=True, omit_defaults=True):
    events: list[msgspec.Raw]
    start: str = ""
    head: str = ""
    lost: int = 0


class _PagesBody(msgspec.Struct, frozen=True):
    pages: list[_PageBody | None]


_publish_body = msgspec.json.Decoder(_PublishBody)
_topics_body = msgspec.json.Decoder(_TopicsBody)
_receipt_body = msgspec.json.Decoder(_ReceiptBody)
_announcement_body = msgspec.json.Decoder(_AnnouncementBody)
_heartbeat_body = msgspec.json.Decoder(_HeartbeatBody)
_topic_body = msgspec.json.Decoder(_TopicBody)
_presence_body = msgspec.json.Decoder(list[Presence])
_acknowledgement_body = msgspec.json.Decoder(Acknowledgement)
_frontends_body = msgspec.json.Decoder(list[FrontendRef])
_subscriptions_body = msgspec.json.Decoder(Subscriptions)
_event_line = msgspec.json.Decoder(_EventLine)
_type_line = msgspec.json.Decoder(_TypeLine)
_hop_record = msgspec.json.Decoder(HopRecord)
_control_line = msgspec.json.Decoder(Control)
_disconnect_body = msgspec.json.Decoder(_DisconnectBody)
_member_topics_body = msgspec.json.Decoder(_MemberTopicsBody)
_token_body = msgspec.json.Decoder(_TokenBody)
_refreshed_body = msgspec.json.Decoder(Refreshed)
_topic_members_body = msgspec.json.Decoder(TopicMembers)
_queries_body = msgspec.json.Decoder(_QueriesBody)
_pages_body = msgspec.json.Decoder(_PagesBody)
_revocations_body = msgspec.json.Decoder(Revocations)


def decode_publish(body: bytes, limits: Publishing) -> Draft:
    """Read the body of one published event.

    :raises Refusal: `BadJson`, `BadTopic`, `BadEvent` or `TooLarge`.
    """
    if len(body) > limits.batch_bytes:
        raise TooLarge(f"a body may have at most {limits.batch_bytes} bytes")
    fields = decode(_publish_body.decode, body, BadEvent)
    data = _compact(fields.data)
    if len(data) > limits.event_bytes:
        raise TooLarge(f"an event's data may have at most {limits.event_bytes} bytes")
    return Draft(
        topic=check_topic(fields.topic),
        type=check_event_type(fields.type),
        data=data,
        id=None if fields.id is None else check_event_id(fields.id),
    )


def decode_publish_batch(body: bytes, limits: Publishing) -> list[Draft]:
    """Read NDJSON with one published event in each line; blank lines are ignored.

    :raises Refusal: the error of the first bad line, with the numbers of all bad lines.
    """
    if len(body) > limits.batch_bytes:
        raise TooLarge(f"a batch may have at most {limits.batch_bytes} bytes")
    drafts: list[Draft] = []
    bad: dict[int, Refusal] = {}
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line.strip():
            continue
        if len(drafts) + len(bad) == limits.batch_events:
            raise TooLarge(f"a batch may have at most {limits.batch_events} events")
        try:
            drafts.append(decode_publish(line, limits))
        except Refusal as refusal:
            bad[number] = refusal
    if bad:
        raise _bad_lines(bad)
    return drafts


def numbers_of_lines(body: bytes) -> list[int]:
    """Return the numbers of the lines in which a batch has its events, in their order."""
    return [number for number, line in enumerate(body.split(b"\n"), 1) if line.strip()]


def encode_event(draft: Draft, *, id: str, at: int) -> Event:
    """Return the event, with the line that frontends and browsers get.

    :param at: when the event was accepted, in milliseconds since the epoch.
    """
    line = b'{"topic":%b,"type":"%b","id":"%b","at":%d,"data":%b}' % (
        encode_line(draft.topic),
        draft.type.encode(),
        id.encode(),
        at,
        draft.data,
    )
    return Event(topic=draft.topic, id=id, line=line, at=at)


def placed(event: Event, place: Place) -> Event:
    """Return an event of a history, with its position as the last field of its line.

    :param event: without a position.
    """
    position = str(place)
    return Event(
        topic=event.topic,
        id=event.id,
        line=b'%b,"position":"%b"}' % (event.line[:-1], position.encode()),
        at=event.at,
        position=position,
    )


def kept_event(topic: Topic, line: bytes) -> Event:
    """Return an event as a history has kept it."""
    fields = _event_line.decode(line)
    return Event(topic=topic, id=fields.id or "", line=line, at=fields.at)


def without_position(event: Event) -> Event:
    """Return an event as it was before `placed`.

    :raises BadEvent: if the position is not the last field of the line.
    """
    if not event.position:
        return event
    end = b',"position":"%b"}' % event.position.encode()
    if not event.line.endswith(end):
        raise BadEvent("the position must be the last field of an event line")
    line = event.line[: -len(end)] + b"}"
    return Event(topic=event.topic, id=event.id, line=line, at=event.at)


def encode_batch(batch: Sequence[Item]) -> bytes:
    """Return the body of a delivery: a line for each event, unchanged, gap and control."""
    return b"\n".join(item.line if isinstance(item, Event) else encode(item) for item in batch)


def decode_batch(body: bytes) -> list[Item]:
    """Read the body of a delivery.

    :raises Refusal: as for `decode_publish_batch`.
    """
    if b"\r" in body:
        raise BadEvent("an event line must not have a carriage return: browsers end a line there")
    batch: list[Item] = []
    bad: dict[int, Refusal] = {}
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line:
            continue
        try:
            batch.append(
                _decode_control(line) if line.startswith(_CONTROL) else _decode_event(line)
            )
        except Refusal as refusal:
            bad[number] = refusal
    if bad:
        raise _bad_lines(bad)
    return batch


def type_of(event: Event) -> str:
    """Return the type in the line of an event; that of an event without one is ``message``.

    :raises Refusal: `BadJson` or `BadEvent`.
    """
    return decode(_type_line.decode, event.line, BadEvent).type


def encode_records(records: Sequence[HopRecord]) -> bytes:
    """Return records of tracked events as NDJSON."""
    return b"\n".join(map(encode, records))


def decode_records(body: bytes, max_records: int) -> list[HopRecord]:
    """Read records of tracked events.

    :raises Refusal: `BadJson`, `BadRequest` or `TooLarge`.
    """
    lines = [line for line in body.split(b"\n") if line]
    if len(lines) > max_records:
        raise TooLarge(f"a body may have at most {max_records} records")
    return [decode_record(line) for line in lines]


def decode_record(line: bytes) -> HopRecord:
    """Read a record of a tracked event.

    :raises Refusal: `BadJson` or `BadRequest`.
    """
    return decode(_hop_record.decode, line, BadRequest)


def decode_topics_change(body: bytes) -> TopicsChange:
    """Read the body of a change of subscriptions.

    :raises Refusal: `BadJson`, `BadRequest` or `BadTopic`.
    """
    fields = decode(_topics_body.decode, body, BadRequest)
    return TopicsChange(
        add=tuple(check_topic(text) for text in fields.add),
        remove=tuple(check_topic(text) for text in fields.remove),
        sequence=fields.sequence,
    )


def decode_receipt(body: bytes) -> Receipt:
    """Read what a page tells to have received.

    :raises Refusal: `BadJson` or `BadRequest`.
    """
    fields = decode(_receipt_body.decode, body, BadRequest)
    return Receipt(
        connection=ConnectionId(fields.connection),
        round_trip_ms=fields.round_trip_ms,
        events=tuple(fields.events),
    )


def decode_announcement(body: bytes) -> Announcement:
    """Read a frontend's announcement of its viewers.

    :raises Refusal: `BadJson`, `BadRequest` or `BadTopic`.
    """
    fields = decode(_announcement_body.decode, body, BadRequest)
    for name in ("part", "sequence", "after"):
        if not 0 <= getattr(fields, name) <= _EXACT:
            raise BadRequest(f"{name} must be between 0 and {_EXACT}")
    if not 0 <= fields.lease_seconds <= 3600:
        raise BadRequest("lease_seconds must be between 0 and 3600")
    return Announcement(
        frontend=fields.frontend,
        counts=_check_counts(fields.counts),
        held=_check_counts(fields.held),
        full=fields.full,
        part=fields.part,
        more=fields.more,
        lease_seconds=fields.lease_seconds,
        sequence=fields.sequence,
        after=fields.after,
    )


def _check_counts(counts: dict[str, int]) -> dict[Topic, int]:
    if any(not 0 <= count <= _MOST_VIEWERS for count in counts.values()):
        raise BadRequest(f"a count of viewers must be between 0 and {_MOST_VIEWERS}")
    return {check_topic(text): count for text, count in counts.items()}


def decode_heartbeat(
    body: bytes, *, max_members: int, default_heartbeat_seconds: float
) -> PresenceHeartbeat:
    """Read a frontend's report of its members.

    :param max_members: how many members one body may name.
    :param default_heartbeat_seconds: the interval if the body does not give one.
    :raises Refusal: `BadJson`, `BadRequest` or `TooLarge`.
    """
    fields = decode(_heartbeat_body.decode, body, BadRequest)
    seconds = fields.heartbeat_seconds
    if seconds is None:
        seconds = default_heartbeat_seconds
    if not 0 < seconds <= 3600:
        raise BadRequest("heartbeat_seconds must be more than 0 and at most 3600")
    if len(fields.members) > max_members:
        raise TooLarge(f"a heartbeat may name at most {max_members} members")
    return PresenceHeartbeat(
        members=tuple(check_member(text) for text in fields.members), heartbeat_seconds=seconds
    )


def decode_presence(body: bytes) -> list[Presence]:
    """Read a dispatcher's answer on which members are online.

    :raises Refusal: `BadJson` or `BadRequest`.
    """
    return decode(_presence_body.decode, body, BadRequest)


def decode_topic_viewers(body: bytes) -> int:
    """Read the number of viewers from a dispatcher's answer about a topic.

    :raises Refusal: `BadJson` or `BadRequest`.
    """
    return decode(_topic_body.decode, body, BadRequest).viewers


def decode_acknowledgement(body: bytes) -> Acknowledgement:
    """Read a dispatcher's answer to an announcement.

    :raises Refusal: `BadJson` or `BadRequest`.
    """
    return decode(_acknowledgement_body.decode, body, BadRequest)


def decode_frontends(body: bytes) -> list[FrontendRef]:
    """Read a dispatcher's list of frontends.

    :raises Refusal: `BadJson` or `BadRequest`.
    """
    return decode(_frontends_body.decode, body, BadRequest)


def forbidden_in(body: bytes) -> Forbidden:
    """Return what another node has answered with status 403."""
    told = _refusal_in(body)
    return Forbidden(told.message, topics=told.topics)


def message_in(body: bytes) -> str:
    """Return why another node has refused a request."""
    return _refusal_in(body).message


def _refusal_in(body: bytes) -> "_RefusalBody":
    try:
        return msgspec.json.decode(body, type=_RefusalBody)
    except msgspec.MsgspecError:
        return _RefusalBody(message="this is not allowed")


def decode_subscriptions(body: bytes) -> Subscriptions:
    """Read another frontend's answer on the topics of a connection.

    :raises Refusal: `BadJson` or `BadRequest`.
    """
    return decode(_subscriptions_body.decode, body, BadRequest)


def decode_token(body: bytes) -> str:
    """Read the body with a new token for a connection.

    :raises Refusal: `BadJson` or `BadRequest`.
    """
    return decode(_token_body.decode, body, BadRequest).token


def decode_refreshed(body: bytes) -> Refreshed:
    """Read another frontend's answer to a new token.

    :raises Refusal: `BadJson` or `BadRequest`.
    """
    return decode(_refreshed_body.decode, body, BadRequest)


def decode_disconnect(body: bytes, *, at: float, keep_seconds: float) -> Revocation:
    """Read whom a backend disconnects.

    :param at: when that came, in seconds since the epoch.
    :param keep_seconds: how long it holds.
    :raises Refusal: `BadJson` or `BadRequest`.
    """
    fields = decode(_disconnect_body.decode, body, BadRequest)
    named: list[tuple[Any, str]] = [
        (kind, name)
        for kind in ("member", "connection", "token")
        if (name := getattr(fields, kind)) is not None
    ]
    if len(named) != 1:
        raise BadRequest(
            'name one member, one connection or one token: {"member":"ann"},'
            ' {"connection":"n1-..."} or {"token":"the jti of a token"}'
        )
    [(kind, name)] = named
    milliseconds = int(at * 1000)
    return _check_revocation(
        Revocation(
            kind=kind,
            name=name,
            reason=fields.reason,
            reconnect=fields.reconnect,
            at=milliseconds,
            until=milliseconds + round(keep_seconds * 1000),
        )
    )


def decode_member_topics(member: str, body: bytes) -> MemberTopics:
    """Read which topics a backend adds to the streams of a member, and which it removes.

    :raises Refusal: `BadJson`, `BadRequest` or `BadTopic`.
    """
    fields = decode(_member_topics_body.decode, body, BadRequest)
    if not fields.add and not fields.remove:
        raise BadRequest('give topics to add or to remove: {"add":["conv:7"],"remove":["conv:6"]}')
    return MemberTopics(
        member=check_member(member),
        add=tuple(check_topic(text) for text in fields.add),
        remove=tuple(check_topic(text) for text in fields.remove),
    )


def decode_revocations(body: bytes) -> Revocations:
    """Read a page of what a dispatcher keeps.

    :raises Refusal: `BadJson` or `BadRequest`.
    """
    page = decode(_revocations_body.decode, body, BadRequest)
    for revocation in page.revocations:
        _check_revocation(revocation)
    return page


def encode_queries(queries: Sequence[HistoryQuery]) -> bytes:
    """Return the body with which a frontend asks for events of histories."""
    bodies = [
        _QueryBody(
            topic=query.topic,
            since=str(query.since or ""),
            at=query.at,
            rewind=query.rewind,
            before=str(query.before or ""),
            newest=query.before == END,
            limit=query.limit,
        )
        for query in queries
    ]
    return encode(_QueriesBody(bodies))


def decode_queries(body: bytes) -> list[HistoryQuery]:
    """Read what a frontend asks of histories.

    :raises Refusal: `BadJson`, `BadRequest` or `BadTopic`.
    """
    return [
        HistoryQuery(
            topic=check_topic(query.topic),
            since=_place(query.since),
            at=query.at,
            rewind=query.rewind,
            before=END if query.newest else _place(query.before),
            limit=query.limit,
        )
        for query in decode(_queries_body.decode, body, BadRequest).queries
    ]


def _place(text: str) -> Place | None:
    return check_position(text) if text else None


def encode_pages(pages: Sequence[HistoryPage | None]) -> bytes:
    """Return the answer to `encode_queries`."""
    return encode(
        _PagesBody(
            [
                None
                if page is None
                else _PageBody(
                    events=[msgspec.Raw(event.line) for event in page.events],
                    start=str(page.start),
                    head=str(page.head),
                    lost=page.lost,
                )
                for page in pages
            ]
        )
    )


def decode_pages(body: bytes) -> list[HistoryPage | None]:
    """Read a dispatcher's answer to `encode_queries`.

    :raises Refusal: `BadJson`, `BadRequest`, `BadTopic` or `BadEvent`.
    """
    return [
        None if page is None else _page(page)
        for page in decode(_pages_body.decode, body, BadRequest).pages
    ]


def history_answer(topic: Topic, page: HistoryPage) -> object:
    """Return a page of a history as clients read it."""
    events = page.events
    return {
        "topic": topic,
        "events": [msgspec.Raw(event.line) for event in events],
        "first": events[0].position if events else None,
        "last": events[-1].position if events else None,
        "complete": not page.lost,
    }


def _page(page: _PageBody) -> HistoryPage:
    events = [_decode_event(bytes(line)) for line in page.events]
    return HistoryPage(
        events=tuple(event for event in events if isinstance(event, Event)),
        start=_place(page.start) or BEGINNING,
        head=_place(page.head) or BEGINNING,
        lost=page.lost,
    )


def decode_topic_members(body: bytes) -> TopicMembers:
    """Read a frontend's answer on who watches a topic.

    :raises Refusal: `BadJson` or `BadRequest`.
    """
    return decode(_topic_members_body.decode, body, BadRequest)


def decode_kept(texts: Sequence[bytes]) -> tuple[Revocation, ...]:
    """Read revocations as a store has kept them; see `encode`."""
    return tuple(msgspec.json.decode(text, type=Revocation) for text in texts)


def _decode_control(line: bytes) -> Control:
    control: Control = decode(_control_line.decode, line, BadRequest)
    if isinstance(control, Revocation):
        return _check_revocation(control)
    check_member(control.member)
    for topic in (*control.add, *control.remove):
        check_topic(topic)
    return control


def _check_revocation(revocation: Revocation) -> Revocation:
    if revocation.kind == "member":
        check_member(revocation.name)
    elif not 1 <= len(revocation.name) <= _NAME_CHARACTERS:
        raise BadRequest(f"a {revocation.kind} must be 1 to {_NAME_CHARACTERS} characters")
    if not 0 <= revocation.at <= revocation.until <= _EXACT:
        raise BadRequest("at and until must be milliseconds since the epoch, in this order")
    try:
        f"{revocation.name}{revocation.reason}".encode()
    except UnicodeEncodeError:
        raise BadRequest("a name and a reason must be valid UTF-8") from None
    return revocation


def _decode_event(line: bytes) -> Event | Gap:
    fields = decode(_event_line.decode, line, BadEvent)
    _check_utf8(line)
    topic = check_topic(fields.topic)
    if fields.id is None:
        if fields.lost < 1:
            raise BadEvent("an event line must have an id")
        return Gap(topic=topic, lost=fields.lost, stored=fields.stored)
    if fields.position:
        check_position(fields.position)
    return Event(
        topic=topic,
        id=check_event_id(fields.id),
        line=line,
        at=fields.at,
        position=fields.position,
    )


def decode(decoder: Callable[[bytes], T], body: bytes, wrong: type[Refusal]) -> T:
    """Read a body.

    :param decoder: the method of a decoder of msgspec.
    :param wrong: the refusal of a body that is JSON, but not of the expected form.
    :raises Refusal: ``wrong``, `BadTopic` if the field ``topic`` is wrong, or `BadJson`.
    """
    try:
        return decoder(body)
    except msgspec.ValidationError as error:
        if str(error).endswith("`$.topic`"):
            raise BadTopic(str(error)) from None
        raise wrong(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadJson(f"not JSON in UTF-8: {_what_is_wrong(body, error)}") from None
    except RecursionError:
        raise BadJson("the JSON is nested too deeply") from None


def _what_is_wrong(body: bytes, error: Exception) -> str:
    for beginning, what in _BEGINNINGS.items():
        if body.startswith(beginning):
            return what
    half = _half_of_a_pair(body)
    if half is not None:
        return f"{half.decode()} is half of a surrogate pair, which is no character"
    return str(error)


def _half_of_a_pair(body: bytes) -> bytes | None:
    found = _SURROGATES.finditer(body)
    return next((match["half"] for match in found if match["half"] is not None), None)


def _compact(raw: msgspec.Raw) -> bytes:
    """Return the JSON on one line: a line break within an event would break its frame.

    The encoding is checked here, because msgspec does not check the encoding of raw values.
    """
    data: bytes = decode(_strip_spaces, bytes(raw), BadJson)
    _check_utf8(data)
    return _on_one_line(data)


def _on_one_line(data: bytes) -> bytes:
    if not data.isascii():
        for line_end, escape in _LINE_ENDS.items():
            data = data.replace(line_end, escape)
    return data


def _strip_spaces(data: bytes) -> bytes:
    return msgspec.json.format(data, indent=-1)


def _check_utf8(data: bytes) -> None:
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise BadJson(f"not JSON in UTF-8: {error}") from None


def _bad_lines(bad: dict[int, Refusal]) -> Refusal:
    first = next(iter(bad.values()))
    messages = [f"line {number}: {refusal.message}" for number, refusal in bad.items()]
    more = f"; and {len(messages) - 3} more" if len(messages) > 3 else ""
    return type(first)("; ".join(messages[:3]) + more, lines=tuple(bad))
