"""What members tell each other, and that they have seen it."""

from collections.abc import Sequence

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rtdeliver.errors import BadRequest
from rtdeliver.likes.limits import RateLimit
from rtdeliver.likes.model import Conversation, Message, conversation_topic
from rtdeliver.likes.publisher import Publisher, PublishOutcome
from rtdeliver.likes.store import Store
from rtdeliver.metrics import Sample, counter
from rtdeliver.model import Member, Topic

_MESSAGES = 50
_CONVERSATIONS = 30


class Sent(msgspec.Struct, frozen=True):
    """A message that is stored."""

    message: Message
    delivery: PublishOutcome


class Seen(msgspec.Struct, frozen=True):
    """All messages up to this one are stored as seen."""

    message: int
    delivery: PublishOutcome


class ConversationPage(msgspec.Struct, frozen=True):
    """The last messages of a conversation, and where its further ones are told."""

    member: Member
    topic: Topic
    messages: Sequence[Message]


class Conversations:
    """Stores, and then tells.

    :param messages: limits the messages of a member.
    """

    def __init__(
        self, *, store: Store, publisher: Publisher, messages: RateLimit, clock: IReactorTime
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._messages = messages
        self._clock = clock
        self._sent = 0

    def all_of(self, member: Member) -> Deferred[Sequence[Conversation]]:
        """Fires with the conversations of a member, the one with the last message first."""
        return self._store.conversations(member, _CONVERSATIONS)

    async def look(self, member: Member, other: Member) -> ConversationPage:
        """Return the last messages between two members."""
        return ConversationPage(
            other,
            conversation_topic(member, other),
            await self._store.messages(member, other, _MESSAGES),
        )

    async def send(self, member: Member, to: Member, text: str) -> Sent:
        """Take a member's message to another.

        :raises NotFound: if nobody is called so.
        :raises TooManyRequests: if it sends too much.
        """
        if to == member:
            raise BadRequest("a message goes to somebody else")
        self._messages.take(member)
        message = await self._store.message(member, to, text, at=int(self._clock.seconds() * 1000))
        self._sent += 1
        topic = conversation_topic(member, to)
        return Sent(message, await self._publisher.publish(topic, "message", message))

    async def see(self, member: Member, sender: Member, message: int) -> Seen:
        """Note that a member has seen what another sent it, up to one message.

        :raises NotFound: if that is not one of these.
        """
        await self._store.see(member, sender, message)
        told = {"by": member, "message": message}
        topic = conversation_topic(member, sender)
        return Seen(message, await self._publisher.publish(topic, "seen", told))

    def samples(self) -> list[Sample]:
        return [counter("app_messages", "Messages stored.", self._sent)]
