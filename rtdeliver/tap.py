"""The roles as twistd knows them: their options, and how a service is made of these."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
from twisted.application.service import IService
from twisted.python import usage

from rtdeliver.backoff import Backoff
from rtdeliver.config.load import load_config
from rtdeliver.config.sections import Config
from rtdeliver.errors import ConfigError
from rtdeliver.process.host import IHost, OwnProcess, node_name
from rtdeliver.process.parent import (
    ParentProcess,
    ParentService,
    check_workers,
    end_in_failure,
)
from rtdeliver.process.service import RoleService
from rtdeliver.process.signals import end_at_once, stop_once
from rtdeliver.process.worker import (
    Assignment,
    WorkerHost,
    leave_signals_to_parent,
    take_assignment,
    worker_settings,
)
from rtdeliver.roles.combined import build_combined
from rtdeliver.roles.dispatcher import build_dispatcher
from rtdeliver.roles.frontend import build_frontend
from rtdeliver.roles.likes import build_likes

# What twistd is started as, whichever way this process was.
_TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


_KEYS = {
    "advertise": "node.advertise",
    "app": "listeners.app",
    "cors-origin": "access.cors_origins",
    "database": "likes_database.path",
    "datacenter": "datacenters.name",
    "dispatcher": "node.dispatchers",
    "frontend": "likes.frontend",
    "insecure-internal": "access.insecure_internal",
    "internal": "listeners.internal",
    "listen": "listeners.listen",
    "node": "node.name",
    "peer": "datacenters.peers",
    "public": "listeners.public",
    "redis": "redis.urls",
    "secret-file": "access.secret_file",
    "token-key-file": "access.token_key_file",
    "workers": "workers.count",
}
"""The setting that each option sets."""


class _Options(usage.Options):
    """Options that every role has. Each sets one setting, and wins over the file.

    :cvar role: the name that twistd knows the role by.
    """

    role: ClassVar[str]
    optParameters: ClassVar = [
        ["config", None, None, "A TOML file with any of these settings, and all limits."],
        ["secret-file", None, None, "A file with the secret that internal requests carry."],
    ]

    def opt_insecure_internal(self) -> None:
        """Let other machines reach internal listeners without a secret."""
        self["insecure-internal"] = True

    def parseOptions(self, options: Any = None) -> None:
        """End the process with one line if an option is wrong."""
        self.words = list(options or ())
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"{self.role}: {error}") from None

    def given(self) -> dict[str, Any]:
        """What was given, by table and key."""
        return {_KEYS[name]: self[name] for name in self if name != "config"}

    def _append(self, name: str, value: str) -> None:
        self.setdefault(name, []).append(value)


class _WorkersOptions(_Options):
    """Options of the roles that can run in several processes."""

    def opt_workers(self, number: str) -> None:
        """How many processes share the port. [default: 1]"""
        try:
            self["workers"] = int(number)
        except ValueError:
            raise usage.UsageError(f"workers: {number} is no number") from None


class _DispatchersOptions(_Options):
    """Options of the roles that turn to dispatchers."""

    def opt_dispatcher(self, url: str) -> None:
        """The URL of a dispatcher, such as http://127.0.0.1:8090. Repeatable."""
        self._append("dispatcher", url)


class _TokenOptions(_Options):
    """Options of the roles that deal with members."""

    optParameters: ClassVar = [
        ["token-key-file", None, None, "A file with the key that members' tokens are signed with."],
    ]


class _ViewerOptions(_TokenOptions):
    """Options of the roles that hold streams."""

    optParameters: ClassVar = [
        ["public", None, None, "Where browsers connect, an endpoint string. [default: tcp:8080]"],
        ["internal", None, None, "Where other nodes and operators connect, an endpoint string."],
        ["node", None, None, "The name of this node. [default: host and process id]"],
        ["advertise", None, None, "The URL at which dispatchers reach the internal listener."],
    ]

    def opt_cors_origin(self, origin: str) -> None:
        """An origin whose pages may read the streams, or *. Repeatable."""
        self._append("cors-origin", origin)


class _AppOptions(_TokenOptions):
    """Options of the roles that serve the live-video app."""

    optParameters: ClassVar = [
        ["frontend", None, None, "The URL at which browsers reach the frontends."],
        ["database", None, None, "The SQLite file of the app. [default: livevideo.sqlite]"],
    ]


class _TableOptions(_Options):
    """Options of the roles that route events."""

    def opt_redis(self, url: str) -> None:
        """Where the routing table is, such as redis://10.0.0.4:6379. Repeatable."""
        self._append("redis", url)

    def opt_peer(self, peer: str) -> None:
        """Another datacenter, such as dc2=http://10.1.0.2:8090,http://10.1.0.3:8090. Repeatable."""
        self._append("peer", peer)


class CombinedOptions(_ViewerOptions, _TableOptions, _AppOptions):
    """A dispatcher and a frontend in one process."""

    role = "rtcombined"

    optParameters: ClassVar = [
        ["app", None, None, "Where browsers find the live-video app, an endpoint string."],
    ]


class FrontendOptions(_ViewerOptions, _DispatchersOptions, _WorkersOptions):
    """Holds the browsers' streams."""

    role = "rtfrontend"


class DispatcherOptions(_TableOptions, _WorkersOptions):
    """Accepts events and delivers them to the frontends that have viewers."""

    role = "rtdispatcher"

    optParameters: ClassVar = [
        ["listen", None, None, "Where producers and frontends connect, an endpoint string."],
        ["datacenter", None, None, "The name of this datacenter, which no peer may have."],
    ]


class LikesOptions(_AppOptions, _DispatchersOptions):
    """The live-video app: a page, and a backend that publishes to any dispatcher."""

    role = "rtlikes"

    optParameters: ClassVar = [
        ["listen", None, None, "Where browsers find the app. [default: tcp:8000]"],
        ["internal", None, None, "Where operators connect, an endpoint string. [default: nowhere]"],
    ]


class Role(msgspec.Struct, frozen=True):
    """What twistd asks of a plugin's module, by its names for it.

    :param shared: the key of the listener that workers share; empty if there can be none.
    """

    Options: type[_Options]
    build: Callable[[Config, Any, IHost], RoleService]
    shared: str = ""

    def makeService(self, options: _Options) -> IService:
        """Return the service, or end the process with one line if a setting is wrong."""
        from twisted.internet import reactor

        try:
            config = load_config(options["config"], options.given())
            assignment = take_assignment(os.environ)
            if assignment is not None:
                return self._worker(config, reactor, assignment)
            if self.shared and config.workers.count > 1:
                service: IService = self._workers(config, reactor, options.words)
            else:
                service = self.build(config, reactor, OwnProcess(reactor))
        except ConfigError as error:
            raise SystemExit(str(error)) from None
        stop_once(reactor, [signal.SIGINT, signal.SIGTERM], again=end_at_once)
        return service

    def _worker(self, config: Config, reactor: Any, assignment: Assignment) -> IService:
        leave_signals_to_parent(reactor)
        host = WorkerHost(assignment=assignment, reactor=reactor)
        node = worker_settings(config.node, assignment)
        return self.build(msgspec.structs.replace(config, node=node), reactor, host)

    def _workers(self, config: Config, reactor: Any, words: list[str]) -> IService:
        count = config.workers.count
        check_workers(config.node, count)
        host = ParentProcess(reactor=reactor, workers=count)
        # Also finds what is wrong with the settings before any worker does.
        role = self.build(config, reactor, host)
        return ParentService(
            role=role,
            shared=self.shared,
            host=host,
            node=node_name(config.node.name),
            count=count,
            end_seconds=config.process.drain_seconds + config.workers.grace_seconds,
            new_backoff=lambda: Backoff(config.worker_restart),
            steady_seconds=config.worker_restart.max_seconds,
            command=[*_TWISTD, "-n", "--pidfile=", role.role, *words],
            environ=os.environ,
            reactor=reactor,
            fail=lambda: end_in_failure(reactor),
        )


combined = Role(CombinedOptions, build_combined)
frontend = Role(FrontendOptions, build_frontend, "public")
dispatcher = Role(DispatcherOptions, build_dispatcher, "listen")
likes = Role(LikesOptions, build_likes)
