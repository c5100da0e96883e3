"""How a frontend sends the events of topics with history in their order, whatever gets lost."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from rtdeliver.backoff import Backoff
from rtdeliver.config.sections import History
from rtdeliver.errors import RemoteFailure
from rtdeliver.frontend.connection import Connection
from rtdeliver.frontend.feed import Feed
from rtdeliver.frontend.history_reader import HistoryReader, Page
from rtdeliver.frontend.past import Part, StoredPast
from rtdeliver.frontend.resume import Resume
from rtdeliver.frontend.timed_cache import TimedCache
from rtdeliver.frontend.topic_order import TopicOrder
from rtdeliver.interfaces import IDispatcherClient
from rtdeliver.messages import END, HistoryPage, HistoryQuery
from rtdeliver.metrics import Sample, counter
from rtdeliver.model import BEGINNING, Event, Place, Topic, check_position, read_position

log = Logger()

# So often a history is asked for what it does not have, before that is given up.
_TRIES = 3


class Resumed(msgspec.Struct):
    """What became of the topics of a viewer that came back.

    :ivar resumed: those of which it is sent all that it missed.
    :ivar lost: those of which it may have missed something.
    """

    resumed: list[Topic] = msgspec.field(default_factory=list)
    lost: list[Topic] = msgspec.field(default_factory=list)


class _Repair:
    """The repair of one topic.

    :ivar timer: when it begins.
    :ivar waiters: fire when it is over.
    """

    def __init__(self) -> None:
        self.timer: IDelayedCall | None = None
        self.waiters: list[Deferred[None]] = []


class Histories:
    """Knows which of the watched topics have a history, and what of it has come here.

    :param feed_of: returns the feed of a topic that has viewers.
    :param post: posts events to their feeds.
    :param send_bytes: the most bytes that a viewer is sent at a time.
    :param known_seconds: how long a viewer waits until it is known which topics have a history.
    """

    def __init__(
        self,
        *,
        feed_of: Callable[[Topic], Feed[Connection] | None],
        post: Callable[[Sequence[Event]], None],
        client: IDispatcherClient,
        settings: History,
        send_bytes: int,
        known_seconds: float,
        clock: IReactorTime,
        new_backoff: Callable[[], Backoff],
    ) -> None:
        self._feed_of = feed_of
        self._post = post
        self._settings = settings
        self._send_bytes = send_bytes
        self._known_seconds = known_seconds
        self._clock = clock
        self._reader = HistoryReader(
            client=client, settings=settings, clock=clock, new_backoff=new_backoff
        )
        self._parts: TimedCache[tuple[StoredPast, int], Part] = TimedCache(
            seconds=settings.cache_seconds, most_bytes=settings.cache_bytes // 2, clock=clock
        )
        # Whether the dispatchers have histories at all.
        self._are_kept = False
        self._repairs: dict[Feed[Connection], _Repair] = {}
        self._repaired = 0
        self._given_up = 0
        self._resumed = 0
        self._not_resumed = 0

    def note_heads(self, topics: Iterable[Topic], heads: Mapping[Topic, str] | None) -> None:
        """Take what a dispatcher has said of topics that are delivered here from now on.

        :param heads: the positions of the last events of those that have a history; ``None`` if the
            dispatchers keep none.
        """
        self._are_kept = heads is not None
        if heads is None:
            return
        for topic in topics:
            feed = self._feed_of(topic)
            if feed is not None:
                feed.knows_past = True
                if topic in heads:
                    self._note_head(feed, read_position(heads[topic]) or BEGINNING)

    def heads(self, topics: Iterable[Topic]) -> dict[Topic, str]:
        """Return the positions of the last events that came here, of topics with history."""
        if not self._are_kept:
            return {}
        heads: dict[Topic, str] = {}
        for topic in topics:
            feed = self._feed_of(topic)
            past = None if feed is None else _past_of(feed)
            if past is not None and past.order.last.tag:
                heads[topic] = str(past.order.last)
        return heads

    def unknown(self, topics: Iterable[Topic]) -> list[Topic]:
        """Return those of which it is not known whether they have a history."""
        if not self._are_kept:
            return []
        feeds = [(topic, self._feed_of(topic)) for topic in topics]
        return [topic for topic, feed in feeds if feed is not None and not feed.knows_past]

    def known(self, topics: Iterable[Topic]) -> Deferred[None]:
        """Find out which of these have a history, as far as that is not known.

        That is so where a topic has lost its viewers and got others before dispatchers were told.

        :return: fires when that is known, or after ``known_seconds``.
        """
        waiting = set(self.unknown(topics))
        if not waiting:
            return succeed(None)
        done: Deferred[None] = Deferred()

        def settle() -> None:
            if timeout.active():
                timeout.cancel()
            if not done.called:
                done.callback(None)

        def note(topic: Topic) -> None:
            waiting.discard(topic)
            if not waiting:
                settle()

        timeout = self._clock.callLater(self._known_seconds, settle)
        for topic in list(waiting):
            self._learn(topic, note)
        return done

    def admit(self, feed: Feed[Connection], event: Event) -> Sequence[Event]:
        """Take an event that is delivered; return those to be posted now."""
        past = _past_of(feed)
        if past is None:
            place = check_position(event.position)
            past = self._begin(feed, Place(place.at, place.number - 1, place.tag))
        events = past.order.admit(event)
        if past.order.is_behind:
            self._repair_soon(feed)
        return events

    def insert(self, feed: Feed[Connection]) -> None:
        """Note that a topic with history gets an event that is not in it."""
        past = _past_of(feed)
        if past is not None:
            past.order.insert(1)

    def repair(self, topic: Topic) -> bool:
        """Read what was lost of a topic on the way; return whether that is possible."""
        feed = self._feed_of(topic)
        past = None if feed is None else _past_of(feed)
        if feed is None or past is None:
            return False
        past.order.note_lost()
        self._repair_soon(feed)
        return True

    async def resume(self, viewer: Connection, topics: Iterable[Topic], resume: Resume) -> Resumed:
        """Let a viewer that was not sent anything yet go on where it was.

        :param topics: those that dispatchers deliver here.
        """
        queries = [query for topic in topics if (query := self._query(topic, resume)) is not None]
        readings = [self._reader.read(query) for query in queries]
        resumed = Resumed()
        for query, reading in zip(queries, readings, strict=True):
            try:
                page = await reading
            except RemoteFailure:
                continue
            if page is not None:
                await self._go_on(viewer, query.topic, page, resumed)
        self._resumed += len(resumed.resumed)
        self._not_resumed += len(queries) - len(resumed.resumed)
        return resumed

    def samples(self) -> list[Sample]:
        return [
            counter(
                "history_repaired",
                "Events that were not delivered here, and were read from the history.",
                self._repaired,
            ),
            counter(
                "history_given_up",
                "Times that events were left out, since nobody could read them.",
                self._given_up,
            ),
            counter("resumed", "Topics that went on where a viewer had been.", self._resumed),
            counter(
                "not_resumed",
                "Topics that could not go on where a viewer had been.",
                self._not_resumed,
            ),
            *self._reader.samples(),
        ]

    def _query(self, topic: Topic, resume: Resume) -> HistoryQuery | None:
        feed = self._feed_of(topic)
        if feed is None or not self._are_kept or (feed.knows_past and feed.past is None):
            return None
        return resume.query(topic)

    async def _go_on(
        self, viewer: Connection, topic: Topic, page: HistoryPage, resumed: Resumed
    ) -> None:
        feed = self._feed_of(topic)
        if feed is None:
            return
        past = _past_of(feed) or self._begin(feed, page.head)
        order = past.order
        order.note_head(page.head)
        if page.head.tag == order.last.tag and page.last > order.last.number:
            self._post([e for event in page.events for e in order.admit(event)])
        if order.is_behind:
            await self._repaired_to(feed)
        if viewer not in feed:
            return
        position = order.position_of(page.start)
        if position is None or page.lost:
            resumed.lost.append(topic)
        else:
            resumed.resumed.append(topic)
        if position is not None:
            feed.resume(viewer, min(position, feed.end))
            if position < feed.end and feed.lacks(position) and past.take(position) is None:
                past.keep(position, page)

    def _learn(self, topic: Topic, note: Callable[[Topic], None]) -> None:
        feed = self._feed_of(topic)
        newest = HistoryQuery(topic=topic, before=END, limit=0)

        def take(page: Page) -> None:
            if feed is not None and self._feed_of(topic) is feed:
                feed.knows_past = True
                if page is not None:
                    self._note_head(feed, page.head)

        self._reader.read(newest, fresh=True).addCallbacks(
            take, lambda failure: failure.trap(RemoteFailure)
        ).addBoth(lambda _: note(topic))

    def _begin(self, feed: Feed[Connection], head: Place) -> StoredPast:
        past = StoredPast(
            feed=feed,
            order=TopicOrder(head, feed.end),
            reader=self._reader,
            parts=self._parts,
            send_bytes=self._send_bytes,
            catch_up=lambda place: self._catch_up(feed, place),
        )
        feed.past = past
        feed.knows_past = True
        return past

    def _note_head(self, feed: Feed[Connection], head: Place) -> None:
        past = _past_of(feed)
        if past is None:
            self._begin(feed, head)
            return
        past.order.note_head(head)
        if past.order.is_behind:
            self._repair_soon(feed)

    async def _catch_up(self, feed: Feed[Connection], place: Place) -> None:
        """Bring the order of a topic to the epoch of a place, if it can be read."""
        past = _past_of(feed)
        if past is not None:
            past.order.note_head(place)
            if past.order.is_behind:
                await self._repaired_to(feed)

    def _repair_soon(self, feed: Feed[Connection]) -> None:
        """Wait for events that are on their way still, then read them."""
        if feed not in self._repairs:
            repair = self._repairs[feed] = _Repair()
            repair.timer = self._clock.callLater(
                self._settings.repair_seconds, self._start_repair, feed, repair
            )

    def _repaired_to(self, feed: Feed[Connection]) -> Deferred[None]:
        """Begin to repair a topic now; fires when that is over."""
        self._repair_soon(feed)
        repair = self._repairs[feed]
        done: Deferred[None] = Deferred()
        repair.waiters.append(done)
        if repair.timer is not None:
            repair.timer.cancel()
            self._start_repair(feed, repair)
        return done

    def _start_repair(self, feed: Feed[Connection], repair: _Repair) -> None:
        repair.timer = None
        Deferred.fromCoroutine(self._repair(feed)).addErrback(
            lambda failure: log.failure("a topic could not be repaired", failure)
        ).addCallback(lambda _: self._end_repair(feed, repair))

    def _end_repair(self, feed: Feed[Connection], repair: _Repair) -> None:
        del self._repairs[feed]
        for waiter in repair.waiters:
            waiter.callback(None)

    async def _repair(self, feed: Feed[Connection]) -> None:
        past = _past_of(feed)
        if past is None:
            return
        order, tries = past.order, 0
        while order.is_behind and self._feed_of(feed.topic) is feed:
            last = order.last
            query = HistoryQuery(topic=feed.topic, since=last if last.tag else None, limit=0)
            try:
                page = await self._reader.read(query, fresh=True)
            except RemoteFailure:
                page = None
                tries = _TRIES
            if page is not None:
                self._advance(feed, order, page)
            if order.last != last:
                tries = 0
            elif order.is_behind:
                tries += 1
                if tries >= _TRIES:
                    self._advance(feed, order, None)
                    return
                await deferLater(self._clock, self._settings.repair_seconds)

    def _advance(self, feed: Feed[Connection], order: TopicOrder, page: HistoryPage | None) -> None:
        """Take what was read, or leave out what cannot be read."""
        before = order.position
        if page is None:
            self._given_up += 1
            log.warn("{topic}: events that were lost on the way cannot be read", topic=feed.topic)
            events = order.give_up()
        else:
            events = order.take(page)
            self._repaired += len(events)
        after = order.position - len(events)
        if after != before:
            feed.skip_to(after)
        self._post(events)


def _past_of(feed: Feed[Connection]) -> StoredPast | None:
    past = feed.past
    return past if isinstance(past, StoredPast) else None
