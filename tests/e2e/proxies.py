"""Runs proxies with the configurations that are shipped in etc/."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.conftest import SelfSigned
from tests.integration.roles import (
    DEADLINE_SECONDS,
    ROOT,
    RoleProcess,
    eventually,
    fixed_port,
)

MARK = "# site"


def installed(name: str) -> str:
    """Return the path of a program, or skip the test."""
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip(f"{name} is not installed")
    return program


def adapt(text: str, values: Mapping[str, str]) -> str:
    """Do what an operator does: replace values on marked lines, all of these and no others."""
    unused = set(values)
    lines = []
    for line in text.splitlines():
        found = [value for value in values if value in line and line.endswith(MARK)]
        assert bool(found) == line.endswith(MARK), f"the test has no value for {line}"
        unused.difference_update(found)
        for value in found:
            line = line.replace(value, values[value])
        lines.append(line)
    assert not unused, f"no marked line has {unused}"
    return "\n".join(lines) + "\n"


@contextmanager
def proxy(
    command: Sequence[str], port: int, directory: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a proxy that listens on ``port``. It keeps its complaints in ``directory``."""
    errors = directory / "errors"
    with errors.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    try:
        eventually(lambda: _listens(port) or process.poll() is not None, "the proxy listens")
        assert process.poll() is None, errors.read_text()
        yield
    finally:
        # With its workers, which outlive a master that is killed.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(DEADLINE_SECONDS)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


_PARAMETERS = {"http": "", "https": "ssl http2"}


class NginxSite(NamedTuple):
    """A running nginx, and where it keeps things."""

    url: str
    plain_url: str
    directory: Path
    tls: Any

    @property
    def stream_log(self) -> str:
        return (self.directory / "streams.log").read_text()


@contextmanager
def nginx(
    directory: Path, self_signed: SelfSigned, *frontends: RoleProcess, scheme: str = "https"
) -> Iterator[NginxSite]:
    """Run nginx before one or two frontends.

    :param scheme: ``http`` for what measures nginx and not the client's TLS.
    """
    program = installed("nginx")
    port, plain_port = fixed_port(), fixed_port()
    text = adapt(
        (ROOT / "etc/nginx.conf").read_text(),
        {
            # Its workers are to read and write below the test's directory.
            "www-data": "root",
            "/run/nginx.pid": f"{directory}/nginx.pid",
            "/var/log/nginx/error.log": "stderr",
            "/var/log/nginx/streams.log": f"{directory}/streams.log",
            "10.0.0.11:8080": frontends[0].ports["public"],
            "10.0.0.12:8080": frontends[-1].ports["public"],
            "listen 80;": f"listen 127.0.0.1:{plain_port};",
            "listen 443 ssl http2 ": f"listen 127.0.0.1:{port} {_PARAMETERS[scheme]} ",
            "/etc/ssl/certs/rtdeliver.pem": str(self_signed.certificate),
            "/etc/ssl/private/rtdeliver.key": str(self_signed.key),
        },
    )
    # Where nginx was built to keep these, an ordinary user cannot write.
    temporary = "".join(
        f"    {kind}_temp_path {directory}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = directory / "nginx.conf"
    config.write_text(text.replace("http {\n", "http {\n" + temporary, 1))
    command = [program, "-p", str(directory), "-c", str(config), "-e", "stderr"]
    with proxy([*command, "-g", "daemon off;"], port, directory):
        yield NginxSite(
            url=f"{scheme}://127.0.0.1:{port}",
            plain_url=f"http://127.0.0.1:{plain_port}",
            directory=directory,
            tls=self_signed.client(),
        )


@contextmanager
def haproxy(
    directory: Path, self_signed: SelfSigned, first: RoleProcess, second: RoleProcess
) -> Iterator[str]:
    program, port = installed("haproxy"), fixed_port()
    pem = directory / "both.pem"
    pem.write_bytes(self_signed.certificate.read_bytes() + self_signed.key.read_bytes())
    config = directory / "haproxy.cfg"
    config.write_text(
        adapt(
            (ROOT / "etc/haproxy.cfg").read_text(),
            {
                "maxconn 60000": "maxconn 1000",
                "bind :443 ": f"bind 127.0.0.1:{port} ",
                "/etc/haproxy/rtdeliver.pem": str(pem),
                "10.0.0.11:8080": first.ports["public"],
                "10.0.0.12:8080": second.ports["public"],
            },
        )
    )
    checked = subprocess.run([program, "-c", "-f", config], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr
    with proxy([program, "-db", "-f", str(config)], port, directory):
        yield f"https://127.0.0.1:{port}"


@contextmanager
def caddy(
    directory: Path, self_signed: SelfSigned, first: RoleProcess, second: RoleProcess
) -> Iterator[str]:
    program, port = installed("caddy"), fixed_port()
    config = directory / "Caddyfile"
    # No listeners but one, on a free port, with a certificate that is there.
    here = f"https://127.0.0.1:{port} {{\n\ttls {self_signed.certificate} {self_signed.key}\n"
    text = adapt(
        (ROOT / "etc/Caddyfile").read_text(),
        {
            "stream.example.com {": here,
            "10.0.0.11:8080": first.ports["public"],
            "10.0.0.12:8080": second.ports["public"],
        },
    )
    config.write_text(text.replace("{\n", "{\n\tadmin off\n\tauto_https disable_redirects\n", 1))
    home = {"HOME": str(directory), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
    command = [program, "run", "--adapter", "caddyfile", "--config", str(config)]
    with proxy(command, port, directory, home):
        yield f"https://127.0.0.1:{port}"
