"""How twistd starts a role: the options of each role, and the service made from them."""

import os
import signal
import sys
from typing import Any, ClassVar

import msgspec
from twisted.application.service import IService
from twisted.python import usage

from rtdeliver.backoff import Backoff
from rtdeliver.config.load import load_config
from rtdeliver.config.sections import Config
from rtdeliver.errors import ConfigError
from rtdeliver.metrics import versions
from rtdeliver.process.host import IHost, OwnProcess, node_name
from rtdeliver.process.logs import LoggedAsJson, leave_out_noise, name_log_lines
from rtdeliver.process.monotonic import measure_monotonic_time
from rtdeliver.process.parent import (
    ParentProcess,
    ParentService,
    check_workers,
    end_in_failure,
)
from rtdeliver.process.service import RoleService
from rtdeliver.process.signals import end_at_once, reload_at_hangup, stop_once
from rtdeliver.process.worker import (
    Assignment,
    WorkerHost,
    leave_signals_to_parent,
    take_assignment,
    worker_settings,
)
from rtdeliver.roles.reload import Reload
from rtdeliver.roles.table import ROLES

# Starts twistd for a worker, however this process itself was started.
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
    "public-topic": "access.public_topics",
    "redis": "redis.urls",
    "secret-file": "access.secret_file",
    "token-key-file": "access.token_key_file",
    "workers": "workers.count",
}
"""The setting that each option sets."""


def _option(name: str, help: str) -> list[str | None]:
    """Return an option as `usage.Options` takes it; without a default of its own."""
    return [name, None, None, help]


class _Options(usage.Options):
    """Options that every role has. Each sets one setting, and overrides the file.

    :cvar role: the role's name in twistd.
    """

    role: ClassVar[str]
    optParameters: ClassVar = [
        _option(
            "config",
            "Read settings from this TOML file; options override it. [default: no file]",
        ),
        _option(
            "secret-file",
            "Require and send the secret in this file between nodes. [default: no secret]",
        ),
    ]

    def opt_insecure_internal(self) -> None:
        """Let other machines use internal listeners without a secret. [default: refuse to start]"""
        self["insecure-internal"] = True

    def parseOptions(self, options: Any = None) -> None:
        """End the process with one line if an option is wrong."""
        self.words = list(options or ())
        self._choose_pid_file()
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"{self.role}: {error}") from None

    def _choose_pid_file(self) -> None:
        """Let roles run beside each other in one folder, unless twistd was given a pid file.

        By default twistd writes ``twistd.pid`` in the current folder, and starts nothing where that
        is there. A process in the foreground needs no such file.
        """
        twistd: Any = self.parent
        if twistd is not None and not any(word.startswith("--pid") for word in sys.argv):
            twistd["pidfile"] = "" if twistd["nodaemon"] else f"{self.role}.pid"

    def opt_version(self) -> None:
        """Print the versions of rtdeliver, Python and Twisted, and exit."""
        found = versions()
        print(  # noqa: T201
            f"rtdeliver {found['version']} (Python {found['python']}, Twisted {found['twisted']})"
        )
        raise SystemExit(0)

    def given(self) -> dict[str, Any]:
        """Return the values of the options that were given, by table and key of their settings."""
        return {_KEYS[name]: self[name] for name in self if name != "config"}

    def _append(self, name: str, value: str) -> None:
        self.setdefault(name, []).append(value)


class _WorkersOptions(_Options):
    """Options of the roles that can run in several processes."""

    def opt_workers(self, number: str) -> None:
        """Run this many processes that share the listener. [default: 1]"""
        try:
            self["workers"] = int(number)
        except ValueError:
            raise usage.UsageError(f"workers: {number} is not a whole number, such as 4") from None


class _DispatchersOptions(_Options):
    """Options of the roles that send requests to dispatchers."""

    def opt_dispatcher(self, url: str) -> None:
        """Use the dispatcher at this URL; at least one is needed. Repeatable. [default: none]"""
        self._append("dispatcher", url)


class _TokenOptions(_Options):
    """Options of the roles that sign or check members' tokens."""

    optParameters: ClassVar = [
        _option(
            "token-key-file",
            "Sign and check members' tokens with the key in this file, at least 32 bytes."
            " [default: frontends accept no tokens; the app makes a key beside its database]",
        ),
    ]


class _ViewerOptions(_TokenOptions):
    """Options of the roles that hold streams."""

    optParameters: ClassVar = [
        _option(
            "public",
            "Listen for browsers at this endpoint string. [default: tcp:8080]",
        ),
        _option(
            "internal",
            "Listen for other nodes and operators at this endpoint string."
            " [default: on 127.0.0.1, port 8090 in rtcombined and 8081 in rtfrontend]",
        ),
        _option(
            "node",
            "Give this node this name. [default: the host's name and the process id]",
        ),
        _option(
            "advertise",
            "Tell dispatchers to deliver to this URL. [default: where the internal listener is]",
        ),
    ]

    def opt_public_topic(self, pattern: str) -> None:
        """Let anybody watch these topics, as in live:*. Repeatable. [default: all without a key]"""
        self._append("public-topic", pattern)

    def opt_cors_origin(self, origin: str) -> None:
        """Let pages of this origin read the streams; * allows all. Repeatable. [default: none]"""
        self._append("cors-origin", origin)


class _AppOptions(_TokenOptions):
    """Options of the roles that serve the live-video app."""

    optParameters: ClassVar = [
        _option(
            "frontend",
            "Send the app's browsers to the frontends at this URL. rtlikes requires it."
            " [default: in rtcombined, the public port of the same host]",
        ),
        _option(
            "database",
            "Keep the app's data in this SQLite file. [default: livevideo.sqlite]",
        ),
    ]


class _TableOptions(_Options):
    """Options of the roles that route events."""

    optParameters: ClassVar = [
        _option(
            "datacenter",
            "Give this datacenter this name, which no peer may have. [default: no name]",
        ),
    ]

    def opt_redis(self, url: str) -> None:
        """Keep the routing table in this Redis, redis://HOST. Repeatable. [default: in memory]"""
        self._append("redis", url)

    def opt_peer(self, peer: str) -> None:
        """Forward events to another datacenter, NAME=URL,URL. Repeatable. [default: none]"""
        self._append("peer", peer)


class CombinedOptions(_ViewerOptions, _TableOptions, _AppOptions):
    """A dispatcher and a frontend in one process."""

    role = "rtcombined"

    optParameters: ClassVar = [
        _option(
            "app",
            "Serve the live-video app to browsers at this endpoint string. [default: nowhere]",
        ),
    ]


class FrontendOptions(_ViewerOptions, _DispatchersOptions, _WorkersOptions):
    """Holds the browsers' streams."""

    role = "rtfrontend"


class DispatcherOptions(_TableOptions, _WorkersOptions):
    """Accepts events and delivers them to the frontends that have viewers."""

    role = "rtdispatcher"

    optParameters: ClassVar = [
        _option(
            "listen",
            "Listen for producers, frontends and operators at this endpoint string."
            " [default: tcp:8090:interface=127.0.0.1]",
        ),
    ]


class LikesOptions(_AppOptions, _DispatchersOptions):
    """The live-video app: a page, and a backend that publishes to any dispatcher."""

    role = "rtlikes"

    optParameters: ClassVar = [
        _option(
            "listen",
            "Serve the app to browsers at this endpoint string. [default: tcp:8000]",
        ),
        _option(
            "internal",
            "Listen for operators at this endpoint string. [default: nowhere]",
        ),
    ]


class LatencyOptions(_Options):
    """Joins the records of tracked events, and tells how fast and how completely they came."""

    role = "rtlatency"

    optParameters: ClassVar = [
        _option(
            "listen",
            "Listen for operators at this endpoint string. [default: tcp:8095:interface=127.0.0.1]",
        ),
    ]

    def opt_redis(self, url: str) -> None:
        """Join the records in this Redis of dispatchers, [DATACENTER=]redis://HOST. Repeatable."""
        self._append("redis", url)


class Role(msgspec.Struct, frozen=True):
    """A role, as twistd uses it: ``Options`` and ``makeService`` are twistd's names.

    :param shared: the key of the listener that workers share; empty for a role without workers.
    """

    Options: type[_Options]
    shared: str = ""

    def build(self, config: Config, reactor: Any, host: IHost) -> RoleService:
        """Put the role together."""
        return ROLES[self.Options.role](config, reactor, host)

    def makeService(self, options: _Options) -> IService:
        """Return the service, or end the process with one line if a setting is wrong."""
        from twisted.internet import reactor

        measure_monotonic_time(reactor)
        leave_out_noise()
        try:
            config = load_config(options["config"], options.given())
            assignment = take_assignment(os.environ)
            if assignment is None and self.shared and config.workers.count > 1:
                parent = self._workers(config, reactor, options.words)
                reload_at_hangup(reactor, parent.reload)
                service: IService = parent
            else:
                role = self._role(config, reactor, assignment)
                reload_at_hangup(
                    reactor,
                    Reload(
                        config,
                        read=lambda: load_config(options["config"], options.given()),
                        reloaders=role.reloaders,
                    ),
                )
                service = role
        except ConfigError as error:
            raise SystemExit(str(error)) from None
        if assignment is None:
            stop_once(reactor, [signal.SIGINT, signal.SIGTERM], again=end_at_once)
        if config.process.log_format == "json":
            twistd: Any = options.parent or {}
            return LoggedAsJson(
                service,
                logfile=twistd.get("logfile") or "",
                in_foreground=bool(twistd.get("nodaemon")),
            )
        return service

    def _role(self, config: Config, reactor: Any, assignment: Assignment | None) -> RoleService:
        if assignment is None:
            return self.build(config, reactor, OwnProcess(reactor))
        leave_signals_to_parent(reactor)
        host = WorkerHost(assignment=assignment, reactor=reactor)
        node = worker_settings(config.node, assignment)
        name_log_lines(node.name)
        return self.build(msgspec.structs.replace(config, node=node), reactor, host)

    def _workers(self, config: Config, reactor: Any, words: list[str]) -> ParentService:
        count = config.workers.count
        check_workers(config.node, count)
        host = ParentProcess(reactor=reactor, workers=count)
        # This also reports wrong settings, before any worker starts.
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
            command=[*_TWISTD, "-n", role.role, *words],
            environ=os.environ,
            reactor=reactor,
            fail=lambda: end_in_failure(reactor),
        )


combined = Role(CombinedOptions)
frontend = Role(FrontendOptions, "public")
dispatcher = Role(DispatcherOptions, "listen")
latency = Role(LatencyOptions)
likes = Role(LikesOptions)
