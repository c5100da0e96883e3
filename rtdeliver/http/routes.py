"""Routes that many apps share: errors in JSON, frequent POSTs, health checks and metrics."""

from collections.abc import Callable, Mapping
from typing import Any

from klein import Klein
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WrongMethod

from rtdeliver.errors import MethodNotAllowed, NotFound, Refusal, RemoteFailure, Unavailable
from rtdeliver.http.replies import PostHandler, answer, internal_error, refuse, reply_to
from rtdeliver.http.requests import post_of
from rtdeliver.metrics import Exposition

log = Logger()


def new_app() -> Klein:
    """Return an app without routes that answers every error in JSON."""
    app = _App()

    @app.handle_errors(Exception)
    def failed(request: Any, failure: Failure) -> bytes:
        error = failure.value
        if isinstance(error, WrongMethod) and request.method == b"OPTIONS":
            request.setHeader("Allow", _allowed(error))
            request.setResponseCode(204)
            return b""
        return refuse(request, _refusal(request, failure))

    return app


class _App(Klein):
    """Klein, which says nothing to a client that has left.

    Klein cancels a handler when its client leaves. A handler that calls others may then end with
    what the cancelled call ended with, and Klein would log that.
    """

    def execute_endpoint(
        self, endpoint: str, request: Any, *args: Any, **kwargs: Any
    ) -> Deferred[Any]:
        has_left = False

        def leave(_: Failure) -> None:
            nonlocal has_left
            has_left = True

        def keep_quiet(failure: Failure) -> Failure:
            if has_left and failure.check(Refusal, RemoteFailure):
                return Failure(CancelledError())
            return failure

        request.notifyFinish().addErrback(leave)
        handled = maybeDeferred(super().execute_endpoint, endpoint, request, *args, **kwargs)
        return handled.addErrback(keep_quiet)


def add_posts(app: Klein, posts: Mapping[str, PostHandler]) -> None:
    """Add a path for each handler of a POST."""
    for path, handler in posts.items():
        _add_post(app, path, handler)


def _add_post(app: Klein, path: str, handler: PostHandler) -> None:
    # By default Klein names a route after its function, which has the same name each time.
    @app.route(path, methods=["POST"], endpoint=path)
    async def post(request: Request) -> bytes:
        return reply_to(request, await handler(post_of(request)))


def add_health(app: Klein, missing: Callable[[], list[str]]) -> None:
    """Add the health checks.

    :param missing: returns the reasons why this process cannot serve; empty when it is ready.
    """

    @app.route("/health/live", methods=["GET"])
    def live(request: Request) -> bytes:
        return answer(request, 200, {"live": True})

    @app.route("/health/ready", methods=["GET"])
    def ready(request: Request) -> bytes:
        lacking = missing()
        status = 503 if lacking else 200
        return answer(request, status, {"ready": not lacking, "missing": lacking})


def add_public_health(app: Klein, missing: Callable[[], list[str]]) -> None:
    """Add the health check of a public listener, for load balancers.

    :param missing: returns the reasons why this process should get no visitors now.
    """

    @app.route("/health", methods=["GET"])
    def health(request: Request) -> bytes:
        lacking = missing()
        if lacking:
            raise Unavailable("; ".join(lacking))
        request.setHeader("Content-Type", "text/plain; charset=utf-8")
        request.setHeader("Cache-Control", "no-store")
        return b"ok\n"


def add_metrics(app: Klein, exposition: Exposition) -> None:
    """Add the page that Prometheus scrapes."""

    @app.route("/metrics", methods=["GET"])
    def metrics(request: Request) -> bytes:
        request.setHeader("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        return exposition.text()


def _allowed(error: WrongMethod) -> str:
    """Return the methods that a path takes, as OPTIONS and the refusal of another one name them."""
    return ", ".join(sorted({*(error.valid_methods or ()), "OPTIONS"}))


def _refusal(request: Request, failure: Failure) -> Refusal:
    error = failure.value
    if isinstance(error, Refusal):
        return error
    if isinstance(error, WrongMethod):
        allowed = _allowed(error)
        return MethodNotAllowed(f"this path takes only {allowed}", headers={"Allow": allowed})
    if isinstance(error, HTTPException):
        return NotFound("nothing is served at this path")
    log.failure("{method} {path} failed", failure, method=request.method, path=request.path)
    return internal_error()
