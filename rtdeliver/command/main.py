"""What the ``rtdeliver`` command can do, and how it reads its options."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn, Protocol

import shtab

from rtdeliver.command import doctor, settings, talk, tokens, top
from rtdeliver.command.failure import CommandError
from rtdeliver.errors import ConfigError, Refusal


class Command(Protocol):
    """One thing that the command can do."""

    NAME: str
    HELP: str

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None: ...

    @staticmethod
    def run(options: argparse.Namespace) -> None: ...


COMMANDS: tuple[type[Command], ...] = (
    talk.Publish,
    talk.Watch,
    top.Top,
    doctor.Doctor,
    settings.CheckConfig,
    settings.DefaultConfig,
    tokens.MakeToken,
    tokens.ExplainToken,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 after a line that says why it failed."""
    options = new_parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except (CommandError, ConfigError, Refusal) as error:
        print(f"rtdeliver: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a pipe has seen enough. Python would complain at its end.
        sys.stdout = None
    return 0


class _Parser(argparse.ArgumentParser):
    """Reports a wrong option in one line, with the exit status of every other failure."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: {message}\n")


def new_parser() -> argparse.ArgumentParser:
    """Return what reads the options of all commands."""
    parser = _Parser(prog="rtdeliver", description="Helps to run and to try rtdeliver.")
    parser.add_argument("--version", action="version", version=f"rtdeliver {version('rtdeliver')}")
    shtab.add_argument_to(
        parser,
        "--print-completion",
        help="print a script that completes this command in a shell, and exit",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        own = commands.add_parser(command.NAME, help=command.HELP, description=f"{command.HELP}.")
        command.add_arguments(own)
        own.set_defaults(run=command.run)
    return parser
