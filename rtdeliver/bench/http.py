"""Small requests to a role that are not measured: health, counters, single events."""

import http.client
import ipaddress
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from rtdeliver.bench.machine import BenchError

_SECONDS = 30
_PAUSE_SECONDS = 0.02


def address_of(url: str) -> tuple[str, int]:
    """Return host and port of an ``http://`` URL.

    :raises BenchError: if ``url`` is not such a URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        raise BenchError(f"{url} is not a URL") from None
    if parts.scheme != "http" or not parts.hostname:
        raise BenchError(f"{url} is not a URL such as http://HOST:PORT")
    return parts.hostname, port


def check_is_local(url: str, *, allow_remote: bool) -> None:
    """Check that ``url`` is on this machine, so that no other gets the load.

    :raises BenchError: if the host is not a loopback address, unless ``allow_remote``.
    """
    host, _ = address_of(url)
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and not allow_remote:
        raise BenchError(
            f"{url} is not on this machine; add --allow-remote if you may put a load on it"
        )


def fetch(url: str, *, body: bytes | None = None, content_type: str = "application/json") -> bytes:
    """GET ``url``, or POST ``body`` to it, and return the body of the answer.

    :raises BenchError: if there is no answer, or its status is neither 200 nor 202.
    """
    host, port = address_of(url)
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
    try:
        headers = {"Content-Type": content_type} if body is not None else {}
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"{url} did not answer: {error}") from None
    finally:
        connection.close()
    if response.status not in (200, 202):
        raise BenchError(
            f"{url} answered {response.status}: {answer[:200].decode(errors='replace')}"
        )
    return answer


def fetch_json(url: str) -> Any:
    """GET ``url`` and return the decoded JSON of the answer."""
    return msgspec.json.decode(fetch(url))


def metrics(url: str) -> dict[str, float]:
    """Return the metrics of the role at ``url``, by name and labels as the text has them."""
    lines = fetch(url.removesuffix("/metrics") + "/metrics").decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float) -> None:
    """Wait until ``condition()`` is true.

    :param what: completes the sentence "waited in vain until ..." of the error.
    :raises BenchError: if it is not true within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"waited {seconds:g} s in vain until {what}")
        time.sleep(_PAUSE_SECONDS)
