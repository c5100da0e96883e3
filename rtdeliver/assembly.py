"""How the pieces of each role are put together."""

from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IListeningPort

from rtdeliver.combined import LocalDispatcherClient, LocalFrontendClient, LocalPlatform
from rtdeliver.config import SAME_HOST, Config
from rtdeliver.dispatcher.client import HttpFrontendClient
from rtdeliver.dispatcher.routes import add_dispatcher_routes, dispatcher_posts
from rtdeliver.errors import ConfigError
from rtdeliver.frontend.client import HttpDispatcherClient
from rtdeliver.frontend.routes import add_topics_routes, frontend_posts
from rtdeliver.http.routes import new_app
from rtdeliver.likes.app import LikesApp
from rtdeliver.likes.platform import HttpPlatform
from rtdeliver.parts import Parts
from rtdeliver.process.host import IHost
from rtdeliver.process.service import RoleService
from rtdeliver.tokens import application_key, read_token_key

_FRONTEND_INTERNAL = "tcp:8081:interface=127.0.0.1"
_DISPATCHER_LISTEN = "tcp:8090:interface=127.0.0.1"
_COMBINED_INTERNAL = "tcp:8090:interface=127.0.0.1"
_LIKES_LISTEN = "tcp:8000"


def build_frontend(config: Config, reactor: Any, host: IHost) -> RoleService:
    """A process that holds streams.

    :raises ConfigError: if the settings do not suffice for the role.
    """
    if not config.dispatcher:
        raise ConfigError("dispatcher: name at least one, such as http://127.0.0.1:8090")
    parts = Parts(config, reactor, host)
    dispatchers = HttpDispatcherClient(urls=config.dispatcher, client=parts.client)
    key = read_token_key(config.token_key_file) if config.token_key_file else None
    frontend = parts.frontend(dispatchers, dispatchers)
    app = new_app()
    add_topics_routes(app, frontend)
    parts.add_operator_routes(app, missing=frontend.missing, samples=[frontend.samples])
    posts = frontend_posts(frontend)

    async def drain() -> None:
        await frontend.drain(config.drain_seconds)
        await frontend.leave()

    return parts.service(
        "rtfrontend",
        [
            parts.internal_listener("internal", config.internal or _FRONTEND_INTERNAL, app, posts),
            parts.public_listener(frontend, dispatchers, key=key, origins=config.cors_origin),
        ],
        begin=lambda ports: frontend.start(parts.own_url(ports["internal"])),
        drain=drain,
    )


def build_dispatcher(config: Config, reactor: Any, host: IHost) -> RoleService:
    """A process that accepts events and routes them.

    :raises ConfigError: if the settings do not suffice for the role.
    """
    if config.workers > 1 and not config.redis:
        raise ConfigError("workers: dispatchers share a routing table in Redis: give its --redis")
    parts = Parts(config, reactor, host)
    routing_table, store = parts.tables()
    dispatcher = parts.dispatcher(routing_table, HttpFrontendClient(parts.fast_client))
    presence = parts.presence(store, dispatcher)
    app = new_app()
    add_dispatcher_routes(app, dispatcher)
    parts.add_presence_routes(app, presence)
    parts.add_operator_routes(
        app, missing=dispatcher.missing, samples=[dispatcher.samples, presence.samples]
    )
    posts = dispatcher_posts(dispatcher, parts.publish_limits)
    listeners = [parts.internal_listener("listen", config.listen or _DISPATCHER_LISTEN, app, posts)]
    if config.worker_listen:
        listeners.append(parts.internal_listener("worker_listen", config.worker_listen, app, posts))

    def begin(_: Mapping[str, IListeningPort]) -> None:
        dispatcher.start()
        presence.start()

    async def drain() -> None:
        presence.stop()
        await dispatcher.stop(config.drain_seconds)

    return parts.service("rtdispatcher", listeners, begin=begin, drain=drain)


def build_combined(config: Config, reactor: Any, host: IHost) -> RoleService:
    """A process that is both; what is HTTP between the two is a call here.

    With ``app`` set it serves the live-video app, too.
    """
    parts = Parts(config, reactor, host)
    dispatchers = LocalDispatcherClient(
        announce=lambda told: dispatcher.announce(told),
        nodes=lambda: dispatcher.nodes(),
        heartbeat=lambda heartbeat: presence.heartbeat(heartbeat),
    )
    frontend = parts.frontend(dispatchers, dispatchers)
    routing_table, store = parts.tables()
    dispatcher = parts.dispatcher(
        routing_table,
        LocalFrontendClient(
            incarnation=parts.incarnation,
            local=frontend,
            remote=HttpFrontendClient(parts.fast_client),
        ),
    )
    presence = parts.presence(store, dispatcher)
    key = read_token_key(config.token_key_file) if config.token_key_file else None
    apps: list[LikesApp] = []
    if config.app:
        key = application_key(config.token_key_file, config.database)
        platform = LocalPlatform(
            publish=dispatcher.publish, viewers=routing_table.viewers, presence=presence.presence
        )
        app = LikesApp(config=config, platform=platform, key=key, reactor=reactor)
        apps.append(app)
    internal = new_app()
    add_dispatcher_routes(internal, dispatcher)
    parts.add_presence_routes(internal, presence)
    add_topics_routes(internal, frontend)
    samples = [dispatcher.samples, presence.samples, frontend.samples]
    parts.add_operator_routes(
        internal,
        missing=lambda: [*dispatcher.missing(), *frontend.missing()],
        samples=[*samples, *(app.samples for app in apps)],
    )
    posts = dispatcher_posts(dispatcher, parts.publish_limits) | frontend_posts(frontend)
    description = config.internal or _COMBINED_INTERNAL
    origins = config.cors_origin or ([SAME_HOST] if apps else [])
    listeners = [
        parts.internal_listener("internal", description, internal, posts),
        parts.public_listener(frontend, dispatchers, key=key, origins=origins),
        *(parts.app_listener("app", config.app, app.resource()) for app in apps),
    ]

    def begin(ports: Mapping[str, IListeningPort]) -> None:
        dispatcher.start()
        presence.start()
        # Deliveries to itself need no URL.
        frontend.start(parts.own_url(ports["internal"], fallback="http://localhost"))
        for app in apps:
            app.start(frontend=parts.public_url(ports["public"]))
            parts.tell_link(config.app, ports["app"])

    async def drain() -> None:
        await frontend.drain(config.drain_seconds)
        await frontend.leave()
        for app in apps:
            await app.stop(config.drain_seconds)
        presence.stop()
        await dispatcher.stop(config.drain_seconds)

    return parts.service("rtcombined", listeners, begin=begin, drain=drain)


def build_likes(config: Config, reactor: Any, host: IHost) -> RoleService:
    """The live-video app alone, which reaches the platform as any application does.

    :raises ConfigError: if the settings do not suffice for the role.
    """
    if not config.dispatcher:
        raise ConfigError("dispatcher: name at least one, such as http://127.0.0.1:8090")
    if not config.frontend:
        raise ConfigError("frontend: say where browsers find it, such as http://localhost:8080")
    parts = Parts(config, reactor, host)
    platform = HttpPlatform(
        urls=config.dispatcher,
        client=parts.node_client(config.publish_seconds),
        clock=reactor,
        shun_seconds=config.retry_max_seconds,
    )
    key = application_key(config.token_key_file, config.database)
    app = LikesApp(config=config, platform=platform, key=key, reactor=reactor)
    description = config.listen or _LIKES_LISTEN
    listeners = [parts.app_listener("listen", description, app.resource())]
    if config.internal:
        internal = new_app()
        parts.add_operator_routes(internal, missing=list, samples=[app.samples])
        listeners.append(parts.internal_listener("internal", config.internal, internal, {}))

    def begin(ports: Mapping[str, IListeningPort]) -> None:
        app.start(frontend=lambda _: config.frontend)
        parts.tell_link(description, ports["listen"])

    return parts.service(
        "rtlikes", listeners, begin=begin, drain=lambda: app.stop(config.drain_seconds)
    )
