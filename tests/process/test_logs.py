"""Lines of the log as JSON."""

import json
from typing import Any

from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.process.logs import log_line


def event(**fields: Any) -> dict[str, Any]:
    return {
        "log_time": 1_795_417_956.1234567,
        "log_level": LogLevel.warn,
        "log_namespace": "rtdeliver.frontend.interest",
        "log_format": "{node} is late by {seconds} s",
        "log_logger": object(),
        "node": "n1",
        "seconds": 1.5,
        **fields,
    }


def read(**fields: Any) -> dict[str, Any]:
    line = log_line(event(**fields))
    assert line is not None
    assert line.endswith("\n")
    assert line.count("\n") == 1
    read: dict[str, Any] = json.loads(line)
    return read


class LogLineTests(SynchronousTestCase):
    def test_a_line_has_the_fields_of_the_event_and_its_text(self) -> None:
        self.assertEqual(
            read(),
            {
                "log_time": 1_795_417_956.123457,
                "log_level": "warn",
                "log_namespace": "rtdeliver.frontend.interest",
                "log_text": "n1 is late by 1.5 s",
                "node": "n1",
                "seconds": 1.5,
            },
        )

    def test_whatever_is_no_number_is_written_as_a_text(self) -> None:
        line = read(log_format="it {e}", e=ValueError("broke\nhere"), flag=True, nothing=None)
        self.assertEqual(line["log_text"], "it broke\nhere")
        self.assertEqual((line["e"], line["flag"], line["nothing"]), ("broke\nhere", True, None))
        self.assertEqual(len(read(long="x" * 10_000)["long"]), 2000)

    def test_a_failure_has_its_traceback(self) -> None:
        try:
            raise RuntimeError("out of luck")
        except RuntimeError:
            line = read(log_failure=Failure())
        self.assertIn("RuntimeError: out of luck", line["log_failure"])

    def test_a_worker_is_named(self) -> None:
        self.assertEqual(read(log_system="n1-w0 x#info")["log_system"], "n1-w0 x#info")

    def test_an_event_of_the_old_logging_has_no_more_than_its_text(self) -> None:
        line = read(
            log_format="{log_text}", log_text="started", message=("started",), isError=0,
            system="-", time=1.0,
        )  # fmt: skip
        self.assertEqual(line["log_text"], "started")
        self.assertEqual(set(line) & {"message", "isError", "system", "time"}, set())

    def test_an_event_without_a_text_is_no_line(self) -> None:
        self.assertIsNone(log_line(event(log_format="")))
