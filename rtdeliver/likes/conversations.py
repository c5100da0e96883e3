"""Messages between members, and which of them have been seen."""

from collections.abc import Callable, Sequence

import msgspec
from twisted.internet.defer import Deferred

from rtdeliver.errors import BadRequest
from rtdeliver.likes.limits import VisitorLimit
from rtdeliver.likes.model import Conversation, Message, Visitor, conversation_topic
from rtdeliver.likes.publisher import Publisher, PublishOutcome
from rtdeliver.likes.store import Store
from rtdeliver.metrics import Sample, counter
from rtdeliver.model import Member, Topic

_MESSAGES = 50
_CONVERSATIONS = 30


class Sent(msgspec.Struct, frozen=True):
    """A stored message, and the outcome of publishing it."""

    message: Message
    delivery: PublishOutcome


class Seen(msgspec.Struct, frozen=True):
    """The last message that was seen, and the outcome of publishing that."""

    message: int
    delivery: PublishOutcome


class ConversationPage(msgspec.Struct, frozen=True):
    """The last messages with ``member``, and the topic of further ones."""

    member: Member
    topic: Topic
    messages: Sequence[Message]


class Conversations:
    """Stores messages, and then publishes them.

    :param messages: limits how often each visitor sends a message.
    :param seen: limits how often each visitor publishes what it has seen.
    :param now: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        store: Store,
        publisher: Publisher,
        messages: VisitorLimit,
        seen: VisitorLimit,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._messages = messages
        self._seen = seen
        self._now = now
        self._sent = 0

    def all_of(self, member: Member) -> Deferred[Sequence[Conversation]]:
        """Fires with a member's conversations, the one with the latest message first."""
        return self._store.conversations(member, _CONVERSATIONS)

    async def look(self, member: Member, other: Member) -> ConversationPage:
        """Return the conversation of ``member`` with ``other``."""
        return ConversationPage(
            other,
            conversation_topic(member, other),
            await self._store.messages(member, other, _MESSAGES),
        )

    async def send(self, member: Member, to: Member, text: str, *, address: str) -> Sent:
        """Store a message from one member to another, and publish it.

        :param address: where it comes from.
        :raises BadRequest: if the two are the same member.
        :raises NotFound: if there is no member ``to``.
        :raises TooManyRequests: if ``member`` or the address exceeds the limit.
        """
        if to == member:
            raise BadRequest("you cannot send a message to yourself")
        self._messages.take(Visitor(member, address))
        message = await self._store.message(member, to, text, at=int(self._now() * 1000))
        self._sent += 1
        topic = conversation_topic(member, to)
        return Sent(message, await self._publisher.publish(topic, "message", message))

    async def see(self, member: Member, sender: Member, message: int, *, address: str) -> Seen:
        """Store and publish that ``member`` has seen all messages of ``sender`` up to one.

        :param address: where it has seen them.
        :raises NotFound: if ``sender`` did not send this message to ``member``.
        :raises TooManyRequests: if ``member`` or the address exceeds the limit.
        """
        self._seen.take(Visitor(member, address))
        await self._store.see(member, sender, message)
        data = {"by": member, "message": message}
        topic = conversation_topic(member, sender)
        return Seen(message, await self._publisher.publish(topic, "seen", data))

    def samples(self) -> list[Sample]:
        return [counter("app_messages", "Messages stored.", self._sent)]
