"""How Deferreds and coroutines are combined."""

from collections.abc import Callable, Coroutine, Iterable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

P = ParamSpec("P")
T = TypeVar("T")

_FLUSH_CHECK_SECONDS = 0.02


def as_deferred(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Deferred[T]]:
    """Decorate a coroutine function so that a call starts it and returns a Deferred.

    Interfaces promise Deferreds, but their implementations are easier to read as coroutines.
    """

    @wraps(function)
    def start(*args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return Deferred.fromCoroutine(function(*args, **kwargs))

    return start


async def all_of(answers: Iterable[Deferred[Any]]) -> list[Any]:
    """Wait for all of ``answers``, then return them, or raise the first error."""
    results = []
    for succeeded, answer in await DeferredList(list(answers), consumeErrors=True):
        if not succeeded:
            answer.raiseException()
        results.append(answer)
    return results


def shield(work: Coroutine[Any, Any, T] | Deferred[T]) -> Deferred[T]:
    """Return a Deferred with the result of ``work``; cancelling it does not cancel ``work``.

    Klein cancels the handler of a request when the client disconnects.
    """
    answer: Deferred[T] = Deferred()
    ensureDeferred(work).addCallbacks(answer.callback, answer.errback)
    return answer


async def flush(waiting: Callable[[], int], *, at_most_seconds: float, clock: IReactorTime) -> None:
    """Wait until all work is done, or the time is over, so that the process can end.

    :param waiting: returns how much work is left.
    """
    end = clock.seconds() + at_most_seconds
    while waiting() and clock.seconds() < end:
        await deferLater(clock, _FLUSH_CHECK_SECONDS)
