"""What a dispatcher tells of all frontends."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.errors import RemoteFailure, Unavailable, Unreachable
from rtdeliver.messages import NodeStatus
from rtdeliver.model import FrontendRef
from rtdeliver.status.frontends import FrontendFigures, FrontendsStatus, read_figures
from rtdeliver.wire import encode


def node(name: str) -> NodeStatus:
    frontend = FrontendRef(node=name, url=f"http://{name}:8081", incarnation="first")
    return NodeStatus(frontend=frontend, topics=2, viewers=3, lease_seconds_left=29.54)


def figures(**topics: int) -> FrontendFigures:
    return read_figures(
        encode(
            {
                "version": "1.0",
                "ready": True,
                "connections": 5,
                "connections_max": 100,
                "per_second": {"sent": 12.5},
                "ages": {"sent": {"count": 3, "p90_ms": 7.5}},
                "topics": [{"topic": name, "viewers": count} for name, count in topics.items()],
                "further": "ignored",
            }
        )
    )


class FrontendsStatusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.nodes: list[NodeStatus] | None = []
        self.told: dict[str, FrontendFigures] = {}
        self.asked: list[str] = []
        self.status = FrontendsStatus(nodes=self.list_nodes, fetch=self.fetch, clock=self.clock)

    def list_nodes(self) -> Deferred[Sequence[NodeStatus]]:
        return fail(Unavailable("away")) if self.nodes is None else succeed(self.nodes)

    def fetch(self, frontend: FrontendRef) -> Deferred[FrontendFigures]:
        self.asked.append(frontend.node)
        if frontend.node not in self.told:
            return fail(Unreachable("nobody listens"))
        return succeed(self.told[frontend.node])

    def tell(self) -> Any:
        """Ask, and return what is told once all have answered."""
        self.status.tell()
        return self.status.tell()

    def test_each_frontend_is_a_row(self) -> None:
        self.nodes = [node("n1"), node("n2")]
        self.told = {"n1": figures()}
        first, second = self.tell()["frontends"]
        self.assertEqual(
            first,
            {
                "node": "n1",
                "url": "http://n1:8081",
                "topics": 2,
                "viewers": 3,
                "lease_seconds_left": 29.5,
                "answers": True,
                "version": "1.0",
                "ready": True,
                "connections": 5,
                "connections_max": 100,
                "sent_per_second": 12.5,
                "dropped_per_second": 0.0,
                "sent_p90_ms": 7.5,
            },
        )
        self.assertEqual((second["node"], second["answers"]), ("n2", False))

    def test_hot_topics_are_those_of_all_together(self) -> None:
        self.nodes = [node("n1"), node("n2")]
        self.told = {"n1": figures(red=3, green=5), "n2": figures(red=4)}
        self.assertEqual(
            self.tell()["hot_topics"],
            [{"topic": "red", "viewers": 7}, {"topic": "green", "viewers": 5}],
        )

    def test_frontends_are_asked_again_only_after_a_while(self) -> None:
        self.nodes = [node("n1")]
        for _ in range(3):
            self.tell()
        self.assertEqual(self.asked, ["n1"])
        self.clock.advance(2)
        self.tell()
        self.assertEqual(self.asked, ["n1", "n1"])

    def test_without_the_routing_table_there_are_no_rows(self) -> None:
        self.nodes = [node("n1")]
        self.tell()
        self.nodes = None
        self.clock.advance(2)
        self.assertEqual(self.tell(), {"frontends": [], "hot_topics": []})

    def test_another_form_is_a_failure(self) -> None:
        for body in (b"", b"[]", b'{"connections":"many"}'):
            self.assertRaises(RemoteFailure, read_figures, body)
