"""All settings of a process: one frozen value, from a TOML file and options, checked once.

Every key is explained in ``etc/rtdeliver.toml``.
"""

import difflib
import os
import re
import resource
import socket
import tomllib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rtdeliver.errors import BadRequest, ConfigError
from rtdeliver.model import check_datacenter, check_node, check_url, parse_peer
from rtdeliver.redis.url import parse_redis_url

_YEAR_SECONDS = 365 * 86400
Seconds = Annotated[float, Meta(gt=0, le=_YEAR_SECONDS)]
Count = Annotated[int, Meta(gt=0)]
Bytes = Annotated[int, Meta(gt=0)]
Rate = Annotated[float, Meta(gt=0, le=1_000_000)]

SAME_HOST = "same-host"
"""Stands, among origins, for pages of the same host at any port."""

# What a process opens besides streams: listeners, logs, other nodes, clients not yet connected.
_SPARE_DESCRIPTORS = 512
_FRAME_OVERHEAD_BYTES = 4096
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(:[0-9]+)?"
_ORIGIN = re.compile(rf"[a-z][a-z0-9+.-]*://{_HOST}")
_ORDERED = (
    ("busy_retry_min_seconds", "busy_retry_max_seconds"),
    ("retry_min_seconds", "retry_max_seconds"),
    ("worker_restart_min_seconds", "worker_restart_max_seconds"),
    # An announcement renews the lease.
    ("announce_seconds", "lease_seconds"),
    # A frontend has to know a repeat when it comes.
    ("repeat_seconds", "recent_seconds"),
)

_WITH_ROOM_FOR_AN_EVENT = (
    "mailbox_bytes",
    "link_mailbox_bytes",
    "peer_mailbox_bytes",
    "publish_batch_bytes",
)


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set. A role reads what concerns it."""

    # Listeners, as Twisted endpoint strings.
    public: str = "tcp:8080"
    internal: str = ""
    listen: str = ""
    app: str = ""
    listen_backlog: Count = 4096

    # Who knows whom.
    node: str = ""
    advertise: str = ""
    dispatcher: list[str] = []
    datacenter: str = ""
    peer: list[str] = []
    secret_file: str = ""
    insecure_internal: bool = False
    token_key_file: str = ""

    # The routing table.
    redis: list[str] = []
    redis_ca_file: str = ""
    redis_prefix: str = "rtdeliver:"
    redis_command_seconds: Seconds = 2
    redis_reconnect_seconds: Seconds = 1
    redis_grace_seconds: Seconds = 10
    redis_cached_topics: Count = 100000

    # Viewers.
    cors_origin: list[str] = []
    max_connections: Annotated[int, Meta(ge=0)] = 0
    topics_per_connection: Count = 100
    heartbeat_seconds: Seconds = 25
    retry_seconds: Seconds = 3
    busy_retry_min_seconds: Seconds = 5
    busy_retry_max_seconds: Seconds = 30
    stall_seconds: Seconds = 30
    mailbox_bytes: Bytes = 1048576
    mailbox_events: Count = 10000
    overflow: Literal["drop_oldest", "close"] = "drop_oldest"
    send_bytes: Bytes = 65536
    send_buffer_bytes: Annotated[int, Meta(ge=0)] = 131072
    tcp_keepalive_seconds: Count = 60
    tcp_user_timeout_seconds: Count = 60
    public_body_bytes: Bytes = 1048576
    drain_seconds: Annotated[float, Meta(ge=0, le=_YEAR_SECONDS)] = 5

    # Announcements of a frontend, deliveries to it.
    announce_seconds: Seconds = 3
    lease_seconds: Annotated[float, Meta(gt=0, le=3600)] = 30
    confirm_seconds: Seconds = 2
    recent_events: Count = 50000
    recent_seconds: Seconds = 60

    # Who is there.
    presence_heartbeat_seconds: Annotated[float, Meta(gt=0, le=3600)] = 30
    presence_grace_seconds: Annotated[float, Meta(gt=0, le=3600)] = 5
    presence_batch_members: Count = 1000
    presence_sweep_seconds: Seconds = 1
    presence_claim_seconds: Seconds = 5

    # The live-video app.
    frontend: str = ""
    database: str = "livevideo.sqlite"
    database_busy_seconds: Seconds = 5
    database_waiting: Count = 1000
    videos: list[str] = msgspec.field(
        default_factory=lambda: ["red=Canyon at dusk", "green=Northern lights"]
    )
    token_seconds: Annotated[float, Meta(gt=0, le=_YEAR_SECONDS)] = 43200
    behind_proxy: bool = False
    likes_per_second: Rate = 10
    likes_burst: Count = 20
    comments_per_second: Rate = 2
    comments_burst: Count = 10
    sessions_per_second: Rate = 10
    sessions_burst: Count = 100
    limited_visitors: Count = 100000
    comment_characters: Count = 500
    publish_seconds: Seconds = 1
    publish_waiting: Count = 1000
    viewers_seconds: Seconds = 2
    crowd_likes_per_second: Annotated[int, Meta(gt=0, le=10000)] = 100
    crowd_seconds: Seconds = 30

    # What producers may publish.
    event_bytes: Bytes = 65536
    publish_batch_events: Count = 1000
    publish_batch_bytes: Bytes = 1048576

    # Deliveries of a dispatcher, and its forwards.
    delivery_events: Count = 1000
    delivery_bytes: Bytes = 262144
    link_mailbox_bytes: Bytes = 16777216
    link_mailbox_events: Count = 100000
    peer_mailbox_bytes: Bytes = 16777216
    peer_mailbox_events: Count = 100000
    repeat_seconds: Seconds = 30
    sweep_seconds: Seconds = 5

    # Calls between nodes.
    request_seconds: Seconds = 5
    retry_min_seconds: Seconds = 0.1
    retry_max_seconds: Seconds = 3
    internal_body_bytes: Bytes = 33554432

    # The process.
    idle_seconds: Seconds = 60
    turn_slice_seconds: Seconds = 0.002
    tick_seconds: Seconds = 0.25
    workers: Annotated[int, Meta(gt=0, le=1000)] = 1
    worker_listen: str = ""
    worker_restart_min_seconds: Seconds = 0.1
    worker_restart_max_seconds: Seconds = 5
    worker_grace_seconds: Seconds = 10


def load_config(path: str | None, options: Mapping[str, Any]) -> Config:
    """Return the settings of a file, overridden by options.

    :param path: of a TOML file, or ``None``.
    :param options: values by key; those that are ``None`` or empty lists were not given.
    :raises ConfigError: if the file cannot be read, or a key or value is wrong.
    """
    values = _read(path) if path else {}
    values.update((key, value) for key, value in options.items() if value not in (None, []))
    unknown = values.keys() - set(Config.__struct_fields__)
    if unknown:
        raise ConfigError(_unknown_key(min(unknown)))
    try:
        config = msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(error)) from None
    _check_all(config)
    return config


def read_secret(config: Config) -> str:
    """Return the secret that requests between nodes carry; empty if none is configured.

    :raises ConfigError: if the file cannot be read or is empty.
    """
    if not config.secret_file:
        return ""
    try:
        with open(config.secret_file, encoding="ascii") as file:
            secret = file.read().strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"secret_file {config.secret_file}: {_reason(error)}") from None
    if not secret or not secret.isprintable() or " " in secret:
        raise ConfigError(f"secret_file {config.secret_file}: it holds no secret of one word")
    return secret


def node_name(config: Config) -> str:
    """Return the configured name of this node, or one made of the host's and the process id."""
    if config.node:
        return config.node
    host = "".join(c if c.isascii() and c.isalnum() else "-" for c in socket.gethostname())
    return f"{host[:50]}-{os.getpid()}"


def max_connections(config: Config) -> int:
    """Return how many streams this process takes: as configured, or as descriptors allow.

    The soft limit of descriptors is raised to the hard one.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    allowed = max(hard - _SPARE_DESCRIPTORS, hard // 2)
    return min(config.max_connections or allowed, allowed)


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"config {path}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _unknown_key(key: str) -> str:
    close = difflib.get_close_matches(key, Config.__struct_fields__, n=1)
    return f"unknown key {key}" + (f"; did you mean {close[0]}?" if close else "")


def _explain(error: msgspec.ValidationError) -> str:
    what, _, where = str(error).partition(" - at `$.")
    return f"{where.rstrip('`')}: {what[0].lower()}{what[1:]}" if where else what


def _check_all(config: Config) -> None:
    _check_names(config)
    for lesser, greater in _ORDERED:
        if getattr(config, lesser) > getattr(config, greater):
            raise ConfigError(f"{lesser} is more than {greater}")
    for key in _WITH_ROOM_FOR_AN_EVENT:
        if getattr(config, key) < config.event_bytes + _FRAME_OVERHEAD_BYTES:
            raise ConfigError(
                f"{key} has no room for an event of event_bytes and {_FRAME_OVERHEAD_BYTES} more"
            )


def _check_names(config: Config) -> None:
    if config.node:
        _check("node", check_node, config.node)
    if config.advertise:
        _check("advertise", check_url, config.advertise)
    if config.frontend:
        _check("frontend", check_url, config.frontend)
    for url in config.dispatcher:
        _check("dispatcher", check_url, url)
    _check_peers(config)
    for url in config.redis:
        _check("redis", parse_redis_url, url)
    for origin in config.cors_origin:
        if origin not in ("*", SAME_HOST) and not _ORIGIN.fullmatch(origin):
            raise ConfigError(
                f"cors_origin: {origin} is not *, {SAME_HOST}, or like https://example.com"
            )


def _check_peers(config: Config) -> None:
    if config.datacenter:
        _check("datacenter", check_datacenter, config.datacenter)
    names = {config.datacenter}
    for text in config.peer:
        _check("peer", parse_peer, text)
        name = parse_peer(text).name
        if name == config.datacenter:
            raise ConfigError(f"peer: {name} is this datacenter itself")
        if name in names:
            raise ConfigError(f"peer: {name} is named twice; give all its URLs at once")
        names.add(name)


def _check(key: str, check: Callable[[str], object], value: str) -> None:
    try:
        check(value)
    except BadRequest as refusal:
        raise ConfigError(f"{key}: {refusal.message}") from None
