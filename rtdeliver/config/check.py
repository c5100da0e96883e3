"""Which values go together: what no single range can say, checked once at the start."""

import re
from collections.abc import Callable, Iterable
from operator import attrgetter

from rtdeliver.config.sections import SAME_HOST, Config
from rtdeliver.errors import BadRequest, ConfigError
from rtdeliver.model import check_datacenter, check_node, check_url, parse_peer
from rtdeliver.redis.url import parse_redis_url

_FRAME_OVERHEAD_BYTES = 4096
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(:[0-9]+)?"
_ORIGIN = re.compile(rf"[a-z][a-z0-9+.-]*://{_HOST}")

_AT_MOST = (
    ("retry.min_seconds", "retry.max_seconds", ""),
    ("worker_restart.min_seconds", "worker_restart.max_seconds", ""),
    ("viewers.busy_reconnect_min_seconds", "viewers.busy_reconnect_max_seconds", ""),
    ("routing.announce_seconds", "routing.lease_seconds", "an announcement renews the lease"),
    (
        "deliveries.repeat_seconds",
        "viewers.recent_seconds",
        "a frontend must recognize a delivery that is repeated",
    ),
    (
        "forwards.repeat_seconds",
        "viewers.recent_seconds",
        "a frontend must recognize a forward that is repeated",
    ),
)
"""The first is no more than the second, and why; a bound that is its own reason has none."""

_LESS = (
    (
        "presence.claim_seconds",
        "viewers.recent_seconds",
        "a frontend must recognize a change of presence that two dispatchers publish",
    ),
    (
        "http.client_idle_seconds",
        "http.idle_seconds",
        "a request must not be sent on a connection that the server closes at that moment",
    ),
)
"""The first is less than the second, and why."""

_WITH_ROOM_FOR_AN_EVENT = (
    "viewers.mailbox_bytes",
    "deliveries.mailbox_bytes",
    "forwards.mailbox_bytes",
    "publishing.batch_bytes",
)


def check(config: Config) -> None:
    """Check the values that a range cannot check.

    :raises ConfigError: with one line that says what is wrong.
    """
    _check_names(config)
    _check_times(config)
    _check_sizes(config)


def _check_times(config: Config) -> None:
    for lesser, greater, why in _AT_MOST:
        if attrgetter(lesser)(config) > attrgetter(greater)(config):
            raise ConfigError(f"{lesser} is more than {greater}{f': {why}' if why else ''}")
    for lesser, greater, why in _LESS:
        if attrgetter(lesser)(config) >= attrgetter(greater)(config):
            raise ConfigError(f"{lesser} is not less than {greater}: {why}")
    if config.redis.urls and config.redis.grace_seconds <= (
        config.routing.announce_seconds + config.retry.max_seconds
    ):
        raise ConfigError(
            "redis.grace_seconds is not more than routing.announce_seconds and retry.max_seconds"
            " together: frontends need that long to announce anew"
        )


def _check_sizes(config: Config) -> None:
    event_bytes = config.publishing.event_bytes + _FRAME_OVERHEAD_BYTES
    for key in _WITH_ROOM_FOR_AN_EVENT:
        if attrgetter(key)(config) < event_bytes:
            raise ConfigError(
                f"{key} has no room for an event of publishing.event_bytes and"
                f" {_FRAME_OVERHEAD_BYTES} bytes more"
            )


def _check_names(config: Config) -> None:
    node, datacenters = config.node, config.datacenters
    _check_each("node.name", check_node, filter(None, [node.name]))
    _check_each("node.advertise", check_url, filter(None, [node.advertise]))
    _check_each("node.dispatchers", check_url, node.dispatchers)
    _check_each("likes.frontend", check_url, filter(None, [config.likes.frontend]))
    _check_each("redis.urls", parse_redis_url, config.redis.urls)
    _check_each("datacenters.name", check_datacenter, filter(None, [datacenters.name]))
    _check_each("datacenters.peers", parse_peer, datacenters.peers)
    _check_peers([parse_peer(peer).name for peer in datacenters.peers], own=datacenters.name)
    for origin in config.access.cors_origins:
        if origin not in ("*", SAME_HOST) and not _ORIGIN.fullmatch(origin):
            raise ConfigError(
                f"access.cors_origins: {origin} is not *, {SAME_HOST}, or like https://example.com"
            )


def _check_peers(names: list[str], *, own: str) -> None:
    if own in names:
        raise ConfigError(f"datacenters.peers: {own} is this datacenter itself")
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"datacenters.peers: {name} is named twice; give all its URLs at once"
            )


def _check_each(key: str, check: Callable[[str], object], values: Iterable[str]) -> None:
    for value in values:
        try:
            check(value)
        except BadRequest as refusal:
            raise ConfigError(f"{key}: {refusal.message}") from None
