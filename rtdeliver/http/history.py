"""How clients page through the history of a topic."""

from twisted.web.server import Request

from rtdeliver.errors import BadRequest, NotFound
from rtdeliver.http.replies import answer
from rtdeliver.http.requests import limit_of, single_value
from rtdeliver.messages import END, HistoryPage, HistoryQuery
from rtdeliver.model import check_position, check_topic
from rtdeliver.wire import history_answer


def history_query(request: Request) -> HistoryQuery:
    """Return what a request asks of a history; the newest events, if it does not say.

    :raises Refusal: `BadRequest` or `BadTopic`.
    """
    since, before = single_value(request, "since"), single_value(request, "before")
    if since and before:
        raise BadRequest("give since or before, not both")
    return HistoryQuery(
        topic=check_topic(single_value(request, "topic")),
        since=check_position(since) if since else None,
        before=None if since else check_position(before) if before else END,
        limit=limit_of(request),
    )


def answer_page(request: Request, query: HistoryQuery, page: HistoryPage | None) -> bytes:
    """Answer with a page of a history.

    :raises NotFound: if there is none, since the topic has no history.
    """
    if page is None:
        raise NotFound(f"{query.topic} has no history; the setting history.topics says which have")
    return answer(request, 200, history_answer(query.topic, page))
