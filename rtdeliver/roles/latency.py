"""The role rtlatency: a process that joins the records of tracked events."""

from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Any

from twisted.internet.interfaces import IListeningPort

from rtdeliver.config.sections import Config, Latency
from rtdeliver.errors import ConfigError
from rtdeliver.http.routes import new_app
from rtdeliver.latency.consumer import RecordsConsumer, Source
from rtdeliver.latency.routes import add_latency_route
from rtdeliver.latency.streams import RecordStreams, Run
from rtdeliver.latency.summary import Summary
from rtdeliver.process.host import IHost, node_name
from rtdeliver.process.service import RoleService
from rtdeliver.redis.connection import RedisConnection
from rtdeliver.redis.endpoint import redis_endpoint
from rtdeliver.redis.url import parse_datacenter_redis
from rtdeliver.roles.base import RoleBase

_LISTEN = "tcp:8095:interface=127.0.0.1"


def build_latency(config: Config, reactor: Any, host: IHost) -> RoleService:
    """Put the role together.

    :raises ConfigError: if a setting that the role needs is missing or wrong.
    """
    if not config.redis.urls:
        raise ConfigError("redis.urls: give the Redis of the dispatchers, redis://HOST, at least")
    base = RoleBase("rtlatency", config, reactor, host)
    connections: list[RedisConnection] = []
    runs: list[tuple[str, str, Run]] = []
    for datacenter, address in sorted(map(parse_datacenter_redis, config.redis.urls), key=str):
        redis = RedisConnection(
            endpoint=redis_endpoint(base.reactor, address, config.redis),
            address=address,
            settings=config.redis,
            clock=base.reactor,
            channels={},
            lost=_nothing,
            unsubscribed=_nothing,
            subscribed=_nothing,
        )
        connections.append(redis)
        runs.append((address.name, datacenter, redis.run))
        base.samples.append(redis.samples)
    joiner = new_consumer(config, base, runs)
    app = new_app()
    summary = Summary(results=joiner.own_results, settings=config.latency, now=base.now)
    add_latency_route(app, joiner.results, summary)
    base.status.tell.append(summary.brief)
    base.add_operator_routes(
        app,
        missing=lambda: [reason for redis in connections for reason in redis.missing()],
        samples=[joiner.samples, summary.samples],
    )

    def begin(ports: Mapping[str, IListeningPort]) -> None:  # noqa: ARG001
        for redis in connections:
            redis.start()
        joiner.start()

    async def drain() -> None:
        await joiner.stop()
        for redis in connections:
            await redis.stop()

    description = config.listeners.listen or _LISTEN
    listeners = [base.internal_listener("listen", description, app, {})]
    return base.service(listeners, begin=begin, drain=drain)


def new_consumer(
    config: Config, base: RoleBase, runs: Sequence[tuple[str, str, Run]]
) -> RecordsConsumer:
    """Return what joins the records in several Redis.

    :param runs: what runs scripts in each Redis, with its name and that of its datacenter.
    """
    joiner = f"{node_name(config.node.name)}-{token_hex(4)}"
    return RecordsConsumer(
        sources=[
            Source(name, datacenter, _streams(run, joiner, config.latency))
            for name, datacenter, run in runs
        ],
        settings=config.latency,
        clock=base.reactor,
        now=base.now,
    )


def _streams(run: Run, joiner: str, settings: Latency) -> RecordStreams:
    return RecordStreams(run=run, joiner=joiner, settings=settings)


def _nothing() -> None:
    """Nothing is remembered of a Redis that is lost."""
