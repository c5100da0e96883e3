"""Checks a file of settings, and shows all settings with their defaults."""

import argparse
import sys

from rtdeliver.config.example import example
from rtdeliver.config.load import load_config


class CheckConfig:
    NAME = "check-config"
    HELP = "says whether a file of settings is right, and if not, what would be"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", help="a file for --config")

    @staticmethod
    def run(options: argparse.Namespace) -> None:
        load_config(options.file, {})
        print(f"{options.file} is right")


class DefaultConfig:
    NAME = "default-config"
    HELP = "prints a file with every setting, its default, its range and its reason"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """There are none."""

    @staticmethod
    def run(options: argparse.Namespace) -> None:  # noqa: ARG004
        sys.stdout.write(example())
