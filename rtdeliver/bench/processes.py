"""Processes that a benchmark starts; none of them outlives it."""

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Self

import msgspec

from rtdeliver.bench.machine import BenchError

# A child inherits the pipe only.
_CONTEXT = multiprocessing.get_context("spawn")
_END_SECONDS = 10.0


# Asks the kernel to send a signal when the parent ends (prctl(2), PR_SET_PDEATHSIG), then executes
# the program, which keeps that. Without site packages this takes half the time.
_ENDING_WITH_PARENT = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, int(sys.argv[1])); "
    "os.execvp(sys.argv[2], sys.argv[2:])"
)


def ending_with_parent(command: Sequence[str], number: signal.Signals) -> list[str]:
    """Return a command like ``command`` that gets this signal when its parent thread ends."""
    return [sys.executable, "-I", "-S", "-c", _ENDING_WITH_PARENT, str(int(number)), *command]


class Failed(msgspec.Struct, frozen=True):
    """What a process sends instead of an answer if it cannot go on."""

    why: str


class Child:
    """A process that runs one function; it ends with the ``with`` block, or with this process.

    :param name: names the process for the user.
    :param work: a module's function. The process calls it with a pipe to this process and
        ``arguments``, and ends when it returns. If it raises an exception, `receive` fails.
    """

    def __init__(self, name: str, work: Callable[..., None], *arguments: object) -> None:
        self.name = name
        self._link, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(
            target=_run, args=(theirs, work, arguments), name=name, daemon=True
        )
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def send(self, message: object) -> None:
        """Send an object that can be pickled.

        :raises BenchError: if the process has ended.
        """
        try:
            self._link.send(message)
        except OSError:
            raise BenchError(f"{self.name} has ended") from None

    def receive(self, seconds: float) -> Any:
        """Return the next object that the process sends.

        :raises BenchError: if the process fails, ends, or sends nothing within ``seconds``.
        """
        try:
            if not self._link.poll(seconds):
                raise BenchError(f"{self.name} did not answer within {seconds:g} s")
            message = self._link.recv()
        except (EOFError, OSError):
            raise BenchError(f"{self.name} has ended") from None
        if isinstance(message, Failed):
            raise BenchError(f"{self.name}: {message.why}")
        return message

    def ask(self, message: object, seconds: float) -> Any:
        """Send ``message`` and return the answer; see `receive`."""
        self.send(message)
        return self.receive(seconds)

    def has_sent(self) -> bool:
        """Return whether `receive` would return or fail at once."""
        return self._link.poll(0)

    def end(self) -> None:
        """Kill the process if it still runs."""
        self._link.close()
        self._process.kill()
        self._process.join(_END_SECONDS)


def wait_until_ns(due_ns: int) -> None:
    """Sleep until CLOCK_MONOTONIC shows ``due_ns``."""
    remaining = due_ns - time.monotonic_ns()
    if remaining > 0:
        time.sleep(remaining / 1e9)


def _run(link: Connection, work: Callable[..., None], arguments: tuple[object, ...]) -> None:
    try:
        work(link, *arguments)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except BenchError as error:
        link.send(Failed(str(error)))
    except Exception as error:
        link.send(Failed(f"{type(error).__name__}: {error}"))
        raise
