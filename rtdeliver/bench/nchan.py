"""Starts an nginx with nchan, with a configuration for benchmarks."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from rtdeliver.bench.machine import BenchError, allow_descriptors, children, fixed_port
from rtdeliver.bench.processes import ending_with_parent

_SPARE_DESCRIPTORS = 200
_START_SECONDS = 10.0
_END_SECONDS = 10.0
_MODULE = "ngx_nchan_module.so"
_MODULES_PATH = re.compile(r"--modules-path=(\S+)")

# One worker, to compare with one frontend. Messages stay in memory; nothing is written to disk.
_CONFIGURATION = """
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {folder}/nginx.pid;
error_log stderr error;
events {{
    worker_connections {connections};
}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_body_buffer_size 64k;
    keepalive_requests 1000000;
    nchan_shared_memory_size 256m;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /publish {{
            nchan_publisher;
            nchan_channel_id $arg_topic;
            nchan_message_buffer_length 100;
            nchan_message_timeout 30s;
        }}
        location = /connect {{
            nchan_subscriber eventsource;
            nchan_channel_id $arg_topic;
            nchan_subscriber_first_message newest;
        }}
    }}
}}
"""


class Nginx(msgspec.Struct, frozen=True):
    """A running nginx.

    :param url: its listener's.
    :param pids: its workers' process ids.
    """

    url: str
    pids: list[int]


class Installed(msgspec.Struct, frozen=True):
    """Where nginx and its nchan module are."""

    program: str
    module: Path


def installed(path: str = "") -> Installed:
    """Find nginx and nchan.

    :param path: folders to look for nginx in, separated by colons; empty for the usual ones.
    :raises BenchError: if nginx or nchan is not installed.
    """
    usual = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
    program = shutil.which("nginx", path=path or usual)
    if program is not None:
        shown = subprocess.run([program, "-V"], capture_output=True, text=True, check=False)  # noqa: S603
        found = _MODULES_PATH.search(shown.stderr)
        module = Path(found[1] if found else "/usr/lib/nginx/modules") / _MODULE
        if module.exists():
            return Installed(program, module)
    raise BenchError("nginx with nchan is not installed; run: apt-get install libnginx-mod-nchan")


@contextmanager
def started_nchan(viewers: int) -> Iterator[Nginx]:
    """Start an nginx for this number of viewers; it ends with the ``with`` block.

    :raises BenchError: if nginx or nchan is not installed, or nginx does not start.
    """
    descriptors = viewers + _SPARE_DESCRIPTORS
    allow_descriptors(descriptors, f"an nginx with {viewers} viewers")
    found = installed()
    port = fixed_port()
    with tempfile.TemporaryDirectory(prefix="rtbench-") as folder:
        path = Path(folder, "nginx.conf")
        path.write_text(
            _CONFIGURATION.format(
                module=found.module,
                descriptors=descriptors,
                # nginx closes some connections when less than a sixteenth is free.
                connections=2 * descriptors,
                folder=folder,
                port=port,
            )
        )
        with Path(folder, "log").open("w+") as log:
            process = subprocess.Popen(  # noqa: S603
                ending_with_parent([found.program, "-p", folder, "-c", str(path)], signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            try:
                _wait_ready(process, port, Path(folder, "log"))
                yield Nginx(f"http://127.0.0.1:{port}", list(children(process.pid)))
            finally:
                process.terminate()
                _end(process)


def _wait_ready(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    raise BenchError(f"nginx did not start: {log.read_text().strip()[-300:]}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
