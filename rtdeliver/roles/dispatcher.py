"""The role rtdispatcher: a process that accepts events and routes them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort

from rtdeliver.config.sections import Config
from rtdeliver.dispatcher.client import HttpFrontendClient, HttpPeerClient
from rtdeliver.dispatcher.dispatcher import Dispatcher
from rtdeliver.dispatcher.peers import Peers
from rtdeliver.dispatcher.producers import Producers
from rtdeliver.dispatcher.routes import (
    add_control_routes,
    add_dispatcher_routes,
    add_history_routes,
    add_watchers_routes,
    dispatcher_posts,
)
from rtdeliver.dispatcher.tracking import Tracking
from rtdeliver.dispatcher.watchers import Watchers
from rtdeliver.errors import ConfigError
from rtdeliver.history.classes import HistoryClasses
from rtdeliver.history.memory import MemoryHistory
from rtdeliver.history.redis import RedisHistory
from rtdeliver.history.sharded import ShardedHistory
from rtdeliver.http.failover import last_good
from rtdeliver.http.routes import new_app
from rtdeliver.interfaces import (
    IFrontendClient,
    IHistory,
    IOccupancyStore,
    IPresenceStore,
    IRevocationStore,
    IRoutingTable,
)
from rtdeliver.latency.routes import add_records_route
from rtdeliver.messages import HopRecord
from rtdeliver.model import Topic, parse_peer
from rtdeliver.occupancy.memory import MemoryOccupancyStore
from rtdeliver.occupancy.redis import RedisOccupancyStore
from rtdeliver.occupancy.sharded import ShardedOccupancyStore
from rtdeliver.occupancy.tracker import OccupancyTracker
from rtdeliver.presence.memory import MemoryPresenceStore
from rtdeliver.presence.presence import PresenceTracker
from rtdeliver.presence.redis import RedisPresenceStore
from rtdeliver.presence.routes import add_presence_routes
from rtdeliver.presence.sharded import ShardedPresenceStore
from rtdeliver.process.host import IHost
from rtdeliver.process.service import RoleService
from rtdeliver.redis.connection import RedisConnection
from rtdeliver.redis.endpoint import redis_endpoint
from rtdeliver.redis.url import parse_datacenter_redis
from rtdeliver.revocations.memory import MemoryRevocationStore
from rtdeliver.revocations.redis import RedisRevocationStore
from rtdeliver.roles.access import TokenKeys
from rtdeliver.roles.base import RoleBase
from rtdeliver.roles.records import Records
from rtdeliver.routing.memory import MemoryRoutingTable
from rtdeliver.routing.redis import RedisRoutingTable
from rtdeliver.routing.sharded import ShardedRoutingTable
from rtdeliver.status.frontends import FrontendsStatus, fetch_figures

ASK_SECONDS = 2.0
"""How long a frontend may take to tell its status or who watches. Somebody waits for it."""

_LISTEN = "tcp:8090:interface=127.0.0.1"


def build_dispatcher(config: Config, reactor: Any, host: IHost) -> RoleService:
    """Put the role together.

    :raises ConfigError: if a setting that the role needs is missing or wrong.
    """
    if config.workers.count > 1 and not config.redis.urls:
        raise ConfigError(
            "workers.count: several dispatchers need a routing table that they share: give --redis"
        )
    base = RoleBase("rtdispatcher", config, reactor, host)
    keys = TokenKeys(config, base)
    tables = new_tables(config, base)
    records = Records(config, base, tables.redis, joins=False)
    frontends = HttpFrontendClient(base.fast_client, reader=base.client_within(ASK_SECONDS))
    dispatcher = new_dispatcher(
        config,
        base,
        tables,
        frontends,
        records.recorder.record,
        changed=lambda topics: occupancy.note(topics),
    )
    occupancy = new_occupancy_tracker(config, base, tables.occupancy, dispatcher)
    presence = new_presence_tracker(config, base, tables.presence, dispatcher)
    app = new_app()
    add_routing_routes(app, config, base, dispatcher, presence)
    add_watchers_routes(
        app, dispatcher, Watchers(routing_table=tables.routing, frontends=frontends)
    )
    add_records_route(app, records.records)
    records.add_routes(app)
    base.status.counts.update(dispatcher.counts())
    base.losses.append(dispatcher.losses)
    base.status.tell += [dispatcher.status, new_frontends_status(base, tables.routing).tell]
    base.add_operator_routes(
        app,
        missing=lambda: [*dispatcher.missing(), *keys.missing()],
        samples=[dispatcher.samples, presence.samples, occupancy.samples],
    )
    producers = Producers(identify=keys.identify, revocations=tables.revocations)
    posts = dispatcher_posts(dispatcher, producers, config.publishing)
    places = {"listen": config.listeners.listen or _LISTEN}
    if config.workers.listen:
        places["workers.listen"] = config.workers.listen
    takes_tokens = keys.identify is not None
    listeners = [
        base.internal_listener(key, place, app, posts, takes_tokens=takes_tokens)
        for key, place in places.items()
    ]

    def begin(_: Mapping[str, IListeningPort]) -> None:
        dispatcher.start()
        presence.start()
        occupancy.start()
        records.start()
        keys.start()

    async def drain() -> None:
        presence.stop()
        occupancy.stop()
        keys.stop()
        await dispatcher.flush(config.process.drain_seconds)
        await records.stop()
        await dispatcher.stop()

    return base.service(listeners, begin=begin, drain=drain)


class Tables(msgspec.Struct, frozen=True):
    """What dispatchers share.

    :param history: ``None`` if no topic has one.
    :param redis: the connections of the routing table, by the names of their Redis; the others use
        them, too. None if everything is in memory.
    """

    routing: IRoutingTable
    history: IHistory | None
    presence: IPresenceStore
    revocations: IRevocationStore
    occupancy: IOccupancyStore
    redis: Mapping[str, RedisConnection]


def new_tables(config: Config, base: RoleBase) -> Tables:
    """Return the routing table and the stores."""
    redis, presence = config.redis, config.presence
    max_revocations = config.access.max_revocations
    classes = HistoryClasses(config.history.topics)
    if not redis.urls:
        table = MemoryRoutingTable(clock=base.reactor)
        return Tables(
            table,
            MemoryHistory(
                classes=classes, settings=config.history, clock=base.reactor, now=base.now
            )
            if classes
            else None,
            MemoryPresenceStore(settings=presence, clock=base.reactor, now=base.now),
            MemoryRevocationStore(max_revocations=max_revocations, now=base.now),
            MemoryOccupancyStore(
                routing_table=table, settings=config.topics, clock=base.reactor, now=base.now
            ),
            {},
        )
    tables = {
        address.name: RedisRoutingTable(
            endpoint=redis_endpoint(base.reactor, address, redis),
            address=address,
            settings=redis,
            clock=base.reactor,
        )
        for _, address in map(parse_datacenter_redis, redis.urls)
    }
    base.samples.extend(table.redis.samples for table in tables.values())
    stores = {
        name: RedisPresenceStore(redis=table.redis, settings=presence)
        for name, table in tables.items()
    }
    connections = {name: table.redis for name, table in tables.items()}
    histories = {
        name: RedisHistory(redis=each, classes=classes, settings=config.history)
        for name, each in connections.items()
    }
    # They are few, so one Redis has them all.
    first = min(tables)
    revocations = RedisRevocationStore(redis=connections[first], max_revocations=max_revocations)
    occupancy = {
        name: RedisOccupancyStore(redis=each, settings=config.topics)
        for name, each in connections.items()
    }
    if len(tables) == 1:
        return Tables(
            tables[first],
            histories[first] if classes else None,
            stores[first],
            revocations,
            occupancy[first],
            connections,
        )
    return Tables(
        ShardedRoutingTable(tables),
        ShardedHistory(histories) if classes else None,
        ShardedPresenceStore(stores),
        revocations,
        ShardedOccupancyStore(occupancy),
        connections,
    )


def new_dispatcher(
    config: Config,
    base: RoleBase,
    tables: Tables,
    frontends: IFrontendClient,
    record: Callable[[HopRecord], None],
    changed: Callable[[Iterable[Topic]], None],
) -> Dispatcher:
    """Return a dispatcher with the configured settings and peers.

    :param record: takes the records of tracked events.
    :param changed: called with the topics whose numbers of viewers a frontend has announced.
    """
    peers = [parse_peer(peer) for peer in config.datacenters.peers]
    clients = {
        peer.name: HttpPeerClient(
            dispatchers=base.failover(peer.urls, last_good),
            client=base.fast_client,
            reader=base.client,
        )
        for peer in peers
    }
    return Dispatcher(
        routing_table=tables.routing,
        history=tables.history,
        history_settings=config.history,
        revocations=tables.revocations,
        frontends=frontends,
        settings=config.deliveries,
        read_peers_seconds=config.access.revocation_seconds,
        peers=Peers(
            clients=clients,
            settings=config.forwards,
            clock=base.reactor,
            run_queue=base.run_queue,
            new_backoff=base.new_backoff,
        ),
        changed=changed,
        tracking=Tracking(
            settings=config.latency,
            peers=list(clients),
            record=record,
            now=base.now,
        ),
        clock=base.reactor,
        now=base.now,
        run_queue=base.run_queue,
        new_backoff=base.new_backoff,
    )


def new_frontends_status(base: RoleBase, table: IRoutingTable) -> FrontendsStatus:
    """Return what tells of all frontends of the datacenter."""
    client = base.client_within(ASK_SECONDS)
    return FrontendsStatus(
        nodes=table.nodes,
        fetch=lambda frontend: Deferred.fromCoroutine(fetch_figures(client, frontend)),
        clock=base.reactor,
    )


def new_presence_tracker(
    config: Config, base: RoleBase, store: IPresenceStore, dispatcher: Dispatcher
) -> PresenceTracker:
    """Return the tracker that takes members' heartbeats, and publishes through ``dispatcher``."""
    return PresenceTracker(
        store=store,
        publish=dispatcher.publish,
        settings=config.presence,
        clock=base.reactor,
    )


def new_occupancy_tracker(
    config: Config, base: RoleBase, store: IOccupancyStore, dispatcher: Dispatcher
) -> OccupancyTracker:
    """Return what publishes which topics have viewers, through ``dispatcher``."""
    return OccupancyTracker(
        store=store,
        publish=dispatcher.publish_here,
        settings=config.topics,
        lease_seconds=config.routing.lease_seconds,
        clock=base.reactor,
    )


def add_routing_routes(
    app: Klein, config: Config, base: RoleBase, dispatcher: Dispatcher, presence: PresenceTracker
) -> None:
    """Add the routes for frontends and applications."""
    add_dispatcher_routes(app, dispatcher, base.now)
    add_control_routes(app, dispatcher, config.access, base.now)
    add_history_routes(app, dispatcher)
    add_presence_routes(app, presence, config.presence)
