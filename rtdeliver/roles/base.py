"""The parts that every role has: HTTP clients, a run queue, listeners and a service."""

import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
from klein import Klein
from twisted.internet.interfaces import IListeningPort
from twisted.web.resource import IResource

from rtdeliver.actor import RunQueue
from rtdeliver.backoff import Backoff
from rtdeliver.config.sections import Config
from rtdeliver.errors import ConfigError
from rtdeliver.http.access import Gate, read_secrets
from rtdeliver.http.client import NodeClient, make_agent
from rtdeliver.http.failover import Failover, Order
from rtdeliver.http.fast_client import FastClient
from rtdeliver.http.fast_path import FastPathSite
from rtdeliver.http.intake import Intake
from rtdeliver.http.login import Login
from rtdeliver.http.replies import PostHandler
from rtdeliver.http.routes import add_health, add_metrics, add_posts
from rtdeliver.http.site import BoundedSite, ValidatingResource
from rtdeliver.http.waiting import WaitingConnections
from rtdeliver.metrics import Exposition, Source, build_info
from rtdeliver.process.certificates import certificates_of
from rtdeliver.process.descriptors import max_waiting
from rtdeliver.process.host import IHost, node_name
from rtdeliver.process.lag import ReactorLag
from rtdeliver.process.listeners import Listener, read_certificate
from rtdeliver.process.losses import LossLog
from rtdeliver.process.service import RoleService
from rtdeliver.roles.reload import Reloader, replacing
from rtdeliver.status.routes import add_status_routes
from rtdeliver.status.status import Status, StatusParts


class _Sender(Protocol):
    def use_secret(self, secret: str) -> None: ...


class _Door(Protocol):
    def use_secrets(self, secrets: Sequence[str]) -> None: ...


class RoleBase:
    """Makes the parts that every role has, from the sections that every role reads.

    :param role: the name of the role.
    :param host: binds the listeners.
    :ivar status: what the parts tell at ``/status``.
    :ivar losses: return how much the parts have lost, by what and why; the log sums that up.
    :ivar samples: counts of parts that several others use.
    :ivar reloaders: what uses new settings at a reload, by setting.
    :ivar now: the wall clock, in seconds since the epoch; the reactor measures durations only.
    """

    def __init__(self, role: str, config: Config, reactor: Any, host: IHost) -> None:
        self.reactor = reactor
        self.now: Callable[[], float] = time.time
        self.run_queue = RunQueue(clock=reactor, slice_seconds=config.process.turn_slice_seconds)
        self.new_backoff = partial(Backoff, config.retry)
        self.status = StatusParts()
        self.losses: list[Callable[[], Mapping[str, int]]] = []
        self._role = role
        self._config = config
        self._host = host
        self._secrets = read_secrets(config.access.secret_file)
        # Other nodes are sent the first secret, and all of them open the doors here.
        self._senders: list[_Sender] = []
        self._doors: list[_Door] = []
        self._missing: Callable[[], list[str]] = list
        self.samples: list[Source] = []
        self.reloaders: dict[str, Reloader] = {}
        if self._secrets:
            self.reloaders["access.secret_file"] = replacing(
                self._secrets, read=_read_other_secrets, use=self._use_secrets
            )
        self._internal_intake = Intake(config.http, listeners="internal")
        self._public_intake = Intake(config.http, listeners="public")
        self._waiting = WaitingConnections(max_waiting())
        self._lag = ReactorLag(reactor)
        self._loss_log = LossLog(self._all_losses, reactor)
        self.client = self.client_within(config.http.request_seconds)
        self.fast_client = FastClient(reactor=reactor, settings=config.http, secret=self._secret)
        self._senders.append(self.fast_client)
        self._login = Login(secrets=self._secrets, now=self.now)
        self._doors.append(self._login)
        self._status: Status | None = None

    @property
    def _secret(self) -> str:
        """The secret that other nodes are sent; empty for none."""
        return self._secrets[0] if self._secrets else ""

    def _use_secrets(self, secrets: tuple[str, ...]) -> None:
        self._secrets = secrets
        for sender in self._senders:
            sender.use_secret(self._secret)
        for door in self._doors:
            door.use_secrets(secrets)

    def _all_losses(self) -> dict[str, int]:
        return {what: count for losses in self.losses for what, count in losses().items()}

    def client_within(self, request_seconds: float) -> NodeClient:
        """Return a client for other nodes, whose requests take at most ``request_seconds``."""
        settings = msgspec.structs.replace(self._config.http, request_seconds=request_seconds)
        client = NodeClient(
            agent=make_agent(self.reactor, settings),
            clock=self.reactor,
            settings=settings,
            secret=self._secret,
        )
        self._senders.append(client)
        return client

    def failover(self, urls: Sequence[str], order: Order) -> Failover:
        """Return a group of servers, any of which can be asked."""
        return Failover(
            urls=urls,
            order=order,
            avoid_seconds=self._config.retry.max_seconds,
            clock=self.reactor,
        )

    def add_operator_routes(
        self,
        app: Klein,
        *,
        missing: Callable[[], list[str]],
        samples: Iterable[Source],
    ) -> None:
        """Add the health checks, the metrics and the status; let the log tell what is missing."""
        self._missing = missing
        add_health(app, missing)
        own = [
            build_info,
            self.run_queue.samples,
            self._internal_intake.samples,
            self._public_intake.samples,
            self._waiting.samples,
            self._lag.samples,
            *self.samples,
        ]
        sources = [*samples, *own]
        add_metrics(app, Exposition(sources))
        self._status = Status(
            role=self._role,
            node=node_name(self._config.node.name),
            parts=self.status,
            missing=missing,
            sources=sources,
            clock=self.reactor,
            now=self.now,
        )
        add_status_routes(app, self._status, self._login, self.reactor)

    def internal_listener(
        self,
        key: str,
        description: str,
        app: Klein,
        posts: Mapping[str, PostHandler],
        *,
        takes_tokens: bool = False,
    ) -> Listener:
        """Return a listener for nodes, producers and operators.

        :param posts: handlers of the most frequent requests, by path; the fast path serves these.
        :param takes_tokens: whether producers may send tokens instead of a secret.
        """
        add_posts(app, posts)
        # No browser reaches a UNIX socket, and its clients name whatever host they like.
        any_host = self._config.access.insecure_internal or description.startswith("unix:")
        site = FastPathSite(
            ValidatingResource(app.resource()),
            posts=posts,
            # A queue of its own: a request must not wait for a fan-out to all streams.
            run_queue=RunQueue(
                clock=self.reactor,
                slice_seconds=self._config.process.turn_slice_seconds,
            ),
            body_bytes=self._config.http.internal_body_bytes,
            idle_seconds=self._config.http.idle_seconds,
            intake=self._internal_intake,
            gate=Gate(secrets=self._secrets, any_host=any_host, takes_tokens=takes_tokens),
            reactor=self.reactor,
            now=self.now,
        )
        self._doors.append(site)
        return Listener(key=key, description=description, factory=site)

    def public_listener(self, key: str, description: str, resource: IResource) -> Listener:
        """Return a listener for browsers."""
        return Listener(
            key=key,
            description=description,
            factory=BoundedSite(
                resource,
                body_bytes=self._config.http.public_body_bytes,
                idle_seconds=self._config.http.idle_seconds,
                intake=self._public_intake,
                waiting=self._waiting,
                reactor=self.reactor,
            ),
            guarded=False,
        )

    def service(
        self,
        listeners: list[Listener],
        *,
        begin: Callable[[Mapping[str, IListeningPort]], None],
        drain: Callable[[], Coroutine[Any, Any, None]],
    ) -> RoleService:
        """Return the service that twistd runs."""

        def begin_all(ports: Mapping[str, IListeningPort]) -> None:
            begin(ports)
            self._lag.start()
            self._loss_log.start()
            if self._status is not None:
                self._status.start()

        async def drain_all() -> None:
            await drain()
            self._lag.stop()
            self._loss_log.stop()
            if self._status is not None:
                self._status.stop()

        for listener in listeners:
            if listener.description.startswith("ssl:"):
                self.reloaders[f"listeners.{listener.key}"] = _certificate_reloader(listener)
        return RoleService(
            role=self._role,
            host=self._host,
            reactor=self.reactor,
            listeners=listeners,
            backlog=self._config.listeners.backlog,
            unguarded=bool(self._secrets) or self._config.access.insecure_internal,
            begin=begin_all,
            drain=drain_all,
            missing=lambda: self._missing(),
            reloaders=self.reloaders,
        )


def _read_other_secrets(config: Config) -> tuple[str, ...]:
    secrets = read_secrets(config.access.secret_file)
    if not secrets:
        raise ConfigError("access.secret_file: a running process cannot do without its secret")
    return secrets


def _certificate_reloader(listener: Listener) -> Reloader:
    def reload(_: Config) -> Callable[[], None] | None:
        new = read_certificate(listener)
        is_same = certificates_of(new) == listener.context.certificates
        return None if is_same else lambda: listener.context.use(new)

    return reload
