"""The HTTP paths of records, and of what they show once they are joined."""

from collections.abc import Callable

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.web.server import Request

from rtdeliver.deferreds import shield
from rtdeliver.http.replies import answer
from rtdeliver.http.requests import NDJSON, media_type, post_of
from rtdeliver.interfaces import IRecords
from rtdeliver.latency.recorder import MAX_RECORDS
from rtdeliver.latency.results import Results
from rtdeliver.latency.summary import Summary
from rtdeliver.wire import decode_records


def add_records_route(app: Klein, records: IRecords) -> None:
    """Add ``/records``, where frontends send what they record of tracked events."""

    @app.route("/records", methods=["POST"])
    async def write(request: Request) -> bytes:
        post = post_of(request)
        media_type(post.content_type, NDJSON)
        received = decode_records(post.body, MAX_RECORDS)
        await shield(records.write(received))
        return answer(request, 202, {"accepted": len(received)})


def add_latency_route(
    app: Klein, results: Callable[[], Deferred[Results]], summary: Summary
) -> None:
    """Add ``/latency``.

    :param results: fires with what was joined.
    """

    @app.route("/latency", methods=["GET"])
    async def latency(request: Request) -> bytes:
        return answer(request, 200, summary.tell(await shield(results())))
