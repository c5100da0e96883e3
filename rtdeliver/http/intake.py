"""Bounds the requests that have not come completely, and counts those that are refused."""

import enum
from collections import Counter

from twisted.logger import Logger

from rtdeliver.config.sections import Http
from rtdeliver.metrics import Sample, counter, gauge

log = Logger()


class Part(enum.Enum):
    """The part of a request that a client is sending."""

    HEAD = "head"
    BODY = "body"


class Intake:
    """Bounds the unfinished requests at all listeners of one kind in a process, and counts.

    Listeners for browsers and listeners for nodes each have half of ``http.bodies_bytes``, so that
    browsers cannot use up what nodes need.

    :param settings: have the time for each part of a request, the largest head, and the bytes of
        unfinished bodies.
    :param listeners: the kind, as the metrics name it.
    """

    def __init__(self, settings: Http, *, listeners: str) -> None:
        self.head_bytes = settings.head_bytes
        """The largest head of a request."""
        self._listeners = listeners
        self._seconds = {Part.HEAD: settings.head_seconds, Part.BODY: settings.body_seconds}
        self._most_bytes = settings.bodies_bytes // 2
        self._held_bytes = 0
        self._late = dict.fromkeys(Part, 0)
        self._without_room = 0
        self._refused: Counter[int] = Counter({401: 0})

    def seconds(self, part: Part) -> float:
        """Return how long a client may take to send this part."""
        return self._seconds[part]

    def count_late(self, part: Part) -> None:
        """Count a request that was given up because this part took too long."""
        self._late[part] += 1

    def hold(self, size: int) -> bool:
        """Take room for so many further bytes of an unfinished body, if there is room."""
        has_room = self._held_bytes + size <= self._most_bytes
        if has_room:
            self._held_bytes += size
        return has_room

    def release(self, size: int) -> None:
        """Give back room for so many bytes."""
        self._held_bytes -= size

    def count_refused(self, status: int, client: object) -> None:
        """Count a request that was answered with ``status``, 400 or higher.

        The log tells of requests without the secret: of the first, the tenth, the hundredth...

        :param client: its address.
        """
        self._refused[status] += 1
        count = self._refused[status]
        if status == 401 and self._listeners == "internal" and str(count).strip("0") == "1":
            log.warn(
                "a request from {client} lacks the secret, the {count}. one so far",
                client=getattr(client, "host", client),
                count=count,
            )

    def count_without_room(self) -> None:
        """Count a request that was refused because there was no room for its body."""
        self._without_room += 1

    def samples(self) -> list[Sample]:
        at = self._listeners
        return [
            *(
                counter(
                    "late_requests",
                    "Requests that were given up because a part of them took too long.",
                    late,
                    listeners=at,
                    part=part.value,
                )
                for part, late in self._late.items()
            ),
            counter(
                "bodies_without_room",
                "Requests that were refused because other unfinished bodies took up all room.",
                self._without_room,
                listeners=at,
            ),
            *(
                counter(
                    "refused",
                    "Requests that were refused, by the status of the answer.",
                    refused,
                    listeners=at,
                    status=str(status),
                )
                for status, refused in sorted(self._refused.items())
            ),
            gauge(
                "unfinished_bodies_bytes",
                "Bytes of request bodies that have not come completely.",
                self._held_bytes,
                listeners=at,
            ),
        ]
