"""What a role runs in."""

import os

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.model import check_node
from rtdeliver.process.host import node_name


class NodeNameTests(SynchronousTestCase):
    def test_a_node_has_the_name_it_was_given(self) -> None:
        self.assertEqual(node_name("n1"), "n1")

    def test_a_node_without_a_name_gets_one_of_its_own(self) -> None:
        name = node_name("")
        self.assertEqual(check_node(name), name)
        self.assertTrue(name.endswith(f"-{os.getpid()}"))
