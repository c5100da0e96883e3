"""What a role runs in."""

import io
import os
import sys

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.model import check_node
from rtdeliver.process.host import IHost, OwnProcess, node_name
from tests.contracts.host import HostContract
from tests.sockets import SocketReactor


class OwnProcessContractTests(HostContract, SynchronousTestCase):
    implementation = OwnProcess

    def make_host(self, reactor: SocketReactor) -> IHost:
        self.complaints = io.StringIO()
        self.patch(sys, "__stderr__", self.complaints)
        return OwnProcess(reactor)

    def told(self) -> str:
        return self.complaints.getvalue()


class NodeNameTests(SynchronousTestCase):
    def test_a_node_has_the_name_it_was_given(self) -> None:
        self.assertEqual(node_name("n1"), "n1")

    def test_a_node_without_a_name_gets_one_of_its_own(self) -> None:
        name = node_name("")
        self.assertEqual(check_node(name), name)
        self.assertTrue(name.endswith(f"-{os.getpid()}"))
