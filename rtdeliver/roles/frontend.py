"""The role rtfrontend: a process that holds the browsers' streams."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from rtdeliver.config.sections import Config
from rtdeliver.errors import ConfigError
from rtdeliver.frontend.client import HttpDispatcherClient, HttpOwnerClient
from rtdeliver.frontend.clock_offsets import ClockOffsets
from rtdeliver.frontend.frontend import Frontend
from rtdeliver.frontend.owners import OwnedConnections
from rtdeliver.frontend.routes import (
    add_connect_route,
    add_connection_routes,
    add_history_route,
    add_viewers_route,
    frontend_posts,
)
from rtdeliver.grants import Patterns
from rtdeliver.http.access import CorsResource
from rtdeliver.http.failover import last_good
from rtdeliver.http.routes import new_app
from rtdeliver.http.site import ValidatingResource
from rtdeliver.interfaces import IDispatcherClient, IPresenceClient
from rtdeliver.latency.clients import HttpRecords
from rtdeliver.latency.recorder import Recorder
from rtdeliver.process.descriptors import max_connections
from rtdeliver.process.host import IHost, node_name
from rtdeliver.process.listeners import Listener, url_of
from rtdeliver.process.service import RoleService
from rtdeliver.roles.access import TokenKeys, public_topics, reload_public_topics
from rtdeliver.roles.base import RoleBase
from rtdeliver.roles.reload import replacing
from rtdeliver.wheel import TimingWheel

log = Logger()

_INTERNAL = "tcp:8081:interface=127.0.0.1"


def build_frontend(config: Config, reactor: Any, host: IHost) -> RoleService:
    """Put the role together.

    :raises ConfigError: if a setting that the role needs is missing or wrong.
    """
    if not config.node.dispatchers:
        raise ConfigError("node.dispatchers: give at least one URL, such as http://127.0.0.1:8090")
    base = RoleBase("rtfrontend", config, reactor, host)
    offsets = ClockOffsets(base.now)
    base.samples.append(offsets.samples)
    dispatchers = HttpDispatcherClient(
        dispatchers=base.failover(config.node.dispatchers, last_good),
        client=base.client,
        offsets=offsets,
    )
    recorder = Recorder(
        records=HttpRecords(
            dispatchers=base.failover(config.node.dispatchers, last_good), client=base.client
        ),
        settings=config.latency,
        clock=base.reactor,
    )
    base.samples.append(recorder.samples)
    keys = TokenKeys(config, base)
    public = public_topics(config.access)
    frontend = new_frontend(
        config, base, new_incarnation(), dispatchers, dispatchers, recorder, public, keys
    )
    app = new_app()
    add_connection_routes(app, frontend)
    add_viewers_route(app, frontend)
    base.status.counts.update(frontend.counts())
    base.status.ages.update(frontend.ages)
    base.status.tell.append(frontend.status)
    base.losses.append(frontend.losses)
    base.add_operator_routes(
        app,
        missing=lambda: [*frontend.missing(), *keys.missing()],
        samples=[frontend.samples],
    )

    def begin(ports: Mapping[str, IListeningPort]) -> None:
        frontend.start(own_url(config, ports["internal"]))
        recorder.start()
        keys.start()

    async def drain() -> None:
        await frontend.drain(config.process.drain_seconds)
        await recorder.stop()
        await frontend.leave()
        keys.stop()

    reload_public_topics(base, frontend.permissions.use_public_topics, public)
    return base.service(
        [
            base.internal_listener(
                "internal", config.listeners.internal or _INTERNAL, app, frontend_posts(frontend)
            ),
            stream_listener(
                config,
                base,
                frontend,
                dispatchers,
                origins=lambda new: new.access.cors_origins,
            ),
        ],
        begin=begin,
        drain=drain,
    )


def new_incarnation() -> str:
    """Return a name that tells this process from all others of the same node."""
    return secrets.token_hex(8)


def new_frontend(
    config: Config,
    base: RoleBase,
    incarnation: str,
    dispatchers: IDispatcherClient,
    presence: IPresenceClient,
    recorder: Recorder,
    public: Patterns,
    keys: TokenKeys,
) -> Frontend:
    """Return a frontend with the configured settings.

    :param recorder: takes the records of tracked events.
    :param public: what anybody may watch.
    :param keys: check tokens.
    """
    frontend = Frontend(
        settings=config.viewers,
        routing=config.routing,
        presence_settings=config.presence,
        latency=config.latency,
        history=config.history,
        node=node_name(config.node.name),
        incarnation=incarnation,
        max_connections=_max_connections(config.viewers.max_connections),
        dispatchers=dispatchers,
        presence=presence,
        public_topics=public,
        identify=keys.identify,
        record=recorder.record,
        new_backoff=base.new_backoff,
        clock=base.reactor,
        now=base.now,
        run_queue=base.run_queue,
        wheel=TimingWheel(clock=base.reactor, tick_seconds=config.process.tick_seconds),
    )
    recorder.before_writing(frontend.write_records)
    base.reloaders["viewers.max_connections"] = replacing(
        config.viewers.max_connections,
        read=lambda new: new.viewers.max_connections,
        use=lambda most: frontend.use_max_connections(_max_connections(most)),
    )
    return frontend


def _max_connections(configured: int) -> int:
    allowed = max_connections(configured)
    if allowed < configured:
        log.warn(
            "takes {allowed} streams at most, and not viewers.max_connections, {configured}:"
            " its limit of open files allows no more",
            allowed=allowed,
            configured=configured,
        )
    else:
        log.info("takes {allowed} streams at most", allowed=allowed)
    return allowed


def stream_listener(
    config: Config,
    base: RoleBase,
    frontend: Frontend,
    dispatchers: IDispatcherClient,
    *,
    origins: Callable[[Config], Sequence[str]],
) -> Listener:
    """Return the listener at which browsers open streams and change their topics.

    :param origins: returns the origins whose pages may read the streams.
    """
    app = new_app()
    connections = OwnedConnections(
        node=node_name(config.node.name),
        own=frontend,
        dispatchers=dispatchers,
        owners=HttpOwnerClient(base.client),
        clock=base.reactor,
        remember_seconds=config.routing.announce_seconds,
    )
    add_connection_routes(app, connections)
    add_connect_route(app, frontend, config.sockets)
    add_history_route(app, frontend)
    resource = CorsResource(origins(config), ValidatingResource(app.resource()))
    base.reloaders["access.cors_origins"] = replacing(
        origins(config), read=origins, use=resource.use_origins
    )
    return base.public_listener("public", config.listeners.public, resource)


def own_url(config: Config, port: IListeningPort, fallback: str | None = None) -> str:
    """Return the URL at which dispatchers reach ``port``.

    :param fallback: is returned if the URL is not known.
    :raises ConfigError: if the URL is not known and there is no fallback.
    """
    url = config.node.advertise or url_of(port) or fallback
    if url is None:
        raise ConfigError(
            "node.advertise: give the URL at which dispatchers reach the internal listener, since"
            " it listens on all addresses or on a UNIX socket"
        )
    return url
