"""Where the records of a process go that joins none itself."""

from collections.abc import Sequence

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from zope.interface import implementer

from rtdeliver.deferreds import as_deferred
from rtdeliver.http.client import NodeClient
from rtdeliver.http.failover import Failover
from rtdeliver.http.requests import NDJSON
from rtdeliver.interfaces import IRecords
from rtdeliver.messages import HopRecord
from rtdeliver.wire import encode_records


@implementer(IRecords)
class HttpRecords:
    """Sends records to one of the dispatchers, with ``POST /records``.

    :param dispatchers: the dispatchers of this datacenter.
    """

    def __init__(self, *, dispatchers: Failover, client: NodeClient) -> None:
        self._dispatchers = dispatchers
        self._client = client

    @as_deferred
    async def write(self, records: Sequence[HopRecord]) -> None:
        body = encode_records(records)
        await self._dispatchers.ask(lambda url: self._write(f"{url}/records", body))

    async def _write(self, url: str, body: bytes) -> None:
        await self._client.post(url, body, content_type=NDJSON)


@implementer(IRecords)
class LocatedRecords:
    """Says in each record of which datacenter it is.

    :param records: where the records go.
    """

    def __init__(self, *, datacenter: str, records: IRecords) -> None:
        self._datacenter = datacenter
        self._records = records

    def write(self, records: Sequence[HopRecord]) -> Deferred[None]:
        written: Deferred[None] = self._records.write(
            [replace(record, datacenter=self._datacenter) for record in records]
        )
        return written
