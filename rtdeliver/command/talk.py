"""Publishes an event, and shows the events of topics as they come."""

import argparse
import http.client
import json
import time
from collections.abc import Iterator
from urllib.parse import urlencode

from rtdeliver.command.failure import CommandError
from rtdeliver.command.http import ask, connection_to, path_at, refusal
from rtdeliver.http.access import read_secrets

# A frontend sends a heartbeat every viewers.heartbeat_seconds (25).
_SILENCE_SECONDS = 90
_RECONNECT_SECONDS = 3.0


class Publish:
    NAME = "publish"
    HELP = "publishes an event"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("topic", metavar="TOPIC")
        parser.add_argument("data", metavar="DATA", help="JSON; what is no JSON is sent as a text")
        parser.add_argument("--type", default="message", help="message by default")
        parser.add_argument(
            "--url", default="http://127.0.0.1:8090", help="of a dispatcher; %(default)s by default"
        )
        parser.add_argument("--secret-file", metavar="FILE", help="the dispatcher's --secret-file")

    @staticmethod
    def run(options: argparse.Namespace) -> None:
        try:
            data = json.loads(options.data)
        except ValueError:
            data = options.data
        event = {"topic": options.topic, "type": options.type, "data": data}
        headers = {"Content-Type": "application/json"}
        if options.secret_file:
            headers["Authorization"] = f"Bearer {read_secrets(options.secret_file)[0]}"
        answer = ask(options.url, "POST", "/publish", json.dumps(event), headers)
        print(answer["id"])


class Watch:
    NAME = "watch"
    HELP = "prints the events of topics as they come, one line of JSON for each"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("topics", metavar="TOPIC", nargs="+")
        parser.add_argument(
            "--url", default="http://127.0.0.1:8080", help="of a frontend; %(default)s by default"
        )
        parser.add_argument("--token", help="of a member")
        parser.add_argument("--count", type=int, help="end after so many events")

    @staticmethod
    def run(options: argparse.Namespace) -> None:
        left = options.count
        for line in _events(options):
            print(line, flush=True)
            if left is not None:
                left -= 1
                if left <= 0:
                    return


def _events(options: argparse.Namespace) -> Iterator[str]:
    """Yield the events of one stream after the other. Whoever is sent away comes back."""
    wait_seconds = _RECONNECT_SECONDS
    last_id = ""
    while True:
        fields: dict[str, str] = {}
        for name, value in _stream(options, last_id):
            if name:
                fields[name] = value
                continue
            wait_seconds = int(fields.get("retry", wait_seconds * 1000)) / 1000
            last_id = fields.get("id", last_id)
            if "data" in fields and fields.get("event", "message") == "message":
                yield fields["data"]
            elif fields.get("event") in ("gap", "expired"):
                yield json.dumps({fields["event"]: json.loads(fields["data"])})
            fields = {}
        time.sleep(wait_seconds)


def _stream(options: argparse.Namespace, last_id: str) -> Iterator[tuple[str, str]]:
    """Yield the fields of a stream, and a pair of empty texts after each frame.

    :raises CommandError: if there was never one, or the server refuses it.
    """
    query = [("topic", topic) for topic in options.topics]
    if options.token:
        query.append(("token", options.token))
    connection = connection_to(options.url, _SILENCE_SECONDS)
    headers = {"Last-Event-ID": last_id} if last_id else {}
    try:
        connection.request(
            "GET", path_at(options.url, f"/connect?{urlencode(query)}"), headers=headers
        )
        response = connection.getresponse()
        if response.status != 200:
            raise CommandError(refusal(options.url, response.status, response.read()))
        for line in response:
            name, _, value = line.decode().rstrip("\n").partition(":")
            if name or not value:
                yield name, value.removeprefix(" ")
    except (OSError, http.client.HTTPException) as error:
        if not last_id:
            raise CommandError(f"{options.url} does not answer: {error}") from None
    finally:
        connection.close()
