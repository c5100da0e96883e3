"""How each refusal is named on the wire."""

from twisted.trial.unittest import SynchronousTestCase

from rtdeliver import errors
from rtdeliver.errors import AnsweredNo, Refusal, RemoteFailure

STATUS_BY_NAME = {
    "bad_json": 400,
    "bad_topic": 400,
    "bad_event": 400,
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "unknown_connection": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "too_many_topics": 409,
    "stale_incarnation": 410,
    "too_large": 413,
    "uri_too_long": 414,
    "unsupported_media_type": 415,
    "too_many_requests": 429,
    "headers_too_large": 431,
    "internal_error": 500,
    "unavailable": 503,
}


class RefusalTests(SynchronousTestCase):
    def test_every_refusal_has_a_name_and_a_status_of_its_own(self) -> None:
        kinds = [
            kind
            for kind in vars(errors).values()
            if isinstance(kind, type) and issubclass(kind, Refusal) and kind is not Refusal
        ]
        self.assertEqual(sorted(kind.name for kind in kinds), sorted(STATUS_BY_NAME))
        self.assertEqual({kind.name: kind.status for kind in kinds}, STATUS_BY_NAME)

    def test_a_refusal_keeps_what_the_answer_needs(self) -> None:
        refusal = Refusal("say what", lines=[2, 3], headers={"Allow": "GET"})
        self.assertEqual(
            (str(refusal), refusal.message, refusal.lines, refusal.headers),
            ("say what", "say what", (2, 3), {"Allow": "GET"}),
        )

    def test_a_failed_call_to_another_node_is_no_refusal_of_this_one(self) -> None:
        self.assertFalse(issubclass(RemoteFailure, Refusal))
        self.assertEqual(AnsweredNo(503, "down").status, 503)
