"""Where the records of a process that routes events go, and whether it joins them itself."""

from collections.abc import Mapping

from klein import Klein

from rtdeliver.config.sections import Config
from rtdeliver.interfaces import IRecords
from rtdeliver.latency.clients import LocatedRecords
from rtdeliver.latency.consumer import RecordsConsumer
from rtdeliver.latency.local import LocalJoiner
from rtdeliver.latency.recorder import Recorder
from rtdeliver.latency.routes import add_latency_route
from rtdeliver.latency.streams import RedisRecords
from rtdeliver.latency.summary import Summary
from rtdeliver.redis.connection import RedisConnection
from rtdeliver.roles.base import RoleBase
from rtdeliver.roles.latency import new_consumer


class Records:
    """The records of tracked events in a process that routes events.

    :ivar records: takes records, also of others.
    :ivar recorder: takes the records of this process.
    :ivar joiner: joins the records here; ``None`` if others do.
    """

    def __init__(
        self, config: Config, base: RoleBase, redis: Mapping[str, RedisConnection], *, joins: bool
    ) -> None:
        self._config = config
        self._base = base
        self.joiner: LocalJoiner | RecordsConsumer | None = None
        records: IRecords
        if redis:
            # Whoever routes can do without records.
            shards = {name: connection.run_minor for name, connection in sorted(redis.items())}
            records = RedisRecords(shards=shards, settings=config.latency)
            if joins:
                sources = [(name, "", run) for name, run in shards.items()]
                self.joiner = new_consumer(config, base, sources)
        else:
            records = self.joiner = LocalJoiner(
                datacenter=config.datacenters.name,
                settings=config.latency,
                clock=base.reactor,
                now=base.now,
            )
        self.records: IRecords = LocatedRecords(datacenter=config.datacenters.name, records=records)
        self.recorder = Recorder(records=self.records, settings=config.latency, clock=base.reactor)
        base.samples.append(self.recorder.samples)

    def add_routes(self, app: Klein) -> None:
        """Add the path of what was joined, if that is here."""
        if self.joiner is not None:
            summary = Summary(
                results=self.joiner.own_results,
                settings=self._config.latency,
                now=self._base.now,
            )
            add_latency_route(app, self.joiner.results, summary)
            self._base.samples += [self.joiner.samples, summary.samples]
            self._base.status.tell.append(summary.brief)

    def start(self) -> None:
        """Begin to write, and to join."""
        self.recorder.start()
        if self.joiner is not None:
            self.joiner.start()

    async def stop(self) -> None:
        """Write what waits, and join no more."""
        await self.recorder.stop()
        if self.joiner is not None:
            await self.joiner.stop()
