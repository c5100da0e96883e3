"""The values that the packages exchange: frozen, and checked when made."""

import enum
import re
import secrets
from hashlib import blake2b
from typing import Literal, NewType, TypeAlias
from urllib.parse import urlsplit

import msgspec

from rtdeliver.errors import BadEvent, BadRequest, BadTopic

Topic = NewType("Topic", str)
"""Where an event goes; made by `check_topic`."""

ConnectionId = NewType("ConnectionId", str)
"""Names one stream. Whoever knows it can change the stream's topics."""

Member = NewType("Member", str)
"""Who a viewer is: the name in the token that an application has signed."""

TOPIC_BYTES = 1024
MEMBER_BYTES = 256
_FORBIDDEN_IN_TOPIC = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECRET_LENGTH = 22
# What a control counts for beside its texts.
_CONTROL_BYTES = 100
_URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[^\s\x00-\x20/?#@:\[\]]+)(:[0-9]+)?/?")


def check_topic(text: str) -> Topic:
    """Return ``text`` as a topic.

    :raises BadTopic: if it is empty, longer than 1024 bytes of UTF-8, or has a control
        character (Unicode category Cc) or a lone surrogate.
    """
    if not text:
        raise BadTopic("a topic must have at least one character")
    if _FORBIDDEN_IN_TOPIC.search(text):
        raise BadTopic("a topic must be valid UTF-8 without control characters")
    if len(text) * 4 > TOPIC_BYTES and len(text.encode()) > TOPIC_BYTES:
        raise BadTopic(f"a topic must have at most {TOPIC_BYTES} bytes of UTF-8")
    return Topic(text)


def check_member(text: str) -> Member:
    """Return ``text`` as a member.

    :raises BadRequest: if it is empty, longer than 256 bytes of UTF-8, or has a control character
        or a lone surrogate.
    """
    if not text or _FORBIDDEN_IN_TOPIC.search(text) or len(text.encode()) > MEMBER_BYTES:
        raise BadRequest(
            f"a member must be 1 to {MEMBER_BYTES} bytes of UTF-8 without control characters"
        )
    return Member(text)


def presence_topic(member: Member) -> Topic:
    """Return the topic to which the presence changes of ``member`` are published."""
    return Topic(f"presence:{member}")


def check_event_type(text: str) -> str:
    """Return ``text`` if it is a valid event type.

    :raises BadEvent: if it is not 1 to 64 of ``A-Z a-z 0-9 . _ -``.
    """
    if not _NAME.fullmatch(text):
        raise BadEvent("an event's type must be 1 to 64 of A-Z a-z 0-9 . _ -")
    return text


def check_event_id(text: str) -> str:
    """Return ``text`` if it is a valid event id.

    :raises BadEvent: if it is not 1 to 64 of ``A-Z a-z 0-9 . _ -``.
    """
    if not _NAME.fullmatch(text):
        raise BadEvent("an event's id must be 1 to 64 of A-Z a-z 0-9 . _ -")
    return text


class Place(msgspec.Struct, frozen=True):
    """Where an event is in the history of its topic.

    :param at: when it was stored, in milliseconds since the epoch, by the clock of the store.
    :param number: counts the events of the topic, without gaps.
    :param tag: tells the topic, and the epoch of its history: a history that has lost something
        begins another epoch. It is empty before the first event.
    """

    at: int
    number: int
    tag: str

    def __str__(self) -> str:
        return f"{self.at}-{self.number}-{self.tag}" if self.tag else ""

    @property
    def epoch(self) -> str:
        """The name of the epoch among those of the topic."""
        return self.tag[_TOPIC_TAG:]

    def is_of(self, topic: Topic) -> bool:
        """Whether it is a place in the history of ``topic``."""
        return self.tag[:_TOPIC_TAG] == topic_tag(topic)


BEGINNING = Place(0, 0, "")
"""Before the first event."""

# Of the digits of a tag, so many tell the topic.
_TOPIC_TAG = 8
_POSITION = re.compile("([0-9]{1,15})-([0-9]{1,15})-([0-9a-f]{16})")


def topic_tag(topic: Topic) -> str:
    """Return the part of a tag that tells the topic."""
    return blake2b(topic.encode(), digest_size=_TOPIC_TAG // 2).hexdigest()


def read_position(text: str) -> Place | None:
    """Return the place that ``text`` names, or ``None`` if it has another form."""
    found = _POSITION.fullmatch(text)
    return Place(int(found[1]), int(found[2]), found[3]) if found else None


def check_position(text: str) -> Place:
    """Return the place that ``text`` names.

    :raises BadRequest: if it has another form.
    """
    place = read_position(text)
    if place is None:
        raise BadRequest(f"{text[:64]} is no position: give one that an event had in its id: line")
    return place


def check_node(text: str) -> str:
    """Return ``text`` if it is a valid node name.

    :raises BadRequest: if it is not 1 to 64 of ``A-Z a-z 0-9 . _ -``.
    """
    if not _NAME.fullmatch(text):
        raise BadRequest(f"{text}: a node's name must be 1 to 64 of A-Z a-z 0-9 . _ -")
    return text


def check_datacenter(text: str) -> str:
    """Return ``text`` if it is a valid datacenter name.

    :raises BadRequest: if it is not 1 to 64 of ``A-Z a-z 0-9 . _ -``.
    """
    if not _NAME.fullmatch(text):
        raise BadRequest(f"{text}: a datacenter's name must be 1 to 64 of A-Z a-z 0-9 . _ -")
    return text


def check_url(text: str) -> str:
    """Return ``text`` if it is a valid base URL of a node, such as ``http://10.0.0.5:8090``.

    :raises BadRequest: if it is not.
    """
    try:
        valid = _URL.fullmatch(text) and urlsplit(text).port != 0
    except ValueError:
        valid = False
    if not valid:
        raise BadRequest(f"{text} is not a URL such as http://10.0.0.5:8090")
    return text


def make_connection_id(node: str) -> ConnectionId:
    """Return a new id with 128 random bits that names ``node``."""
    return ConnectionId(f"{node}-{secrets.token_urlsafe(16)}")


def node_of(connection_id: ConnectionId) -> str:
    """Return the name of the node that owns this connection."""
    return connection_id[: -_SECRET_LENGTH - 1]


class Event(msgspec.Struct, frozen=True, gc=False):
    """A published event.

    ``line`` is the event as frontends and browsers get it. The dispatcher that accepts the event
    makes the line, once; ``topic``, ``id`` and ``at`` are the same as in it.

    :param at: when the event was accepted, in milliseconds since the epoch; 0 if the line does not
        say so.
    :param position: its place in the history of its topic, as in the line; empty for an event that
        is not stored.
    """

    topic: Topic
    id: str
    line: bytes
    at: int = 0
    position: str = ""

    @property
    def size(self) -> int:
        """How many bytes the event counts for in a mailbox."""
        return len(self.line)


class Gap(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """``lost`` events of ``topic`` were dropped on the way to a frontend.

    :param stored: whether they are in the history of the topic.
    """

    topic: Topic
    lost: int
    stored: bool = False


class Revocation(msgspec.Struct, frozen=True, kw_only=True, tag_field="control", tag="disconnect"):
    """An order to end streams, and to refuse the tokens that were issued before it.

    :param kind: what it names: a member, one connection, or one token by its claim ``jti``.
    :param name: the name of that.
    :param reason: why, for the clients whose streams end.
    :param reconnect: whether these clients may come back, with a token that was issued later.
    :param at: when it was given, in milliseconds since the epoch. Of a member, only tokens that
        were issued until then are refused.
    :param until: until when it holds, in milliseconds since the epoch.
    """

    kind: Literal["member", "connection", "token"]
    name: str
    reason: str = ""
    reconnect: bool = False
    at: int
    until: int

    @property
    def size(self) -> int:
        """How many bytes it counts for in a mailbox."""
        return _CONTROL_BYTES + len(self.name) + len(self.reason)


class MemberTopics(msgspec.Struct, frozen=True, kw_only=True, tag_field="control", tag="topics"):
    """Topics that all open streams of a member get, whatever its tokens grant, or lose."""

    member: Member
    add: tuple[Topic, ...] = ()
    remove: tuple[Topic, ...] = ()

    @property
    def size(self) -> int:
        """How many bytes it counts for in a mailbox."""
        return _CONTROL_BYTES + sum(map(len, self.add)) + sum(map(len, self.remove))


Control: TypeAlias = Revocation | MemberTopics
"""What a dispatcher tells all frontends about viewers."""

Item: TypeAlias = Event | Gap | Control
"""What is delivered and forwarded, a line for each."""


class FrontendRef(msgspec.Struct, frozen=True):
    """One process of a frontend node, and where it takes deliveries.

    :param node: the node's name, which outlives the process.
    :param url: the base URL of its internal listener, such as ``http://10.0.0.5:8081``.
    :param incarnation: tells this process from all others that ever ran as ``node``.
    """

    node: str
    url: str
    incarnation: str

    def __post_init__(self) -> None:
        check_node(self.node)
        check_url(self.url)
        if not _NAME.fullmatch(self.incarnation):
            raise BadRequest("an incarnation must be 1 to 64 of A-Z a-z 0-9 . _ -")


class PeerRef(msgspec.Struct, frozen=True):
    """Another datacenter, and where its dispatchers take forwards.

    :param name: the datacenter's name.
    :param urls: the URLs of its dispatchers, at least one.
    """

    name: str
    urls: tuple[str, ...]

    def __post_init__(self) -> None:
        check_datacenter(self.name)
        for url in self.urls:
            check_url(url)


def parse_peer(text: str) -> PeerRef:
    """Read a peer as operators write it, such as ``dc2=http://10.1.0.2:8090,http://10.1.0.3:8090``.

    :raises BadRequest: if it does not have this form.
    """
    name, separator, urls = text.partition("=")
    if not separator or not urls:
        raise BadRequest(
            f"{text} is not a peer such as dc2=http://10.1.0.2:8090,http://10.1.0.3:8090"
        )
    return PeerRef(name=name, urls=tuple(urls.split(",")))


class CloseReason(enum.Enum):
    """Why a stream ended."""

    CLIENT_LEFT = "client_left"
    STALLED = "stalled"
    OVERFLOW = "overflow"
    DRAINED = "drained"
    EXPIRED = "expired"
    DISCONNECTED = "disconnected"
    FAILED = "failed"
