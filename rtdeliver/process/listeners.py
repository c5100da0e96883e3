"""How a role listens on endpoint strings, and what is known of the bound ports."""

import ipaddress
from collections.abc import Mapping
from typing import Any

import msgspec
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure

from rtdeliver.errors import ConfigError
from rtdeliver.process.certificates import (
    ReadingReactor,
    RenewableContext,
    RenewingReactor,
    certificates_of,
)

# How many clients are accepted in one iteration of the reactor.
_ACCEPTS = 64
_TAKE_BACKLOG = ("tcp", "tcp6", "ssl", "tls", "unix")


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """One place where a role listens.

    :param key: the option or setting that ``description``, an endpoint string, comes from.
    :param guarded: whether requests must carry a secret if other machines can reach the listener.
    :param context: has the certificate of an ``ssl:`` endpoint, once it listens.
    """

    key: str
    description: str
    factory: IProtocolFactory
    guarded: bool = True
    context: RenewableContext = msgspec.field(default_factory=RenewableContext)


def listen(reactor: object, listener: Listener, *, backlog: int) -> IListeningPort:
    """Listen on a Twisted endpoint string.

    :param backlog: how many connections may wait to be accepted, unless the string says so.
    :raises ConfigError: if it is not an endpoint string, or listening fails.
    """
    key, description = listener.key, listener.description
    renewing = RenewingReactor(reactor, listener.context)
    endpoint = _endpoint(renewing, key, description, backlog)
    results: list[IListeningPort | Failure] = []
    endpoint.listen(listener.factory).addBoth(results.append)
    if not results:
        raise ConfigError(f"{key}: {description} must be an endpoint that listens at once")
    if isinstance(results[0], Failure):
        raise ConfigError(f"{key}: cannot listen on {description}: {_why(results[0])}") from None
    _accept_few(results[0])
    return results[0]


def _accept_few(port: Any) -> None:
    """Let a port accept few clients in each iteration of the reactor.

    Twisted accepts 20 more each time that so many came. In a crowd, clients would be accepted much
    faster than their requests are read, and taken for idle ones.
    """
    if not hasattr(port, "numberAccepts"):
        return
    accept = port.doRead

    def accept_few() -> None:
        port.numberAccepts = min(port.numberAccepts, _ACCEPTS)
        accept()

    port.doRead = accept_few


def check_listener(reactor: object, listener: Listener, *, backlog: int) -> None:
    """Check an endpoint string, without listening.

    One of a socket that systemd passes on means something to a process of systemd only.

    :raises ConfigError: if it is not an endpoint string.
    """
    if not listener.description.startswith("systemd:"):
        _endpoint(reactor, listener.key, listener.description, backlog)


def read_certificate(listener: Listener) -> Any:
    """Return the certificate of an ``ssl:`` endpoint as it is in its files now.

    :return: for `RenewableContext.use`.
    :raises ConfigError: if it cannot be read or used.
    """
    reading = ReadingReactor()
    endpoint = _endpoint(reading, listener.key, listener.description, backlog=0)
    endpoint.listen(listener.factory)
    try:
        certificates_of(reading.factory)
    except Exception as error:
        raise ConfigError(
            f"{listener.key}: the certificate of {listener.description} cannot be used: {error}"
        ) from None
    return reading.factory


def describe(port: IListeningPort) -> str:
    """Return where ``port`` listens, as text for people."""
    return _describe_address(port.getHost())


def places(ports: Mapping[str, IListeningPort]) -> str:
    """Return where each of ``ports`` listens, as text for people."""
    return ", ".join(f"{key} {describe(port)}" for key, port in ports.items())


def is_private(port: IListeningPort) -> bool:
    """Whether only this machine can reach ``port``."""
    address = port.getHost()
    if isinstance(address, IPv4Address | IPv6Address):
        return bool(address.host) and ipaddress.ip_address(address.host).is_loopback
    return True


def url_of(port: IListeningPort) -> str | None:
    """Return the URL at which other processes reach ``port``, or ``None`` if it is not known."""
    address = port.getHost()
    if not isinstance(address, IPv4Address | IPv6Address):
        return None
    if not address.host or ipaddress.ip_address(address.host).is_unspecified:
        return None
    return f"http://{_describe_address(address)}"


def browser_url(description: str, port: IListeningPort, host: str) -> str | None:
    """Return the URL at which a browser reaches ``port``, if it reaches this machine as ``host``.

    :param description: the endpoint string of ``port``.
    :return: ``None`` if ``port`` is a UNIX socket.
    """
    address = port.getHost()
    if not isinstance(address, IPv4Address | IPv6Address):
        return None
    scheme = "https" if description.startswith(("ssl:", "tls:")) else "http"
    return f"{scheme}://{host}:{address.port}"


def _endpoint(reactor: object, key: str, description: str, backlog: int) -> IStreamServerEndpoint:
    try:
        endpoint: IStreamServerEndpoint = serverFromString(
            reactor, _with_backlog(description, backlog)
        )
    except Exception as error:
        # The parser of a plugin may raise any exception.
        raise ConfigError(f"{key}: {description} is not a server endpoint: {error}") from None
    return endpoint


def _with_backlog(description: str, backlog: int) -> str:
    kind = description.split(":")[0]
    if kind in _TAKE_BACKLOG and ":backlog=" not in description:
        return f"{description}:backlog={backlog}"
    return description


def _describe_address(address: IAddress) -> str:
    if isinstance(address, IPv4Address | IPv6Address):
        host = f"[{address.host}]" if ":" in address.host else address.host
        return f"{host}:{address.port}"
    name = getattr(address, "name", address)
    return f"unix:{name.decode() if isinstance(name, bytes) else name}"


def _why(failure: Failure) -> str:
    error = failure.value
    socket_error = getattr(error, "socketError", error)
    return getattr(socket_error, "strerror", None) or str(socket_error)
