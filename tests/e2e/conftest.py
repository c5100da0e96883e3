"""What several tests with real clients need: a browser, and a certificate."""

import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import certificates
from tests.e2e.tabs import chromium


class SelfSigned(NamedTuple):
    """A certificate for 127.0.0.1 and localhost, and clients that trust it alone."""

    certificate: Path
    key: Path
    directory: Path

    def client(self, *, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
        """Return what a client connects with.

        :param protocols: that it offers by ALPN.
        """
        context = ssl.create_default_context(cafile=str(self.certificate))
        if protocols:
            context.set_alpn_protocols(protocols)
        return context


@pytest.fixture(scope="session")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> SelfSigned:
    return self_signed_in(tmp_path_factory.mktemp("certificate"))


def self_signed_in(directory: Path) -> SelfSigned:
    """Make a certificate that is valid for an hour."""
    files = SelfSigned(directory / "cert.pem", directory / "key.pem", directory)
    pem = certificates.self_signed()
    files.certificate.write_bytes(pem.certificate)
    files.key.write_bytes(pem.key)
    return files


# Not for the session: while it runs, this thread has a running event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    with chromium() as browser:
        yield browser
