"""How the URL of a Redis is read."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from rtdeliver.errors import BadRequest
from rtdeliver.model import check_datacenter

_PORT = 6379
_SENTINEL_PORT = 26379
_FORMS = (
    "redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss:// for TLS, "
    "unix://[USER:PASSWORD@]/PATH[?database=N], or "
    "sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]]/SERVICE[/DATABASE]"
    "[?sentinel_password=PASSWORD][&sentinel_username=USER]"
)


class RedisAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a Redis is, and the credentials for it.

    :param hosts: host and port of the Redis, or those of its sentinels.
    :param path: the path of a UNIX socket, instead of ``hosts``.
    :param service: the name by which the sentinels know the Redis; empty without sentinels.
    :param sentinel_password: of the sentinels themselves, if they have one.
    """

    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    tls: bool = False
    username: str | None = None
    password: str | None = None
    database: int = 0
    sentinel_username: str | None = None
    sentinel_password: str | None = None

    @property
    def place(self) -> str:
        """Says where the Redis is, for people; without secrets."""
        where = self.path or ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{where}/{self.service}" if self.service else where

    @property
    def name(self) -> str:
        """Identifies the Redis, without secrets. It is the same in every dispatcher."""
        places = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{places or self.path}/{self.service or ''}/{self.database}"


def parse_redis_url(url: str) -> RedisAddress:
    """Read the URL of a Redis.

    :raises BadRequest: if it does not have a known form.
    """
    try:
        return _parse(url)
    except ValueError:
        raise BadRequest(f"the URL of a Redis must be {_FORMS}") from None


def parse_datacenter_redis(text: str) -> tuple[str, RedisAddress]:
    """Read the URL of a Redis after the name of its datacenter, such as ``dc1=redis://10.0.0.4``.

    :return: the name, which is empty if there is none, and the address.
    :raises BadRequest: if it does not have this form.
    """
    name, separator, url = text.partition("=")
    if not separator or ":" in name:
        return "", parse_redis_url(text)
    return check_datacenter(name), parse_redis_url(url)


def _parse(url: str) -> RedisAddress:
    parts = urlsplit(url)
    credentials, _, places = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    place: dict[str, Any]
    match parts.scheme, *[unquote(step) for step in parts.path.split("/")[1:] if step]:
        case (("redis" | "rediss"), *database):
            place = {"hosts": (_host(places, _PORT),), "tls": parts.scheme == "rediss"}
        case "sentinel", service, *database:
            hosts = tuple(_host(place, _SENTINEL_PORT) for place in places.split(","))
            query = parse_qs(parts.query, strict_parsing=bool(parts.query))
            place = {"hosts": hosts, "service": service, **_sentinel_credentials(query)}
        case "unix", _, *_ if not places:
            database = parse_qs(parts.query).get("database", [])
            place = {"path": unquote(parts.path)}
        case _:
            raise ValueError(url)
    takes_query = place.get("path") or place.get("service")
    if len(database) > 1 or (parts.query and not takes_query) or parts.fragment:
        raise ValueError(url)
    return RedisAddress(
        **place,
        username=unquote(username) or None,
        password=unquote(password) or None,
        database=int(database[0]) if database else 0,
    )


def _sentinel_credentials(query: Mapping[str, list[str]]) -> dict[str, str]:
    names = {"sentinel_username", "sentinel_password"}
    if not names.issuperset(query) or any(len(values) > 1 for values in query.values()):
        raise ValueError(query)
    return {name: value for name, [value] in query.items()}


def _host(place: str, default_port: int) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s,:\[\]]+)(?::([0-9]{1,5}))?", place)
    if match is None or not 0 < int(match[2] or default_port) < 65536:
        raise ValueError(place)
    return match[1].strip("[]"), int(match[2] or default_port)
