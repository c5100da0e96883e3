"""How commands talk to a server."""

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from rtdeliver.command.failure import CommandError

_ANSWER_SECONDS = 30

_KINDS: dict[str, type[http.client.HTTPConnection]] = {
    "http": http.client.HTTPConnection,
    "https": http.client.HTTPSConnection,
}


def ask(url: str, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Any:
    """Send one request, and return what the JSON of its answer says.

    :param url: of the server.
    :raises CommandError: if there is no answer, or another one than 2xx with JSON.
    """
    connection = connection_to(url, _ANSWER_SECONDS)
    try:
        connection.request(method, path_at(url, path), body, dict(headers))
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(f"{url} does not answer: {error}") from None
    finally:
        connection.close()
    if not 200 <= response.status < 300:
        raise CommandError(refusal(url, response.status, answer))
    try:
        return json.loads(answer)
    except ValueError:
        raise CommandError(f"{url} does not answer as rtdeliver does") from None


def connection_to(url: str, seconds: float) -> Any:
    """Return a connection to the server at ``url``, which waits so long for each answer.

    :raises CommandError: if it is not the URL of a server.
    """
    try:
        parts = urlsplit(url)
        kind, host, port = _KINDS.get(parts.scheme), parts.hostname, parts.port
    except ValueError:
        kind = host = port = None
    if kind is None or not host:
        raise CommandError(f"{url} is not a URL such as http://127.0.0.1:8080")
    return kind(host, port, timeout=seconds)


def path_at(url: str, path: str) -> str:
    """Return a path of the server, whose own URL may have one too."""
    return urlsplit(url).path.rstrip("/") + path


def refusal(url: str, status: int, answer: bytes) -> str:
    """Return in words that a server refuses a request, and why."""
    try:
        reason = json.loads(answer)["message"]
    except (ValueError, KeyError, TypeError):
        reason = answer[:200].decode("utf-8", "replace")
    return f"{url} answers {status}: {reason}"
