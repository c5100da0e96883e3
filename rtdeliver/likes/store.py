"""What the live-video app stores: members, likes, comments and messages."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred

from rtdeliver.errors import Forbidden, NotFound
from rtdeliver.likes.model import (
    Applause,
    Comment,
    Conversation,
    Message,
    Minute,
    conversation_of,
    conversation_topic,
)
from rtdeliver.likes.statements import read_statements
from rtdeliver.model import Member

T = TypeVar("T")

_MINUTE = 60_000

_SQL = read_statements("members", "bans", "likes", "comments", "messages")


class Transactions(Protocol):
    """Runs a function with a database cursor, as one transaction; see `Database.run`."""

    def __call__(self, transaction: Callable[[Any], T]) -> Deferred[T]: ...


class Store:
    """Reads and writes the database. Times are in milliseconds since the epoch.

    Every Deferred fails with `Unavailable` when the database cannot be used.
    """

    def __init__(self, run: Transactions) -> None:
        self._run = run

    def come(self, member: Member, *, at: int, away_milliseconds: int) -> Deferred[bool]:
        """Store that a member is here.

        :return: fires with whether the member is new, or was away for ``away_milliseconds``. Fails
            with `Forbidden` if the member is banned; so do the other methods that write something
            for a member.
        """

        def transaction(cursor: Any) -> bool:
            _check_not_banned(cursor, member)
            cursor.execute(_SQL["seen_at"], {"member": member})
            seen = cursor.fetchone()
            cursor.execute(_SQL["note_member"], {"member": member, "at": at})
            return seen is None or bool(at - seen[0] >= away_milliseconds)

        return self._run(transaction)

    def members(self, limit: int) -> Deferred[Sequence[Member]]:
        """Fires with the members who were seen last, the latest first."""

        def transaction(cursor: Any) -> list[Member]:
            cursor.execute(_SQL["last_members"], {"limit": limit})
            return [Member(name) for (name,) in cursor.fetchall()]

        return self._run(transaction)

    def like(self, video: str, reaction: str, *, at: int) -> Deferred[int]:
        """Count a like; fires with how many the video has now."""

        def transaction(cursor: Any) -> int:
            cursor.execute(_SQL["add_like"], {"video": video, "reaction": reaction})
            cursor.execute(_SQL["add_like_to_minute"], {"video": video, "minute": at // _MINUTE})
            return _likes(cursor, video)

        return self._run(transaction)

    def likes(self, video: str) -> Deferred[int]:
        """Fires with how many likes a video has."""
        return self._run(lambda cursor: _likes(cursor, video))

    def applause(self, video: str, *, minutes: int) -> Deferred[Applause]:
        """Fires with the likes of a video; ``minutes`` is how many of the last ones with any."""

        def transaction(cursor: Any) -> Applause:
            cursor.execute(_SQL["likes_by_reaction"], {"video": video})
            reactions = dict(cursor.fetchall())
            cursor.execute(_SQL["last_minutes"], {"video": video, "limit": minutes})
            series = [Minute(minute * _MINUTE, likes) for minute, likes in cursor.fetchall()]
            return Applause(reactions, series[::-1])

        return self._run(transaction)

    def comment(self, video: str, member: Member, text: str, *, at: int) -> Deferred[Comment]:
        """Store a comment; fires with it."""

        def transaction(cursor: Any) -> Comment:
            _check_not_banned(cursor, member)
            cursor.execute(
                _SQL["add_comment"], {"video": video, "member": member, "text": text, "at": at}
            )
            return Comment(cursor.lastrowid, member, text, at)

        return self._run(transaction)

    def comments(self, video: str, limit: int) -> Deferred[Sequence[Comment]]:
        """Fires with the last comments on a video, the oldest first."""

        def transaction(cursor: Any) -> list[Comment]:
            cursor.execute(_SQL["last_comments"], {"video": video, "limit": limit})
            return [Comment(*row) for row in cursor.fetchall()][::-1]

        return self._run(transaction)

    def remove_comment(self, video: str, comment: int) -> Deferred[None]:
        """Remove a comment; fails with `NotFound` if the video has none with this number."""

        def transaction(cursor: Any) -> None:
            cursor.execute(_SQL["remove_comment"], {"video": video, "comment": comment})
            if not cursor.rowcount:
                raise NotFound(f"there is no comment {comment} on this video")

        return self._run(transaction)

    def ban(self, member: Member, moderator: Member, *, at: int) -> Deferred[None]:
        """Ban a member; fails with `NotFound` if there is none of this name."""

        def transaction(cursor: Any) -> None:
            cursor.execute(_SQL["seen_at"], {"member": member})
            if cursor.fetchone() is None:
                raise NotFound(f"there is no member {member}")
            cursor.execute(_SQL["ban"], {"member": member, "moderator": moderator, "at": at})

        return self._run(transaction)

    def lift_ban(self, member: Member) -> Deferred[None]:
        """Let a member come back; fails with `NotFound` if it is not banned."""

        def transaction(cursor: Any) -> None:
            cursor.execute(_SQL["lift_ban"], {"member": member})
            if not cursor.rowcount:
                raise NotFound(f"{member} is not banned")

        return self._run(transaction)

    def check_not_banned(self, member: Member) -> Deferred[None]:
        """Fails with `Forbidden` if a member is banned."""
        return self._run(lambda cursor: _check_not_banned(cursor, member))

    def message(self, sender: Member, to: Member, text: str, *, at: int) -> Deferred[Message]:
        """Store a message; fires with it, or fails with `NotFound` if there is no member ``to``."""

        def transaction(cursor: Any) -> Message:
            _check_not_banned(cursor, sender)
            cursor.execute(_SQL["seen_at"], {"member": to})
            if cursor.fetchone() is None:
                raise NotFound(f"there is no member {to}")
            cursor.execute(
                _SQL["add_message"],
                {
                    "conversation": conversation_of(sender, to),
                    "sender": sender,
                    "recipient": to,
                    "text": text,
                    "at": at,
                },
            )
            return Message(cursor.lastrowid, sender, to, text, at, seen=False)

        return self._run(transaction)

    def messages(self, one: Member, other: Member, limit: int) -> Deferred[Sequence[Message]]:
        """Fires with the last messages between two members, the oldest first."""

        def transaction(cursor: Any) -> list[Message]:
            cursor.execute(
                _SQL["last_messages"],
                {"conversation": conversation_of(one, other), "limit": limit},
            )
            return [_message(row) for row in cursor.fetchall()][::-1]

        return self._run(transaction)

    def see(self, member: Member, sender: Member, message: int) -> Deferred[None]:
        """Store that ``member`` has seen all messages of ``sender`` up to one.

        Fails with `NotFound` if ``sender`` did not send this message to ``member``.
        """

        def transaction(cursor: Any) -> None:
            received = {
                "conversation": conversation_of(member, sender),
                "recipient": member,
                "message": message,
            }
            cursor.execute(_SQL["received_message"], received)
            if cursor.fetchone() is None:
                raise NotFound(f"there is no message {message} from {sender} to you")
            cursor.execute(_SQL["see_messages"], received)

        return self._run(transaction)

    def conversations(self, member: Member, limit: int) -> Deferred[Sequence[Conversation]]:
        """Fires with a member's conversations, the one with the latest message first."""

        def transaction(cursor: Any) -> list[Conversation]:
            cursor.execute(
                _SQL["last_message_of_each_conversation"], {"member": member, "limit": limit}
            )
            last = [_message(row) for row in cursor.fetchall()]
            return [_conversation(cursor, member, message) for message in last]

        return self._run(transaction)


def _check_not_banned(cursor: Any, member: Member) -> None:
    cursor.execute(_SQL["banned"], {"member": member})
    if cursor.fetchone() is not None:
        raise Forbidden(f"{member} is banned")


def _likes(cursor: Any, video: str) -> int:
    cursor.execute(_SQL["sum_likes"], {"video": video})
    [likes] = cursor.fetchone()
    return int(likes)


def _message(row: Sequence[Any]) -> Message:
    message, sender, recipient, text, at, seen = row
    return Message(message, sender, recipient, text, at, bool(seen))


def _conversation(cursor: Any, member: Member, last: Message) -> Conversation:
    other = last.to if last.from_ == member else last.from_
    cursor.execute(
        _SQL["count_unseen"],
        {"conversation": conversation_of(member, other), "recipient": member},
    )
    [unseen] = cursor.fetchone()
    return Conversation(other, conversation_topic(member, other), last, unseen)
