"""Which settings fit together: the rules that span several keys, checked once at the start."""

from collections.abc import Callable, Iterable
from operator import attrgetter

from rtdeliver.config.origins import read_origin
from rtdeliver.config.sections import SAME_HOST, Config
from rtdeliver.errors import BadRequest, ConfigError
from rtdeliver.grants import patterns
from rtdeliver.keys import check_key
from rtdeliver.model import check_datacenter, check_node, check_url, parse_peer
from rtdeliver.redis.url import parse_datacenter_redis

_FRAME_OVERHEAD_BYTES = 4096

_AT_MOST = (
    ("retry.min_seconds", "retry.max_seconds", ""),
    ("worker_restart.min_seconds", "worker_restart.max_seconds", ""),
    ("viewers.busy_reconnect_min_seconds", "viewers.busy_reconnect_max_seconds", ""),
    ("routing.announce_seconds", "routing.lease_seconds", "an announcement renews the lease"),
    (
        "deliveries.repeat_seconds",
        "viewers.recent_seconds",
        "a frontend must still recognize a repeated delivery",
    ),
    (
        "forwards.repeat_seconds",
        "viewers.recent_seconds",
        "a frontend must still recognize a repeated forward",
    ),
)
"""The first setting may be at most the second, and why. An obvious rule has no reason."""

_LESS = (
    (
        "presence.claim_seconds",
        "viewers.recent_seconds",
        "a frontend must still recognize a presence change that is published twice",
    ),
    (
        "topics.claim_seconds",
        "viewers.recent_seconds",
        "a frontend must still recognize a change of occupancy that is published twice",
    ),
    ("redis.fresh_seconds", "redis.command_seconds", ""),
    (
        "http.client_idle_seconds",
        "http.idle_seconds",
        "the client must close an idle connection before the server does",
    ),
)
"""The first setting must be less than the second, and why."""

_HOLDS_AN_EVENT = (
    "viewers.mailbox_bytes",
    "deliveries.mailbox_bytes",
    "forwards.mailbox_bytes",
    "publishing.batch_bytes",
)


def check(config: Config) -> None:
    """Check the rules that the range of a single key cannot express.

    :raises ConfigError: with one line that says which setting is wrong, and why.
    """
    _check_names(config)
    _check_times(config)
    _check_sizes(config)


def _check_times(config: Config) -> None:
    for lesser, greater, why in _AT_MOST:
        if attrgetter(lesser)(config) > attrgetter(greater)(config):
            raise _misfit(config, lesser, "must be at most", greater, why)
    for lesser, greater, why in _LESS:
        if attrgetter(lesser)(config) >= attrgetter(greater)(config):
            raise _misfit(config, lesser, "must be less than", greater, why)
    needed_seconds = config.routing.announce_seconds + config.retry.max_seconds
    if config.redis.urls and config.redis.grace_seconds <= needed_seconds:
        raise ConfigError(
            f"{_with_value(config, 'redis.grace_seconds')} must be more than"
            f" routing.announce_seconds and retry.max_seconds together ({needed_seconds:.15g}):"
            " frontends need that long to announce again"
        )


def _check_sizes(config: Config) -> None:
    event_bytes = config.publishing.event_bytes + _FRAME_OVERHEAD_BYTES
    for key in _HOLDS_AN_EVENT:
        if attrgetter(key)(config) < event_bytes:
            raise ConfigError(
                f"{_with_value(config, key)} must be at least {event_bytes}: one event takes"
                f" publishing.event_bytes and up to {_FRAME_OVERHEAD_BYTES} bytes around it"
            )

    for key in ("http.public_body_bytes", "http.internal_body_bytes"):
        if 2 * attrgetter(key)(config) > config.http.bodies_bytes:
            raise ConfigError(
                f"{_with_value(config, key)} must be at most half of"
                f" {_with_value(config, 'http.bodies_bytes')}: public and internal listeners share"
                " these bytes"
            )


def _check_names(config: Config) -> None:
    node, datacenters = config.node, config.datacenters
    _check_each("node.name", check_node, filter(None, [node.name]))
    _check_each("node.advertise", check_url, filter(None, [node.advertise]))
    _check_each("node.dispatchers", check_url, node.dispatchers)
    _check_each("likes.frontend", check_url, filter(None, [config.likes.frontend]))
    _check_each("redis.urls", parse_datacenter_redis, config.redis.urls)
    _check_each("datacenters.name", check_datacenter, filter(None, [datacenters.name]))
    _check_each("datacenters.peers", parse_peer, datacenters.peers)
    _check_peers([parse_peer(peer).name for peer in datacenters.peers], own=datacenters.name)
    _check_each("access.keys", check_key, config.access.keys)
    for key, texts in (
        ("access.public_topics", config.access.public_topics or ()),
        ("topics.occupancy", config.topics.occupancy),
        ("history.topics", config.history.topics),
    ):
        try:
            patterns(texts)
        except BadRequest as refusal:
            raise ConfigError(f"{key}: {refusal.message}") from None
    for origin in config.access.cors_origins:
        if origin not in ("*", SAME_HOST):
            read_origin(origin)


def _check_peers(names: list[str], *, own: str) -> None:
    if own in names:
        raise ConfigError(
            f"datacenters.peers: {own} is the name of this datacenter; name only others"
        )
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"datacenters.peers: {name} is named twice; give all its URLs in one entry"
            )


def _check_each(key: str, check: Callable[[str], object], values: Iterable[str]) -> None:
    for value in values:
        try:
            check(value)
        except BadRequest as refusal:
            raise ConfigError(f"{key}: {refusal.message}") from None


def _misfit(config: Config, key: str, relation: str, other: str, why: str) -> ConfigError:
    line = f"{_with_value(config, key)} {relation} {_with_value(config, other)}"
    return ConfigError(f"{line}: {why}" if why else line)


def _with_value(config: Config, key: str) -> str:
    return f"{key} ({attrgetter(key)(config):.15g})"
