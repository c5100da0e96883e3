"""The values that the rooms exchange: frozen, and checked when made."""

import enum
import re
import secrets
from typing import NewType
from urllib.parse import urlsplit

import msgspec

from rtdeliver.errors import BadEvent, BadRequest, BadTopic

Topic = NewType("Topic", str)
"""Where an event goes; made by `check_topic`."""

ConnectionId = NewType("ConnectionId", str)
"""Names one stream, and allows whoever knows it to change the stream's topics."""

Member = NewType("Member", str)
"""Who a viewer is, as the application that signed the viewer's token calls them."""

TOPIC_BYTES = 1024
MEMBER_BYTES = 256
_FORBIDDEN_IN_TOPIC = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECRET_LENGTH = 22
_URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[^\s\x00-\x20/?#@:\[\]]+)(:[0-9]+)?/?")


def check_topic(text: str) -> Topic:
    """Return ``text`` as a topic.

    :raises BadTopic: if it is empty, longer than 1024 bytes of UTF-8, or has a control
        character (Unicode category Cc) or a lone surrogate.
    """
    if not text:
        raise BadTopic("a topic has at least one character")
    if _FORBIDDEN_IN_TOPIC.search(text):
        raise BadTopic("a topic has no control characters and is valid UTF-8")
    if len(text) * 4 > TOPIC_BYTES and len(text.encode()) > TOPIC_BYTES:
        raise BadTopic(f"a topic has at most {TOPIC_BYTES} bytes of UTF-8")
    return Topic(text)


def check_member(text: str) -> Member:
    """Return ``text`` as a member.

    :raises BadRequest: if it is empty, longer than 256 bytes of UTF-8, or has a control character
        or a lone surrogate.
    """
    if not text or _FORBIDDEN_IN_TOPIC.search(text) or len(text.encode()) > MEMBER_BYTES:
        raise BadRequest(f"a member is 1 to {MEMBER_BYTES} bytes of UTF-8, no control characters")
    return Member(text)


def presence_topic(member: Member) -> Topic:
    """Return the topic of who wants to know when ``member`` comes and goes."""
    return Topic(f"presence:{member}")


def check_event_type(text: str) -> str:
    """Return ``text`` if it may be an event's type.

    :raises BadEvent: if it is not 1 to 64 of ``A-Z a-z 0-9 . _ -``.
    """
    if not _NAME.fullmatch(text):
        raise BadEvent("an event's type is 1 to 64 of A-Z a-z 0-9 . _ -")
    return text


def check_event_id(text: str) -> str:
    """Return ``text`` if it may be an event's id.

    :raises BadEvent: if it is not 1 to 64 of ``A-Z a-z 0-9 . _ -``.
    """
    if not _NAME.fullmatch(text):
        raise BadEvent("an event's id is 1 to 64 of A-Z a-z 0-9 . _ -")
    return text


def check_node(text: str) -> str:
    """Return ``text`` if it may be a node's name.

    :raises BadRequest: if it is not 1 to 64 of ``A-Z a-z 0-9 . _ -``.
    """
    if not _NAME.fullmatch(text):
        raise BadRequest("a node's name is 1 to 64 of A-Z a-z 0-9 . _ -")
    return text


def check_datacenter(text: str) -> str:
    """Return ``text`` if it may be a datacenter's name.

    :raises BadRequest: if it is not 1 to 64 of ``A-Z a-z 0-9 . _ -``.
    """
    if not _NAME.fullmatch(text):
        raise BadRequest(f"{text}: a datacenter's name is 1 to 64 of A-Z a-z 0-9 . _ -")
    return text


def check_url(text: str) -> str:
    """Return ``text`` if it may be the base of a node's URL.

    :raises BadRequest: if it is not like ``http://10.0.0.5:8090``.
    """
    try:
        valid = _URL.fullmatch(text) and urlsplit(text).port != 0
    except ValueError:
        valid = False
    if not valid:
        raise BadRequest(f"{text} is not like http://10.0.0.5:8090")
    return text


def make_connection_id(node: str) -> ConnectionId:
    """Return a new id with 128 random bits that names ``node``."""
    return ConnectionId(f"{node}-{secrets.token_urlsafe(16)}")


def node_of(connection_id: ConnectionId) -> str:
    """Return the name of the node that owns this connection."""
    return connection_id[: -_SECRET_LENGTH - 1]


class Event(msgspec.Struct, frozen=True, gc=False):
    """A published event.

    ``line`` is the event as it travels to frontends and browsers, made once by the dispatcher
    that accepted it; ``topic`` and ``id`` are read from it.
    """

    topic: Topic
    id: str
    line: bytes

    @property
    def size(self) -> int:
        """How many bytes a mailbox accounts for it."""
        return len(self.line)


class Gap(msgspec.Struct, frozen=True, gc=False):
    """``lost`` events of ``topic`` were dropped on the way to a frontend."""

    topic: Topic
    lost: int


class FrontendRef(msgspec.Struct, frozen=True):
    """One process of a frontend node, and where it takes deliveries.

    :param node: the node's name, which outlives the process.
    :param url: the base of its internal listener, such as ``http://10.0.0.5:8081``.
    :param incarnation: names this process among all that ever ran as ``node``.
    """

    node: str
    url: str
    incarnation: str

    def __post_init__(self) -> None:
        check_node(self.node)
        check_url(self.url)
        if not _NAME.fullmatch(self.incarnation):
            raise BadRequest("an incarnation is 1 to 64 of A-Z a-z 0-9 . _ -")


class PeerRef(msgspec.Struct, frozen=True):
    """Another datacenter, and where its dispatchers take forwards.

    :param name: the datacenter's name.
    :param urls: of its dispatchers, at least one.
    """

    name: str
    urls: tuple[str, ...]

    def __post_init__(self) -> None:
        check_datacenter(self.name)
        for url in self.urls:
            check_url(url)


def parse_peer(text: str) -> PeerRef:
    """Read a peer as operators write it, such as ``dc2=http://10.1.0.2:8090,http://10.1.0.3:8090``.

    :raises BadRequest: if it is not like that.
    """
    name, separator, urls = text.partition("=")
    if not separator or not urls:
        raise BadRequest(f"{text} is not like dc2=http://10.1.0.2:8090,http://10.1.0.3:8090")
    return PeerRef(name=name, urls=tuple(urls.split(",")))


class CloseReason(enum.Enum):
    """Why a stream ended."""

    CLIENT_LEFT = "client_left"
    STALLED = "stalled"
    OVERFLOW = "overflow"
    DRAINED = "drained"
    EXPIRED = "expired"
    FAILED = "failed"
