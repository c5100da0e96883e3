"""Checks a file of settings, and shows all settings with their defaults."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from rtdeliver.config.example import example
from rtdeliver.config.load import load_config
from rtdeliver.config.sections import Config
from rtdeliver.process.host import IHost, OwnProcess
from rtdeliver.process.service import RoleService
from rtdeliver.roles.combined import build_combined
from rtdeliver.roles.dispatcher import build_dispatcher
from rtdeliver.roles.frontend import build_frontend
from rtdeliver.roles.likes import build_likes

_ROLES: dict[str, Callable[[Config, Any, IHost], RoleService]] = {
    "rtcombined": build_combined,
    "rtdispatcher": build_dispatcher,
    "rtfrontend": build_frontend,
    "rtlikes": build_likes,
}


class CheckConfig:
    NAME = "check-config"
    HELP = "says whether a file of settings is right, and if not, what would be"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", help="a file for --config")
        parser.add_argument(
            "--role",
            choices=_ROLES,
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
            _ROLES[options.role](config, reactor, OwnProcess(reactor)).check()
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
