"""How a connection to another node is made."""

from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.web.client import URI, BrowserLikePolicyForHTTPS
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer


@implementer(IAgentEndpointFactory)
class NodeEndpoints:
    """Makes the endpoints of all HTTP clients here.

    If a URL has an address, a refused connection fails at once. If it has a name, the connection is
    made by a `HostnameEndpoint`, which waits a while for further addresses of the name.

    :param timeout_seconds: how long a connection may take to be made.
    """

    def __init__(self, *, reactor: Any, timeout_seconds: float) -> None:
        self._reactor = reactor
        self._timeout_seconds = timeout_seconds
        self._policy = BrowserLikePolicyForHTTPS()

    def endpoint(self, scheme: str, host: str, port: int) -> IStreamClientEndpoint:
        """Return the endpoint of a server.

        :param scheme: ``http`` or ``https``.
        :param host: a name, or an address without brackets.
        """
        connect: Any = HostnameEndpoint
        if isIPAddress(host):
            connect = TCP4ClientEndpoint
        elif isIPv6Address(host):
            connect = TCP6ClientEndpoint
        endpoint = connect(self._reactor, host, port, timeout=self._timeout_seconds)
        if scheme == "https":
            endpoint = wrapClientTLS(self._policy.creatorForNetloc(host.encode(), port), endpoint)
        return _QuietEndpoint(endpoint)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self.endpoint(uri.scheme.decode("ascii"), uri.host.decode("ascii"), uri.port)


@implementer(IStreamClientEndpoint)
class _QuietEndpoint:
    """Connects without lines in the log."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: Any) -> Deferred[IProtocol]:
        protocolFactory.noisy = False
        return self._endpoint.connect(protocolFactory)
