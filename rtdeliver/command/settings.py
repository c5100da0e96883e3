"""Checks a file of settings, and shows all settings with their defaults."""

import argparse
import sys

from rtdeliver.config.example import example
from rtdeliver.config.load import load_config
from rtdeliver.process.host import OwnProcess
from rtdeliver.roles.table import ROLES


class CheckConfig:
    NAME = "check-config"
    HELP = "says whether a file of settings is right, and if not, what would be"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", help="a file for --config")
        parser.add_argument(
            "--role",
            choices=ROLES,
            help="whether this role can start with the file and no options: it has all settings"
            " that the role needs, and the files that they name can be read",
        )

    @staticmethod
    def run(options: argparse.Namespace) -> None:
        from twisted.internet import reactor

        config = load_config(options.file, {})
        if options.role is None:
            print(f"{options.file} is right")
        else:
            ROLES[options.role](config, reactor, OwnProcess(reactor)).check()
            print(f"{options.file} is right for {options.role}")


class DefaultConfig:
    NAME = "default-config"
    HELP = "prints a file with every setting, its default, its range and its reason"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """There are none."""

    @staticmethod
    def run(options: argparse.Namespace) -> None:  # noqa: ARG004
        sys.stdout.write(example())
