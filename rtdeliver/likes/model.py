"""The values of the live-video app: videos, names, comments and messages, checked when made."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

import msgspec

from rtdeliver.errors import BadRequest, TooLarge
from rtdeliver.grants import Grants, grants, patterns
from rtdeliver.model import Member, Topic

REACTIONS = ("heart", "star", "fire", "laugh")

COMMENTS = "comments:*"
"""The topics of comments, as a pattern."""

PUBLIC = ("live:*", COMMENTS, "members")
"""The topics that visitors without a name watch, as patterns."""

KEPT = (COMMENTS, "conv:*")
"""The topics whose events are kept for visitors who were away, as patterns."""

MEMBERS_TOPIC = Topic("members")
"""The topic of events about who has come to the app."""

NAME_CHARACTERS = 24
_VIDEO = re.compile("[A-Za-z0-9_-]{1,64}")
# Letters and marks that are invisible: with them, two names could look the same.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
# Line breaks are allowed: the page shows them.
_FORBIDDEN_IN_TEXT = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Video(msgspec.Struct, frozen=True):
    """Something to watch."""

    name: str
    title: str

    @property
    def live(self) -> Topic:
        """The topic of its likes and its number of viewers."""
        return Topic(f"live:{self.name}")

    @property
    def comments(self) -> Topic:
        """The topic of its comments, and of who is typing one."""
        return Topic(f"comments:{self.name}")


class Visitor(msgspec.Struct, frozen=True):
    """Who makes a request.

    :param member: ``None`` for a visitor without a name.
    :param address: of the client, as far as it is known; see `rtdeliver.likes.limits.one_client`.
    """

    member: Member | None
    address: str

    @property
    def key(self) -> str:
        """Whose requests are limited together; no member's name begins with ``@``."""
        return f"@{self.address}" if self.member is None else self.member


class Comment(msgspec.Struct, frozen=True):
    """A member's comment on a video.

    :param at: in milliseconds since the epoch.
    """

    comment: int
    member: Member
    text: str
    at: int


class Message(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """A message from one member to another.

    :param at: in milliseconds since the epoch.
    """

    message: int
    from_: Member
    to: Member
    text: str
    at: int
    seen: bool


class Minute(msgspec.Struct, frozen=True):
    """The likes of one minute.

    :param at: when it began, in milliseconds since the epoch.
    """

    at: int
    likes: int


class Applause(msgspec.Struct, frozen=True):
    """The likes of a video: all by reaction, and those of the last minutes that had any."""

    reactions: Mapping[str, int]
    minutes: Sequence[Minute]

    @property
    def likes(self) -> int:
        return sum(self.reactions.values())


class Conversation(msgspec.Struct, frozen=True):
    """A conversation, as one of its two members sees it.

    :param member: the other one.
    :param unseen: how many messages of the other one this member has not seen.
    """

    member: Member
    topic: Topic
    last: Message
    unseen: int


def parse_video(text: str) -> Video:
    """Parse a video as operators write it: ``red``, or ``red=Canyon at dusk``.

    :raises BadRequest: if the name is invalid.
    """
    name, _, title = text.partition("=")
    if not _VIDEO.fullmatch(name):
        raise BadRequest(f"{text}: a video's name is 1 to 64 of A-Z a-z 0-9 _ -")
    return Video(name, title.strip() or name)


def grants_of(member: Member, *, moderates: bool) -> Grants:
    """Return what the token of a member grants.

    :param moderates: whether it may remove comments.
    """
    return grants(
        patterns([f"conv:{member}.*", f"conv:*.{member}", "presence:*"]),
        patterns([COMMENTS] if moderates else []),
    )


def check_name(text: str) -> Member:
    """Return ``text`` as the name of a member, in Unicode's composed form.

    :raises BadRequest: if it is not 1 to 24 letters, digits, ``-`` and ``_``.
    """
    name = unicodedata.normalize("NFC", text)
    fits = 1 <= len(name) <= NAME_CHARACTERS and not _is_mark(name[0])
    if not fits or not all(map(_is_of_a_name, name)) or _INVISIBLE.search(name):
        raise BadRequest(f"a name is 1 to {NAME_CHARACTERS} letters, digits, - and _")
    return Member(name)


def check_text(text: str, *, max_characters: int) -> str:
    """Return ``text`` without the white space around it.

    :raises BadRequest: if it is empty, or has control characters other than line breaks.
    :raises TooLarge: if it is longer than ``max_characters``.
    """
    text = text.replace("\r\n", "\n").strip()
    if not text:
        raise BadRequest("the text is empty")
    if len(text) > max_characters:
        raise TooLarge(f"the text has {len(text)} characters; {max_characters} are allowed")
    if _FORBIDDEN_IN_TEXT.search(text):
        raise BadRequest("the text has control characters; only line breaks are allowed")
    return text


def check_reaction(text: str) -> str:
    """Return ``text`` if it is one of `REACTIONS`.

    :raises BadRequest: if it is not.
    """
    if text not in REACTIONS:
        raise BadRequest(f"there is no such reaction; the reactions are {', '.join(REACTIONS)}")
    return text


def conversation_of(one: Member, other: Member) -> str:
    """Return the name of the conversation of two members; their order does not matter."""
    # JavaScript sorts strings by UTF-16 code units; the page must get the same name.
    return ".".join(sorted((one, other), key=lambda name: name.encode("utf-16-be")))


def conversation_topic(one: Member, other: Member) -> Topic:
    """Return the topic of two members' messages, and of which they have seen."""
    return Topic(f"conv:{conversation_of(one, other)}")


def _is_of_a_name(character: str) -> bool:
    # In many languages vowels are marks, not letters.
    is_letter_or_digit = unicodedata.category(character)[0] in "LN"
    return is_letter_or_digit or _is_mark(character) or character in "-_"


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"
