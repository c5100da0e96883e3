"""What every contract suite has in common."""

from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import Interface
from zope.interface.verify import verifyObject

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase
else:
    # A suite that were a test case itself would be run wherever it is imported.
    SynchronousTestCase = object


T = TypeVar("T")


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


def fired_with(deferred: Deferred[T]) -> T:
    """Return what ``deferred`` has fired with, or raise what it has failed with."""
    results: list[T | Failure] = []
    deferred.addBoth(results.append)
    [result] = results
    if isinstance(result, Failure):
        result.raiseException()
    return result
