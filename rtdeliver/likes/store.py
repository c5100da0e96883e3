"""What the live-video app keeps: members, likes, comments and messages."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred

from rtdeliver.errors import NotFound
from rtdeliver.likes.model import (
    Applause,
    Comment,
    Conversation,
    Message,
    Minute,
    conversation_of,
    conversation_topic,
)
from rtdeliver.model import Member

T = TypeVar("T")

_MINUTE = 60_000


class Transactions(Protocol):
    """Runs a function with a database cursor, as one transaction; see `Database.run`."""

    def __call__(self, transaction: Callable[[Any], T]) -> Deferred[T]: ...


class Store:
    """Reads and writes; times are in milliseconds since the epoch.

    Every Deferred fails with `Unavailable` when the database cannot be used.
    """

    def __init__(self, run: Transactions) -> None:
        self._run = run

    def come(self, member: Member, *, at: int, away_milliseconds: int) -> Deferred[bool]:
        """Note that a member is here.

        :return: fires with whether it is new, or had not been here for so long.
        """

        def transaction(cursor: Any) -> bool:
            cursor.execute("SELECT seen_at FROM members WHERE name = ?", (member,))
            seen = cursor.fetchone()
            cursor.execute(
                "INSERT INTO members VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET seen_at = MAX(seen_at, excluded.seen_at)",
                (member, at, at),
            )
            return seen is None or bool(at - seen[0] >= away_milliseconds)

        return self._run(transaction)

    def members(self, limit: int) -> Deferred[Sequence[Member]]:
        """Fires with those who were seen last, the last one first."""

        def transaction(cursor: Any) -> list[Member]:
            cursor.execute("SELECT name FROM members ORDER BY seen_at DESC LIMIT ?", (limit,))
            return [Member(name) for (name,) in cursor.fetchall()]

        return self._run(transaction)

    def like(self, video: str, reaction: str, *, at: int) -> Deferred[int]:
        """Count a like, and fire with all that the video has now."""

        def transaction(cursor: Any) -> int:
            cursor.execute(
                "INSERT INTO likes VALUES (?, ?, 1)"
                " ON CONFLICT (video, reaction) DO UPDATE SET likes = likes + 1",
                (video, reaction),
            )
            cursor.execute(
                "INSERT INTO likes_by_minute VALUES (?, ?, 1)"
                " ON CONFLICT (video, minute) DO UPDATE SET likes = likes + 1",
                (video, at // _MINUTE),
            )
            return _likes(cursor, video)

        return self._run(transaction)

    def likes(self, video: str) -> Deferred[int]:
        """Fires with how many likes a video has."""
        return self._run(lambda cursor: _likes(cursor, video))

    def applause(self, video: str, *, minutes: int) -> Deferred[Applause]:
        """Fires with the likes of a video, by reaction and of its last ``minutes`` with any."""

        def transaction(cursor: Any) -> Applause:
            cursor.execute("SELECT reaction, likes FROM likes WHERE video = ?", (video,))
            reactions = dict(cursor.fetchall())
            cursor.execute(
                "SELECT minute, likes FROM likes_by_minute WHERE video = ?"
                " ORDER BY minute DESC LIMIT ?",
                (video, minutes),
            )
            series = [Minute(minute * _MINUTE, likes) for minute, likes in cursor.fetchall()]
            return Applause(reactions, series[::-1])

        return self._run(transaction)

    def comment(self, video: str, member: Member, text: str, *, at: int) -> Deferred[Comment]:
        """Keep a comment, and fire with it."""

        def transaction(cursor: Any) -> Comment:
            cursor.execute(
                "INSERT INTO comments (video, member, text, at) VALUES (?, ?, ?, ?)",
                (video, member, text, at),
            )
            return Comment(cursor.lastrowid, member, text, at)

        return self._run(transaction)

    def comments(self, video: str, limit: int) -> Deferred[Sequence[Comment]]:
        """Fires with the last comments on a video, in their order."""

        def transaction(cursor: Any) -> list[Comment]:
            cursor.execute(
                "SELECT comment, member, text, at FROM comments WHERE video = ?"
                " ORDER BY comment DESC LIMIT ?",
                (video, limit),
            )
            return [Comment(*row) for row in cursor.fetchall()][::-1]

        return self._run(transaction)

    def message(self, sender: Member, to: Member, text: str, *, at: int) -> Deferred[Message]:
        """Keep a message, and fire with it; fails with `NotFound` if nobody is called so."""

        def transaction(cursor: Any) -> Message:
            cursor.execute("SELECT 1 FROM members WHERE name = ?", (to,))
            if cursor.fetchone() is None:
                raise NotFound(f"nobody here is called {to}")
            cursor.execute(
                "INSERT INTO messages (conversation, sender, recipient, text, at)"
                " VALUES (?, ?, ?, ?, ?)",
                (conversation_of(sender, to), sender, to, text, at),
            )
            return Message(cursor.lastrowid, sender, to, text, at, seen=False)

        return self._run(transaction)

    def messages(self, one: Member, other: Member, limit: int) -> Deferred[Sequence[Message]]:
        """Fires with the last messages between two members, in their order."""

        def transaction(cursor: Any) -> list[Message]:
            cursor.execute(
                "SELECT message, sender, recipient, text, at, seen FROM messages"
                " WHERE conversation = ? ORDER BY message DESC LIMIT ?",
                (conversation_of(one, other), limit),
            )
            return [_message(row) for row in cursor.fetchall()][::-1]

        return self._run(transaction)

    def see(self, member: Member, sender: Member, message: int) -> Deferred[None]:
        """Note that ``member`` has seen all messages of ``sender`` up to one.

        Fails with `NotFound` if that is not one of them.
        """

        def transaction(cursor: Any) -> None:
            conversation = conversation_of(member, sender)
            cursor.execute(
                "SELECT 1 FROM messages WHERE message = ? AND conversation = ? AND recipient = ?",
                (message, conversation, member),
            )
            if cursor.fetchone() is None:
                raise NotFound(f"{sender} has sent you no message {message}")
            cursor.execute(
                "UPDATE messages SET seen = 1"
                " WHERE conversation = ? AND message <= ? AND recipient = ? AND seen = 0",
                (conversation, message, member),
            )

        return self._run(transaction)

    def conversations(self, member: Member, limit: int) -> Deferred[Sequence[Conversation]]:
        """Fires with a member's conversations, the one with the last message first."""

        def transaction(cursor: Any) -> list[Conversation]:
            cursor.execute(
                "SELECT message, sender, recipient, text, at, seen FROM messages WHERE message IN ("
                " SELECT max(message) FROM ("
                "  SELECT conversation, max(message) AS message FROM messages"
                "   WHERE sender = ? GROUP BY conversation"
                "  UNION ALL SELECT conversation, max(message) FROM messages"
                "   WHERE recipient = ? GROUP BY conversation"
                " ) GROUP BY conversation"
                ") ORDER BY message DESC LIMIT ?",
                (member, member, limit),
            )
            last = [_message(row) for row in cursor.fetchall()]
            return [_conversation(cursor, member, message) for message in last]

        return self._run(transaction)


def _likes(cursor: Any, video: str) -> int:
    cursor.execute("SELECT COALESCE(SUM(likes), 0) FROM likes WHERE video = ?", (video,))
    [likes] = cursor.fetchone()
    return int(likes)


def _message(row: Sequence[Any]) -> Message:
    message, sender, recipient, text, at, seen = row
    return Message(message, sender, recipient, text, at, bool(seen))


def _conversation(cursor: Any, member: Member, last: Message) -> Conversation:
    other = last.to if last.from_ == member else last.from_
    cursor.execute(
        "SELECT COUNT(*) FROM messages WHERE conversation = ? AND recipient = ? AND seen = 0",
        (conversation_of(member, other), member),
    )
    [unseen] = cursor.fetchone()
    return Conversation(other, conversation_topic(member, other), last, unseen)
