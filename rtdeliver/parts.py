"""The pieces that the roles are built from, made as they are configured."""

import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from klein import Klein
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.web.resource import IResource

from rtdeliver.actor import MailboxLimits, RunQueue
from rtdeliver.config import Config, max_connections, node_name, read_secret
from rtdeliver.dispatcher.client import HttpPeerClient
from rtdeliver.dispatcher.dispatcher import Dispatcher
from rtdeliver.dispatcher.link import LinkSettings
from rtdeliver.dispatcher.peers import Peers
from rtdeliver.errors import ConfigError
from rtdeliver.frontend.client import HttpOwnerClient
from rtdeliver.frontend.connection import ConnectionSettings
from rtdeliver.frontend.feed import FeedSettings
from rtdeliver.frontend.frontend import Frontend, FrontendSettings
from rtdeliver.frontend.interest import InterestSettings
from rtdeliver.frontend.owners import OwnedConnections
from rtdeliver.frontend.presence_heartbeats import PresenceHeartbeatSettings
from rtdeliver.frontend.routes import add_connect_route, add_topics_routes
from rtdeliver.frontend.supervisor import BusyRetry
from rtdeliver.frontend.takeover import SocketSettings
from rtdeliver.http.access import CorsResource, SecretResource
from rtdeliver.http.client import NodeClient, make_agent
from rtdeliver.http.fast_client import FastClient
from rtdeliver.http.fast_path import FastPathSite
from rtdeliver.http.replies import PostHandler
from rtdeliver.http.routes import add_health, add_metrics, add_posts, new_app
from rtdeliver.http.site import BoundedSite, ValidatingResource
from rtdeliver.interfaces import (
    IDispatcherClient,
    IFrontendClient,
    IPresenceClient,
    IPresenceStore,
    IRoutingTable,
)
from rtdeliver.metrics import Exposition, Sample
from rtdeliver.model import parse_peer
from rtdeliver.presence.memory import MemoryPresenceStore, PresenceTimes
from rtdeliver.presence.presence import PresenceSettings, PresenceTracker
from rtdeliver.presence.redis import RedisPresenceStore
from rtdeliver.presence.routes import add_presence_routes
from rtdeliver.presence.sharded import ShardedPresenceStore
from rtdeliver.process.host import IHost
from rtdeliver.process.listeners import Listener, browser_url, url_of
from rtdeliver.process.service import RoleService
from rtdeliver.redis.endpoint import redis_endpoint
from rtdeliver.redis.url import RedisAddress, parse_redis_url
from rtdeliver.routing.memory import MemoryRoutingTable
from rtdeliver.routing.redis import RedisRoutingTable, RedisTableSettings
from rtdeliver.routing.sharded import ShardedRoutingTable
from rtdeliver.tokens import TokenKey
from rtdeliver.wheel import TimingWheel
from rtdeliver.wire import PublishLimits

log = Logger()


class Parts:
    """Makes the pieces of a role, as they are configured."""

    def __init__(self, config: Config, reactor: Any, host: IHost) -> None:
        self._config = config
        self._reactor = reactor
        self._host = host
        self._secret = read_secret(config)
        self._run_queue = self._new_run_queue()
        self._wheel = TimingWheel(clock=reactor, tick_seconds=config.tick_seconds)
        self.incarnation = secrets.token_hex(8)
        self.client = self.node_client(config.request_seconds)
        self.fast_client = FastClient(
            reactor=reactor, secret=self._secret, timeout_seconds=config.request_seconds
        )
        self.publish_limits = PublishLimits(
            event_bytes=config.event_bytes,
            batch_events=config.publish_batch_events,
            batch_bytes=config.publish_batch_bytes,
        )

    def node_client(self, timeout_seconds: float) -> NodeClient:
        """What calls other nodes, each within so many seconds."""
        return NodeClient(
            agent=make_agent(self._reactor, connect_timeout_seconds=timeout_seconds),
            clock=self._reactor,
            secret=self._secret,
            timeout_seconds=timeout_seconds,
        )

    def frontend(self, dispatchers: IDispatcherClient, presence: IPresenceClient) -> Frontend:
        config = self._config
        return Frontend(
            settings=FrontendSettings(
                node=node_name(config),
                max_connections=max_connections(config),
                topics_per_connection=config.topics_per_connection,
                retry_seconds=config.retry_seconds,
                recent_events=config.recent_events,
                recent_seconds=config.recent_seconds,
                feed=FeedSettings(
                    limits=MailboxLimits(
                        mailbox_bytes=config.mailbox_bytes, mailbox_events=config.mailbox_events
                    ),
                    overflow=config.overflow,
                    send_bytes=config.send_bytes,
                ),
                connection=ConnectionSettings(
                    send_bytes=config.send_bytes,
                    heartbeat_seconds=config.heartbeat_seconds,
                    stall_seconds=config.stall_seconds,
                ),
                interest=InterestSettings(
                    announce_seconds=config.announce_seconds,
                    lease_seconds=config.lease_seconds,
                    confirm_seconds=config.confirm_seconds,
                    retry_min_seconds=config.retry_min_seconds,
                    retry_max_seconds=config.retry_max_seconds,
                ),
                heartbeats=PresenceHeartbeatSettings(
                    heartbeat_seconds=config.presence_heartbeat_seconds,
                    batch_members=config.presence_batch_members,
                    retry_min_seconds=config.retry_min_seconds,
                    retry_max_seconds=config.retry_max_seconds,
                ),
            ),
            incarnation=self.incarnation,
            dispatchers=dispatchers,
            presence=presence,
            busy_retry=BusyRetry(
                min_seconds=config.busy_retry_min_seconds,
                max_seconds=config.busy_retry_max_seconds,
            ),
            clock=self._reactor,
            run_queue=self._run_queue,
            wheel=self._wheel,
        )

    def dispatcher(self, routing_table: IRoutingTable, frontends: IFrontendClient) -> Dispatcher:
        config = self._config
        return Dispatcher(
            routing_table=routing_table,
            frontends=frontends,
            links=self._link_settings(
                MailboxLimits(
                    mailbox_bytes=config.link_mailbox_bytes,
                    mailbox_events=config.link_mailbox_events,
                )
            ),
            peers=self._peers(),
            sweep_seconds=config.sweep_seconds,
            clock=self._reactor,
            run_queue=self._run_queue,
        )

    def tables(self) -> tuple[IRoutingTable, IPresenceStore]:
        """Where is kept who watches what, and who is there; the first connects for both."""
        config = self._config
        times = PresenceTimes(
            grace_seconds=config.presence_grace_seconds,
            claim_seconds=config.presence_claim_seconds,
        )
        if not config.redis:
            return (
                MemoryRoutingTable(clock=self._reactor),
                MemoryPresenceStore(times=times, clock=self._reactor),
            )
        tables = {
            address.name: self._redis_table(address)
            for address in map(parse_redis_url, config.redis)
        }
        stores = {
            name: RedisPresenceStore(redis=routing_table.redis, times=times)
            for name, routing_table in tables.items()
        }
        if len(tables) > 1:
            return ShardedRoutingTable(tables), ShardedPresenceStore(stores)
        [only] = tables
        return tables[only], stores[only]

    def presence(self, store: IPresenceStore, dispatcher: Dispatcher) -> PresenceTracker:
        config = self._config
        return PresenceTracker(
            store=store,
            publish=dispatcher.publish,
            settings=PresenceSettings(
                sweep_seconds=config.presence_sweep_seconds,
                sweep_members=config.presence_batch_members,
                hold_seconds=config.presence_heartbeat_seconds + config.presence_grace_seconds,
            ),
            clock=self._reactor,
        )

    def app_listener(self, key: str, description: str, resource: IResource) -> Listener:
        return Listener(
            key=key,
            description=description,
            factory=BoundedSite(
                ValidatingResource(resource),
                body_bytes=self._config.public_body_bytes,
                idle_seconds=self._config.idle_seconds,
                reactor=self._reactor,
            ),
            guarded=False,
        )

    def tell_link(self, description: str, port: IListeningPort) -> None:
        """Say how the app is opened, once all else has been said."""
        url = browser_url(description, port, "localhost")
        if url is not None:
            self._reactor.callLater(0, log.info, "open {url}/", url=url)

    def add_presence_routes(self, app: Klein, presence: PresenceTracker) -> None:
        add_presence_routes(
            app,
            presence,
            max_members=self._config.presence_batch_members,
            heartbeat_seconds=self._config.presence_heartbeat_seconds,
        )

    def add_operator_routes(
        self,
        app: Klein,
        *,
        missing: Callable[[], list[str]],
        samples: Iterable[Callable[[], list[Sample]]],
    ) -> None:
        add_health(app, missing)
        add_metrics(app, Exposition([*samples, self._run_queue.samples]))

    def internal_listener(
        self, key: str, description: str, app: Klein, posts: Mapping[str, PostHandler]
    ) -> Listener:
        add_posts(app, posts)
        resource: IResource = ValidatingResource(app.resource())
        if self._secret:
            resource = SecretResource(self._secret, resource)
        return Listener(
            key=key,
            description=description,
            factory=FastPathSite(
                resource,
                posts=posts,
                # Of its own: a request is not to wait for a fan-out to all streams.
                run_queue=self._new_run_queue(),
                secret=self._secret,
                body_bytes=self._config.internal_body_bytes,
                idle_seconds=self._config.idle_seconds,
                reactor=self._reactor,
            ),
        )

    def public_listener(
        self,
        frontend: Frontend,
        dispatchers: IDispatcherClient,
        *,
        key: TokenKey | None,
        origins: Sequence[str],
    ) -> Listener:
        config = self._config
        now = self._reactor.seconds
        app = new_app()
        connections = OwnedConnections(
            node=node_name(config),
            own=frontend,
            dispatchers=dispatchers,
            owners=HttpOwnerClient(self.client),
            clock=self._reactor,
            remember_seconds=config.announce_seconds,
        )
        add_topics_routes(app, connections)
        add_connect_route(
            app,
            frontend,
            SocketSettings(
                send_buffer_bytes=config.send_buffer_bytes,
                tcp_keepalive_seconds=config.tcp_keepalive_seconds,
                tcp_user_timeout_seconds=config.tcp_user_timeout_seconds,
            ),
            identify=None if key is None else lambda token: key.check(token, now=now()),
        )
        return Listener(
            key="public",
            description=config.public,
            factory=BoundedSite(
                CorsResource(origins, ValidatingResource(app.resource())),
                body_bytes=config.public_body_bytes,
                idle_seconds=config.idle_seconds,
                reactor=self._reactor,
            ),
            guarded=False,
        )

    def public_url(self, port: IListeningPort) -> Callable[[str], str]:
        """Gives the URL at which a browser that reaches a host reaches the public ``port``."""
        config = self._config
        if config.frontend:
            return lambda _: config.frontend
        if browser_url(config.public, port, "") is None:
            raise ConfigError("frontend: say at which URL browsers reach the public listener")
        return lambda host: browser_url(config.public, port, host) or ""

    def own_url(self, port: IListeningPort, fallback: str | None = None) -> str:
        """At which URL dispatchers reach ``port``."""
        url = self._config.advertise or url_of(port) or fallback
        if url is None:
            raise ConfigError("advertise: say at which URL dispatchers reach the internal listener")
        return url

    def service(
        self,
        role: str,
        listeners: list[Listener],
        *,
        begin: Callable[[Mapping[str, IListeningPort]], None],
        drain: Callable[[], Coroutine[Any, Any, None]],
    ) -> RoleService:
        return RoleService(
            role=role,
            host=self._host,
            reactor=self._reactor,
            listeners=listeners,
            backlog=self._config.listen_backlog,
            unguarded=bool(self._secret) or self._config.insecure_internal,
            begin=begin,
            drain=drain,
        )

    def _new_run_queue(self) -> RunQueue:
        return RunQueue(clock=self._reactor, slice_seconds=self._config.turn_slice_seconds)

    def _peers(self) -> Peers:
        config = self._config
        return Peers(
            clients={
                peer.name: HttpPeerClient(urls=peer.urls, client=self.fast_client)
                for peer in map(parse_peer, config.peer)
            },
            settings=self._link_settings(
                MailboxLimits(
                    mailbox_bytes=config.peer_mailbox_bytes,
                    mailbox_events=config.peer_mailbox_events,
                )
            ),
            clock=self._reactor,
            run_queue=self._run_queue,
        )

    def _link_settings(self, limits: MailboxLimits) -> LinkSettings:
        config = self._config
        return LinkSettings(
            limits=limits,
            batch_events=config.delivery_events,
            batch_bytes=config.delivery_bytes,
            repeat_seconds=config.repeat_seconds,
            backoff_min_seconds=config.retry_min_seconds,
            backoff_max_seconds=config.retry_max_seconds,
        )

    def _redis_table(self, address: RedisAddress) -> RedisRoutingTable:
        config = self._config
        return RedisRoutingTable(
            endpoint=redis_endpoint(self._reactor, address, ca_file=config.redis_ca_file),
            settings=RedisTableSettings(
                username=address.username,
                password=address.password,
                database=address.database,
                prefix=config.redis_prefix,
                command_seconds=config.redis_command_seconds,
                reconnect_seconds=config.redis_reconnect_seconds,
                grace_seconds=config.redis_grace_seconds,
                cached_topics=config.redis_cached_topics,
            ),
            clock=self._reactor,
        )
