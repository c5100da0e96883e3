"""How a Redis is reached: by TCP, TLS, a UNIX socket or through sentinels."""

import re
from typing import Any

import txredisapi
from OpenSSL import crypto
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from zope.interface import implementer

from rtdeliver.deferreds import as_deferred
from rtdeliver.errors import ConfigError
from rtdeliver.redis.url import RedisAddress


def redis_endpoint(reactor: Any, address: RedisAddress, *, ca_file: str) -> IStreamClientEndpoint:
    """Return the endpoint of a Redis.

    :param ca_file: for TLS, a file with the certificates of the authorities to trust; empty for
        those of the system.
    :raises ConfigError: if the file cannot be read.
    """
    if address.path:
        return UNIXClientEndpoint(reactor, address.path)
    if address.service:
        return _SentinelEndpoint(reactor, address)
    [(host, port)] = address.hosts
    endpoint = HostnameEndpoint(reactor, host, port)
    if not address.tls:
        return endpoint
    return wrapClientTLS(optionsForClientTLS(host, trustRoot=_trusted(ca_file)), endpoint)


def _trusted(ca_file: str) -> Any:
    if not ca_file:
        return None
    try:
        with open(ca_file, "rb") as file:
            pems = re.findall(
                rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", file.read(), re.DOTALL
            )
        return trustRootFromCertificates([Certificate.loadPEM(pem) for pem in pems])
    except (OSError, crypto.Error) as error:
        raise ConfigError(f"redis.ca_file {ca_file}: {error}") from None


@implementer(IStreamClientEndpoint)
class _SentinelEndpoint:
    """Asks the sentinels for the master before each attempt to connect."""

    def __init__(self, reactor: Any, address: RedisAddress) -> None:
        self._reactor = reactor
        self._service = address.service
        self._sentinels = txredisapi.Sentinel(address.hosts, charset="utf-8")

    @as_deferred
    async def connect(self, protocolFactory: IProtocolFactory) -> IProtocol:
        host, port = await self._sentinels.discover_master(self._service)
        return await HostnameEndpoint(self._reactor, host, port).connect(protocolFactory)
