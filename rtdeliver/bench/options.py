"""Parses and checks the values of options."""

import argparse
from typing import TypeVar

Number = TypeVar("Number", int, float)


def positive_int(text: str) -> int:
    """Return an integer of 1 or more."""
    return _checked(int(text), text)


def whole_number(text: str) -> int:
    """Return an integer of 0 or more."""
    return 0 if text == "0" else positive_int(text)


def positive_float(text: str) -> float:
    """Return a finite number over 0."""
    return _checked(float(text), text)


def rates(text: str) -> list[float]:
    """Return the positive numbers of a list such as ``5,10,20``."""
    return [positive_float(part) for part in text.split(",")]


def _checked(number: Number, text: str) -> Number:
    if not 0 < number < 1e12:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number
