"""The role rtcombined: dispatcher and frontend in one process, with the live-video app if asked."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace
from twisted.internet.interfaces import IListeningPort

from rtdeliver.config.sections import SAME_HOST, Config, HistoryClass
from rtdeliver.dispatcher.client import HttpFrontendClient
from rtdeliver.dispatcher.producers import Producers
from rtdeliver.dispatcher.routes import add_watchers_routes, dispatcher_posts
from rtdeliver.dispatcher.watchers import Watchers
from rtdeliver.frontend.routes import add_connection_routes, add_viewers_route, frontend_posts
from rtdeliver.http.routes import new_app
from rtdeliver.latency.routes import add_records_route
from rtdeliver.likes.app import LikesApp
from rtdeliver.likes.model import KEPT as APP_KEPT
from rtdeliver.likes.model import PUBLIC as APP_TOPICS
from rtdeliver.process.host import IHost
from rtdeliver.process.service import RoleService
from rtdeliver.roles.access import TokenKeys, public_topics, reload_public_topics
from rtdeliver.roles.base import RoleBase
from rtdeliver.roles.dispatcher import (
    ASK_SECONDS,
    add_routing_routes,
    new_dispatcher,
    new_frontends_status,
    new_occupancy_tracker,
    new_presence_tracker,
    new_tables,
)
from rtdeliver.roles.frontend import (
    new_frontend,
    new_incarnation,
    own_url,
    stream_listener,
)
from rtdeliver.roles.likes import likes_key, likes_listener, log_link, new_likes_app, public_url
from rtdeliver.roles.local import LocalDispatcherClient, LocalFrontendClient, LocalPlatform
from rtdeliver.roles.records import Records

_INTERNAL = "tcp:8090:interface=127.0.0.1"
_APP_HISTORY = {pattern: HistoryClass(events=500, seconds=86_400) for pattern in APP_KEPT}


def build_combined(config: Config, reactor: Any, host: IHost) -> RoleService:
    """Put the role together. Its parts call each other directly instead of over HTTP.

    :raises ConfigError: if a setting that the role needs is missing or wrong.
    """
    if config.listeners.app and not config.history.topics:
        config = replace(config, history=replace(config.history, topics=_APP_HISTORY))
    base = RoleBase("rtcombined", config, reactor, host)
    incarnation = new_incarnation()
    dispatchers = LocalDispatcherClient(
        announce=lambda announcement: dispatcher.announce(announcement),
        nodes=lambda: dispatcher.nodes(),
        heartbeat=lambda heartbeat: presence.heartbeat(heartbeat),
        revocations=lambda after: dispatcher.revocations(after),
        restore=lambda revocations: dispatcher.restore(revocations),
        history=lambda queries: dispatcher.read_history(queries),
    )
    tables = new_tables(config, base)
    records = Records(config, base, tables.redis, joins=True)
    # The app, if it is asked for.
    app_key = likes_key(config) if config.listeners.app else None
    keys = TokenKeys(config, base, None if app_key is None else app_key.key)
    app_topics = () if app_key is None else APP_TOPICS
    public = public_topics(config.access, app_topics)
    frontend = new_frontend(
        config,
        base,
        incarnation,
        dispatchers,
        dispatchers,
        records.recorder,
        public,
        keys,
    )
    frontends = LocalFrontendClient(
        incarnation=incarnation,
        local=frontend,
        remote=HttpFrontendClient(base.fast_client, reader=base.client_within(ASK_SECONDS)),
    )
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
    apps: list[LikesApp] = []
    if app_key is not None:
        platform = LocalPlatform(
            publish=dispatcher.publish,
            viewers=tables.routing.viewers,
            presence=presence.presence,
            disconnect=partial(
                dispatcher.disconnect, keep_seconds=config.access.longest_token_seconds
            ),
        )
        apps.append(new_likes_app(config, platform, app_key, base))
    internal = new_app()
    add_routing_routes(internal, config, base, dispatcher, presence)
    add_watchers_routes(
        internal, dispatcher, Watchers(routing_table=tables.routing, frontends=frontends)
    )
    add_connection_routes(internal, frontend)
    add_viewers_route(internal, frontend)
    add_records_route(internal, records.records)
    records.add_routes(internal)
    base.status.counts.update(frontend.counts())
    base.status.counts["published"] = dispatcher.counts()["published"]
    base.status.ages.update(frontend.ages)
    base.losses += [dispatcher.losses, frontend.losses]
    base.status.tell += [frontend.status, dispatcher.status]
    if tables.redis:
        base.status.tell.append(new_frontends_status(base, tables.routing).tell)
    base.add_operator_routes(
        internal,
        missing=lambda: [
            *dispatcher.missing(),
            *frontend.missing(),
            *keys.missing(),
            *(lacking for app in apps for lacking in app.missing()),
        ],
        samples=[
            dispatcher.samples,
            presence.samples,
            occupancy.samples,
            frontend.samples,
            *(app.samples for app in apps),
        ],
    )
    producers = Producers(identify=keys.identify, revocations=tables.revocations)
    posts = dispatcher_posts(dispatcher, producers, config.publishing) | frontend_posts(frontend)

    def origins(new: Config) -> Sequence[str]:
        return new.access.cors_origins or ([SAME_HOST] if apps else [])

    listeners = [
        base.internal_listener(
            "internal",
            config.listeners.internal or _INTERNAL,
            internal,
            posts,
            takes_tokens=keys.identify is not None,
        ),
        stream_listener(config, base, frontend, dispatchers, origins=origins),
        *(likes_listener(base, "app", config.listeners.app, app) for app in apps),
    ]

    def begin(ports: Mapping[str, IListeningPort]) -> None:
        dispatcher.start()
        presence.start()
        occupancy.start()
        records.start()
        keys.start()
        # The process delivers to itself without a URL, so any URL will do.
        frontend.start(own_url(config, ports["internal"], fallback="http://localhost"))
        for app in apps:
            app.start(frontend=public_url(config, ports["public"]))
            log_link(config.listeners.app, ports["app"], reactor)

    async def drain() -> None:
        drain_seconds = config.process.drain_seconds
        await frontend.drain(drain_seconds)
        await frontend.leave()
        for app in apps:
            await app.stop(drain_seconds)
        presence.stop()
        occupancy.stop()
        keys.stop()
        await dispatcher.flush(drain_seconds)
        await records.stop()
        await dispatcher.stop()

    reload_public_topics(base, frontend.permissions.use_public_topics, public, app_topics)
    return base.service(listeners, begin=begin, drain=drain)
