"""How the revocations that the dispatchers of a datacenter keep are read."""

from urllib.parse import urlencode

from rtdeliver.errors import AnsweredNo, NotFound
from rtdeliver.http.client import NodeClient
from rtdeliver.messages import Bookmark, Revocations
from rtdeliver.wire import decode_revocations


async def fetch_revocations(client: NodeClient, url: str, after: Bookmark) -> Revocations:
    """Return a page of the revocations after a bookmark.

    :param url: of a dispatcher. One of a version that keeps none has an empty page.
    :raises RemoteFailure: if it does not answer.
    :raises Refusal: if the answer cannot be read.
    """
    query = urlencode({"store": after.store, "entry": after.entry})
    try:
        answer = await client.get(f"{url}/revocations?{query}")
    except AnsweredNo as failure:
        if failure.status == NotFound.status:
            return Revocations(revocations=(), bookmark=Bookmark())
        raise
    return decode_revocations(answer.body)
