"""Pages in Chromium, each in a profile of its own, and what they complain of."""

import importlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tests.integration.roles import DEADLINE_SECONDS

# The browser's own notes of what a page takes as it comes: a server that was killed does not
# answer, and a stream that has just ended has no topics to change.
_USUAL = (
    r": Failed to load resource: net::ERR_",
    r"/connections/.*/topics: Failed to load resource: .* status of 404 ",
)


# Pixels take time, too, of all pages that are open.
_WINDOW = {"width": 1000, "height": 500}


@contextmanager
def chromium() -> Iterator[Any]:
    """Run the system's Chromium."""
    playwright = importlib.import_module("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
            ],
        )
        try:
            yield browser
        finally:
            browser.close()


class Message(NamedTuple):
    """What a page got on an event stream."""

    event: str
    data: Any

    @property
    def topic(self) -> str | None:
        """Where it was published; ``None`` for a frame of the platform's own."""
        topic: str | None = self.data.get("topic")
        return topic


class Tabs:
    """Opens pages; a context manager that closes them, and fails if one has complained.

    Complaints are exceptions that nobody caught, errors and warnings on the console, so violations
    of the page's own policy too, and dialogs.

    :param browser: of playwright.
    :ivar complaints: of all pages so far.
    """

    def __init__(self, browser: Any) -> None:
        self.complaints: list[str] = []
        self._browser = browser
        self._contexts: dict[Any, Any] = {}
        self._expected = list(_USUAL)

    def __enter__(self) -> "Tabs":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        for page in list(self._contexts):
            # What was said before is heard before the answer.
            page.evaluate("null")
            self.close(page)
        if error is None:
            assert not self.complaints, self.complaints

    def expect(self, pattern: str) -> None:
        """Take what matches ``pattern`` as no complaint from now on."""
        self._expected.append(pattern)

    def open(self, url: str, *, motion: bool = False, **options: Any) -> Any:
        """Open a page, as playwright calls it.

        :param motion: whether its visitor likes things to move, which takes time of all others.
        :param options: of playwright's ``new_context``.
        """
        context = self._browser.new_context(
            **{
                "viewport": _WINDOW,
                "reduced_motion": "no-preference" if motion else "reduce",
                **options,
            }
        )
        context.set_default_timeout(DEADLINE_SECONDS * 1000)
        page = context.new_page()
        self._contexts[page] = context
        page.on("pageerror", lambda error: self._complain(f"error: {error}"))
        page.on("console", self._hear)
        page.on("dialog", self._dismiss)
        page.goto(url)
        return page

    def close(self, page: Any) -> None:
        """Close a page and its profile."""
        self._contexts.pop(page).close()

    def record(self, page: Any) -> list[Message]:
        """Return a list that gets all that comes on the event streams of a page from now on."""
        messages: list[Message] = []

        def note(told: dict[str, Any]) -> None:
            messages.append(Message(told["eventName"], json.loads(told["data"])))

        session = self._contexts[page].new_cdp_session(page)
        session.on("Network.eventSourceMessageReceived", note)
        session.send("Network.enable")
        return messages

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self._complain(f"{message.location['url']}: {message.text}")

    def _dismiss(self, dialog: Any) -> None:
        self._complain(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _complain(self, text: str) -> None:
        if not any(re.search(pattern, text) for pattern in self._expected):
            self.complaints.append(text)
