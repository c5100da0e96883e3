"""The log as JSON, of real processes."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.conftest import WriteConfig
from tests.integration.roles import DEADLINE_SECONDS, HTTP, LOOPBACK, TWISTD, eventually, fixed_port


def is_live(port: int) -> bool:
    try:
        return HTTP.get(f"http://127.0.0.1:{port}/health/live").status_code == 200
    except httpx.ConnectError:
        return False


@pytest.mark.parametrize("to_file", [False, True], ids=["standard output", "a file"])
@pytest.mark.parametrize("workers", [1, 2])
def test_every_line_is_a_json_object(
    workers: int, to_file: bool, write_config: WriteConfig, tmp_path: Path
) -> None:
    port = fixed_port(workers)
    log = tmp_path / "log"
    options = ["--logfile", str(log)] if to_file else []
    process = subprocess.Popen(
        [
            *(TWISTD, "-n", *options, "rtfrontend", "--public", LOOPBACK, "--node", "n1"),
            *("--internal", f"tcp:{port}:interface=127.0.0.1", "--workers", str(workers)),
            # Nobody listens there, which is told.
            *("--dispatcher", "http://127.0.0.1:1"),
            *write_config({"process.log_format": "json", "process.drain_seconds": 0.1}),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        eventually(lambda: is_live(port + workers - 1), "it listens")
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode in (0, -signal.SIGTERM)
    # With workers, the parent has a log, and they write to its standard output.
    text = log.read_text() + output if to_file else output
    assert not (to_file and workers == 1 and output)
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    fields = {"log_time", "log_level", "log_namespace", "log_text"}
    assert all(fields <= line.keys() for line in lines)
    texts = [line["log_text"] for line in lines]
    # The parent tells this once all workers listen, which may be later.
    assert workers > 1 or any("rtfrontend listens: " in line for line in texts), texts
    [told, *_] = (line for line in lines if line["log_namespace"] == "rtdeliver.frontend.interest")
    assert told["log_level"] == "warn"
    assert "127.0.0.1:1" in told["e"]
