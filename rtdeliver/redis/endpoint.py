"""How a Redis is reached: by TCP, TLS, a UNIX socket or through sentinels."""

import re
from typing import Any

import txredisapi
from OpenSSL import crypto
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.logger import Logger
from zope.interface import implementer

from rtdeliver.config.sections import Redis
from rtdeliver.deferreds import as_deferred
from rtdeliver.errors import ConfigError
from rtdeliver.redis.url import RedisAddress

log = Logger()


def redis_endpoint(reactor: Any, address: RedisAddress, settings: Redis) -> IStreamClientEndpoint:
    """Return the endpoint of a Redis.

    :raises ConfigError: if the file cannot be read.
    """
    if address.path:
        return UNIXClientEndpoint(reactor, address.path)
    if address.service:
        return SentinelEndpoint(reactor, address, answer_seconds=settings.sentinel_seconds)
    [(host, port)] = address.hosts
    endpoint = HostnameEndpoint(reactor, host, port)
    if not address.tls:
        return endpoint
    return wrapClientTLS(optionsForClientTLS(host, trustRoot=_trusted(settings.ca_file)), endpoint)


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


class _SentinelFactory(txredisapi.RedisFactory):
    """Keeps a connection to a sentinel open, and notes why it is not let in."""

    maxDelay = 1
    refusal = ""

    def stopTrying(self) -> Deferred[Any]:
        # When it cannot log in, txredisapi would give up for good.
        return succeed(None)

    def connectionError(self, why: str) -> None:
        self.refusal = why


class _Sentinel:
    """One sentinel, which is connected to when it is asked for the first time."""

    def __init__(self, reactor: Any, place: tuple[str, int], address: RedisAddress) -> None:
        self._reactor = reactor
        self._place = place
        self._factory = _SentinelFactory(
            uuid=None,
            dbid=None,
            poolsize=1,
            isLazy=True,
            username=address.sentinel_username,
            password=address.sentinel_password,
        )
        self._is_connecting = False

    async def master(self, service: str, answer_seconds: float) -> tuple[str, int]:
        """Return the host and the port of the master.

        :raises ConnectionError: if the sentinel does not know it; it says why.
        """
        if not self._is_connecting:
            self._is_connecting = True
            self._factory.startConnecting(HostnameEndpoint(self._reactor, *self._place))
        asked: Deferred[Any] = self._factory.handler.execute_command(
            "SENTINEL", "get-master-addr-by-name", service
        )
        try:
            answer = await asked.addTimeout(answer_seconds, self._reactor)
        except (txredisapi.RedisError, defer.TimeoutError, CancelledError) as error:
            said = isinstance(error, txredisapi.ResponseError)
            why = str(error) if said else self._factory.refusal or "it does not answer"
            raise self._failure(why) from None
        if not answer:
            raise self._failure(f"it knows no master {service}")
        host, port = answer
        return host, int(port)

    def _failure(self, why: str) -> ConnectionError:
        host, port = self._place
        return ConnectionError(f"sentinel {host}:{port}: {why}")


@implementer(IStreamClientEndpoint)
class SentinelEndpoint:
    """Asks the sentinels for the master before each attempt to connect.

    All are asked at once, and the first that knows the master is believed. What it knows may be
    old; then the connection fails, and they are asked again.

    :ivar trouble: why the last question was in vain; empty if it was not.
    """

    def __init__(self, reactor: Any, address: RedisAddress, *, answer_seconds: float) -> None:
        self._reactor = reactor
        self._service = address.service
        self._answer_seconds = answer_seconds
        self._sentinels = [_Sentinel(reactor, place, address) for place in address.hosts]
        self.trouble = ""

    @as_deferred
    async def connect(self, protocolFactory: IProtocolFactory) -> IProtocol:
        host, port = await self._master()
        return await HostnameEndpoint(self._reactor, host, port).connect(protocolFactory)

    async def _master(self) -> tuple[str, int]:
        found: Any = await DeferredList(
            [
                Deferred.fromCoroutine(sentinel.master(self._service, self._answer_seconds))
                for sentinel in self._sentinels
            ],
            fireOnOneCallback=True,
            consumeErrors=True,
        )
        if isinstance(found, tuple):
            self.trouble = ""
            [(host, port), _] = found
            return host, port
        trouble = "; ".join(str(failure.value) for _, failure in found)
        if trouble != self.trouble:
            self.trouble = trouble
            log.warn("no sentinel tells where Redis is: {trouble}", trouble=trouble)
        raise ConnectionError(trouble)
