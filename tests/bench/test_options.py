"""Values of options, read and refused."""

import argparse

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.bench.options import positive_float, positive_int, rates, whole_number


class OptionTests(SynchronousTestCase):
    def test_numbers_are_read(self) -> None:
        self.assertEqual(positive_int("19000"), 19000)
        self.assertEqual(positive_float("0.5"), 0.5)
        self.assertEqual(rates("5,10,0.5"), [5.0, 10.0, 0.5])

    def test_zero_is_a_whole_number(self) -> None:
        self.assertEqual((whole_number("0"), whole_number("7")), (0, 7))
        with self.assertRaises(argparse.ArgumentTypeError):
            whole_number("-1")

    def test_what_is_not_positive_is_refused(self) -> None:
        for text in ("0", "-1", "9999999999999"):
            with self.assertRaises(argparse.ArgumentTypeError):
                positive_int(text)

    def test_what_is_no_finite_number_is_refused(self) -> None:
        for text in ("inf", "nan"):
            with self.assertRaises(argparse.ArgumentTypeError):
                positive_float(text)
        for text in ("", "5,", "5;6"):
            with self.assertRaises(ValueError):
                rates(text)
