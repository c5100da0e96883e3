"""Tests of rtdeliver.frontend.routes; tests/integration/ has those with sockets."""

import json

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.frontend.owners import OwnedConnections
from rtdeliver.frontend.routes import add_connection_routes
from rtdeliver.http.routes import new_app
from rtdeliver.messages import Subscriptions
from rtdeliver.model import ConnectionId, FrontendRef, Topic, make_connection_id
from tests.fakes import ScriptedDispatcherClient
from tests.frontend.test_owners import MemoryConnections, MemoryOwnerClient
from tests.http.peers import Peer, peer

RED, GREEN = Topic("live:red"), Topic("live:green")
N2 = FrontendRef(node="n2", url="http://10.0.0.6:8081", incarnation="a")


class TopicsRoutesTests(SynchronousTestCase):
    """Changes of topics, of a connection here and of one at another node."""

    def setUp(self) -> None:
        self.own = MemoryConnections("n1")
        self.others = MemoryConnections("n2")
        self.dispatchers = ScriptedDispatcherClient()
        self.app = new_app()
        add_connection_routes(
            self.app,
            OwnedConnections(
                node="n1",
                own=self.own,
                dispatchers=self.dispatchers,
                owners=MemoryOwnerClient({N2: self.others}),
                clock=Clock(),
                remember_seconds=3,
            ),
        )

    def change(self, id: ConnectionId, body: bytes) -> Peer:
        return peer(self.app).send(
            f"POST /connections/{id}/topics HTTP/1.1",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            body=body,
        )

    def test_a_change_of_an_unknown_connection_is_not_even_read(self) -> None:
        here = self.change(make_connection_id("n1"), b"nonsense")
        elsewhere = self.change(make_connection_id("n9"), b"nonsense")
        self.dispatchers.listings.pop().callback([N2])
        for client in (here, elsewhere):
            self.assertEqual((404, "unknown_connection"), client.answer("POST").refusal)

    def test_a_wrong_change_of_a_known_connection_is_refused(self) -> None:
        client = self.change(self.own.connect(RED), b"nonsense")
        self.assertEqual((400, "bad_json"), client.answer("POST").refusal)

    def test_the_sequence_reaches_the_owner(self) -> None:
        for connections, node in ((self.own, "n1"), (self.others, "n2")):
            id = connections.connect(RED)
            self.check_sequences(id, node)

    def check_sequences(self, id: ConnectionId, node: str) -> None:
        for sequence, topics in ((7, [RED, GREEN]), (6, [RED, GREEN]), (8, [RED, GREEN, node])):
            add = [node] if sequence != 7 else [GREEN]
            client = self.change(id, json.dumps({"add": add, "sequence": sequence}).encode())
            for listing in self.dispatchers.listings:
                listing.callback([N2])
            self.dispatchers.listings.clear()
            answer = client.answer("POST")
            self.assertEqual((200, topics), (answer.status, answer.json["topics"]))

    def test_a_client_that_leaves_does_not_end_the_question_that_others_wait_for(self) -> None:
        id = self.others.connect(RED)
        hasty, patient = (self.change(id, b'{"add":["live:green"]}') for _ in range(2))
        hasty.leave()
        [question] = self.dispatchers.listings
        self.assertFalse(question.called)
        question.callback([N2])
        self.assertEqual([RED, GREEN], patient.answer("POST").json["topics"])
        told: Subscriptions = self.successResultOf(self.others.subscriptions(id))
        self.assertEqual([RED, GREEN], told.topics)
