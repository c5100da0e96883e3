"""What every contract suite has in common."""

from typing import TYPE_CHECKING

from zope.interface import Interface
from zope.interface.verify import verifyObject

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase
else:
    # A suite that were a test case itself would be run wherever it is imported.
    SynchronousTestCase = object


class Contract:
    """The promise of one interface, to be mixed into a test case for each implementation.

    :cvar interface: whose promise it is.
    :cvar implementation: the class that the test case tests; `tests.contracts.test_complete` reads
        from the sources which are tested.
    """

    interface: type[Interface]
    implementation: type

    def subject(self) -> object:
        """Return what the test case tests."""
        raise NotImplementedError

    def test_it_keeps_its_promise(self) -> None:
        subject = self.subject()
        assert verifyObject(self.interface, subject)
        assert type(subject) is self.implementation, type(subject)


class SynchronousContract(Contract, SynchronousTestCase):
    """A contract whose test cases are a `SynchronousTestCase` too, and use its methods."""
