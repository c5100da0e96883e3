"""Client libraries as people use them: each sees every event at once, and not with the next one."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration import roles
from tests.integration.conftest import WriteConfig
from tests.integration.redis_server import RedisServer
from tests.integration.roles import (
    DEADLINE_SECONDS,
    LOOPBACK,
    ROOT,
    RoleProcess,
    combined,
    eventually,
    fixed_port,
    metrics,
    publish,
)

EVENTS = 3

# Each prints the data of each frame on a line.
_PYTHON = {
    "requests": """
import requests
for line in requests.get(url, stream=True).iter_lines():
    if line.startswith(b"data: "):
        print(line[6:].decode())
""",
    "sseclient-py with requests": """
import requests, sseclient
for event in sseclient.SSEClient(requests.get(url, stream=True)).events():
    print(event.data)
""",
    "urllib3": """
import urllib3
for piece in urllib3.PoolManager().request("GET", url, preload_content=False).stream():
    for line in piece.splitlines():
        if line.startswith(b"data: "):
            print(line[6:].decode())
""",
    "urllib": """
import urllib.request
for line in urllib.request.urlopen(url):
    if line.startswith(b"data: "):
        print(line[6:].decode().strip())
""",
    "httpx": """
import httpx
with httpx.stream("GET", url, timeout=None) as answer:
    for line in answer.iter_lines():
        if line.startswith("data: "):
            print(line[6:])
""",
    "httpx-sse": """
import httpx, httpx_sse
with httpx.Client(timeout=None) as client, httpx_sse.connect_sse(client, "GET", url) as source:
    for event in source.iter_sse():
        print(event.data)
""",
    "aiohttp": """
import aiohttp, asyncio
async def main():
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        async for line in answer.content:
            if line.startswith(b"data: "):
                print(line[6:].decode().strip())
asyncio.run(main())
""",
}
_NODE = {
    "fetch of Node": """
const decoder = new TextDecoder();
let rest = "";
for await (const piece of (await fetch(url)).body) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) console.log(line.slice(6));
}
""",
    "eventsource for Node": """
import { EventSource } from "eventsource";
const source = new EventSource(url);
for (const name of ["connected", "message"]) {
    source.addEventListener(name, (event) => console.log(event.data));
}
""",
}
_GO = """
package main

import ("bufio"; "fmt"; "net/http"; "os"; "strings")

func main() {
	answer, err := http.Get(os.Args[1])
	if err != nil { panic(err) }
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		if data, found := strings.CutPrefix(lines.Text(), "data: "); found { fmt.Println(data) }
	}
}
"""


class Library(NamedTuple):
    """How a client is run: a program that gets the URL as its last word."""

    name: str
    program: str
    source: str

    def command(self, folder: Path, url: str) -> list[str]:
        """Return the command; skip the test if the program or the library is not there."""
        program = shutil.which(self.program)
        if program is None:
            pytest.skip(f"{self.program} is not installed")
        if self.program == "go":
            (folder / "main.go").write_text(self.source)
            build = [program, "build", "-o", "client", "main.go"]
            subprocess.run(build, cwd=folder, check=True, timeout=10 * DEADLINE_SECONDS)
            return [str(folder / "client"), url]
        if self.program == "node":
            if "eventsource" in self.source and not (ROOT / "node_modules/eventsource").exists():
                pytest.skip("eventsource is not installed")
            code = f"const url = process.argv[1];\n{self.source}"
            return [program, "--input-type=module", "-e", code, url]
        if self.program == "curl":
            return [program, "-sN", url]
        code = f"import functools, sys\nprint = functools.partial(print, flush=True)\n{self.source}"
        return [program, "-c", code, url]


LIBRARIES = [
    *(
        Library(name, sys.executable, f"url = sys.argv[1]\n{code}")
        for name, code in _PYTHON.items()
    ),
    *(Library(name, "node", code) for name, code in _NODE.items()),
    Library("Go", "go", _GO),
    Library("curl", "curl", ""),
]

# `urllib3` above takes each piece that comes for whole lines.
READERS_OF_LINES = [library for library in LIBRARIES if library.name != "urllib3"]


class Client:
    """A running client, and the data of the frames that it has told of."""

    def __init__(self, command: list[str]) -> None:
        self.data: list[str] = []
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text = line.strip().removeprefix("data: ")
            if text.startswith("{"):
                self.data.append(text)


@pytest.fixture(scope="module")
def role(write_config: WriteConfig) -> Iterator[RoleProcess]:
    # Nothing else is sent that would push an event out of a buffer.
    with combined(*write_config({"viewers.heartbeat_seconds": 3600})) as process:
        yield process


@contextmanager
def running(command: list[str]) -> Iterator[Client]:
    client = Client(command)
    try:
        yield client
    finally:
        client.stop()


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_each_event_is_seen_before_the_next_one_is_published(
    role: RoleProcess, library: Library, tmp_path: Path
) -> None:
    topic = f"live:{library.name}".replace(" ", "-")
    url = f"{role.url('public')}/connect?topic={topic}"
    with running(library.command(tmp_path, url)) as client:
        eventually(lambda: len(client.data) == 1, f"{library.name} has seen that it is connected")
        assert json.loads(client.data[0])["topics"] == [topic]
        for number in range(EVENTS):
            # Some take these for line ends.
            data = {"number": number, "text": "a\u0085b\u2028c\u2029d"}
            publish(role, {"topic": topic, "data": data})
            eventually(lambda n=number: len(client.data) == n + 2, f"event {number} is seen")  # type: ignore[misc]
            assert json.loads(client.data[-1])["data"] == data
    eventually(lambda: metrics(role)["rtdeliver_connections"] == 0, "the client is gone")


# These tell the last id when they come back. Each prints the data of each frame on a line.
_RETURNERS = {
    "httpx-sse": (
        sys.executable,
        """
import httpx, httpx_sse, time
last = ""
while True:
    try:
        with httpx.Client(timeout=None) as client, httpx_sse.connect_sse(
            client, "GET", url, headers={"Last-Event-ID": last} if last else {}
        ) as source:
            for event in source.iter_sse():
                last = event.id or last
                print(event.data)
    except httpx.HTTPError:
        time.sleep(0.1)
""",
    ),
    "sseclient-py with requests": (
        sys.executable,
        """
import requests, sseclient, time
last = ""
while True:
    try:
        answer = requests.get(url, stream=True, headers={"Last-Event-ID": last} if last else {})
        for event in sseclient.SSEClient(answer).events():
            last = event.id or last
            print(event.data)
    except requests.RequestException:
        time.sleep(0.1)
""",
    ),
    "eventsource for Node": ("node", _NODE["eventsource for Node"]),
}


@pytest.mark.parametrize("name", _RETURNERS)
def test_one_that_tells_the_last_id_goes_on_where_it_was(
    name: str, tmp_path: Path, write_config: WriteConfig
) -> None:
    program, code = _RETURNERS[name]
    source = code if program == "node" else f"url = sys.argv[1]\n{code}"
    config = write_config(
        {
            "history.topics": {"conv:*": {"events": 100, "seconds": 3600}},
            "viewers.reconnect_seconds": 0.2,
        }
    )
    topic, port = "conv:one", fixed_port()
    with RedisServer() as redis:

        def at(public: str) -> AbstractContextManager[RoleProcess]:
            listeners = "--public", public, "--internal", LOOPBACK
            return roles.running("rtcombined", *listeners, "--redis", redis.url, *config)

        public = f"tcp:{port}:interface=127.0.0.1"
        with ExitStack() as stack:
            server = stack.enter_context(at(public))
            command = Library(name, program, source).command(
                tmp_path, f"{server.url('public')}/connect?topic={topic}"
            )
            client = stack.enter_context(running(command))
            eventually(lambda: len(client.data) == 1, "it is connected")
            for number in range(1, 10):
                insist(server, topic, number)
            eventually(lambda: numbers_in(client) == list(range(1, 10)), "they are seen")
            server.stop()
            with at(LOOPBACK) as other:
                for number in range(10, 20):
                    insist(other, topic, number)
            server = stack.enter_context(at(public))
            eventually(lambda: len(numbers_in(client)) >= 19, "the others are seen")
            insist(server, topic, 20)
            eventually(lambda: 20 in numbers_in(client), "the last one is seen")
            assert numbers_in(client) == list(range(1, 21))


def insist(server: RoleProcess, topic: str, number: int) -> None:
    """Publish until it is accepted: a server that has just begun may not have its Redis yet."""
    event = {"topic": topic, "data": number}
    eventually(lambda: publish(server, event).status_code == 202, "it is accepted")


def numbers_in(client: Client) -> list[int]:
    frames = [json.loads(data) for data in client.data]
    return [frame["data"] for frame in frames if "data" in frame]


@pytest.mark.parametrize("library", READERS_OF_LINES, ids=lambda library: library.name)
def test_the_largest_event_is_seen(role: RoleProcess, library: Library, tmp_path: Path) -> None:
    topic = f"large:{library.name}".replace(" ", "-")
    url = f"{role.url('public')}/connect?topic={topic}"
    with running(library.command(tmp_path, url)) as client:
        eventually(lambda: len(client.data) == 1, "it is connected")
        data = "x" * 59_998
        assert publish(role, {"topic": topic, "data": data}).status_code == 202
        eventually(lambda: len(client.data) == 2, "the event is seen")
        assert json.loads(client.data[-1])["data"] == data
