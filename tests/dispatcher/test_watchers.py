"""Tests of rtdeliver.dispatcher.watchers."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.dispatcher.watchers import MembersPage, TopicsPage, Watchers
from rtdeliver.errors import BadRequest
from rtdeliver.messages import Announcement, TopicMembers
from rtdeliver.model import FrontendRef, Member, Topic
from rtdeliver.routing.memory import MemoryRoutingTable
from tests.fakes import ScriptedFrontendClient

RED = Topic("live:red")


class WatchersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.table = MemoryRoutingTable(clock=Clock())
        self.frontends = ScriptedFrontendClient()
        self.watchers = Watchers(routing_table=self.table, frontends=self.frontends)

    def announce(
        self, node: str, counts: dict[Topic, int], *members: str, anonymous: int = 0
    ) -> None:
        frontend = FrontendRef(node=node, url=f"http://{node}:8081", incarnation=node)
        told = Announcement(frontend=frontend, counts=counts, full=True, lease_seconds=30)
        self.successResultOf(self.table.apply(told))

        def page(_: Topic, after: str, limit: int) -> TopicMembers:
            names = sorted(Member(name) for name in members if name > after)
            return TopicMembers(tuple(names[:limit]), anonymous, more=len(names) > limit)

        self.frontends.viewers[node] = page

    def topics(self, prefix: str, after: str = "", limit: int = 2) -> TopicsPage:
        return self.successResultOf(
            Deferred.fromCoroutine(self.watchers.topics(prefix, after, limit))
        )

    def members(self, after: str = "", limit: int = 2) -> MembersPage:
        return self.successResultOf(
            Deferred.fromCoroutine(self.watchers.members(RED, after, limit))
        )

    def test_pages_of_topics_follow_each_other(self) -> None:
        names = ("a:b", "\u2603", "c", "d", "e")
        self.announce("n1", {Topic(name): 9 - at for at, name in enumerate(names)})
        read, after, pages = [], "", 0
        while True:
            page = self.topics("", after)
            read += [topic.topic for topic in page.topics]
            pages += 1
            if page.next is None:
                break
            after = page.next
        self.assertEqual((list(names), 3), (read, pages))

    def test_a_cursor_that_is_none_is_refused(self) -> None:
        for after in ("x", "=", "\u2603", "LTE6YQ", "eDph", "OTk5OTk5OTk5OTk5OTk5OTk5OmE"):
            asked = Deferred.fromCoroutine(self.watchers.topics("", after, 1))
            self.failureResultOf(asked, BadRequest)

    def test_members_of_several_frontends_are_listed_once_each(self) -> None:
        self.announce("n1", {RED: 4}, "ann", "cyd", "eve", anonymous=1)
        self.announce("n2", {RED: 5}, "bob", "cyd", "dan", anonymous=2)
        first = self.members()
        self.assertEqual((["ann", "bob"], 3), (list(first.members), first.anonymous))
        assert first.next is not None
        second = self.members(first.next)
        self.assertEqual(["cyd", "dan"], list(second.members))
        assert second.next is not None
        last = self.members(second.next)
        self.assertEqual((["eve"], None, ()), (list(last.members), last.next, last.missing))

    def test_a_frontend_that_does_not_answer_is_named(self) -> None:
        self.announce("n1", {RED: 1}, "ann")
        self.announce("n2", {RED: 1}, "bob")
        del self.frontends.viewers["n2"]
        page = self.members()
        self.assertEqual((["ann"], ["n2"]), (list(page.members), list(page.missing)))

    def test_a_topic_without_viewers_has_no_members(self) -> None:
        page = self.members()
        self.assertEqual(([], 0, None), (list(page.members), page.anonymous, page.next))
