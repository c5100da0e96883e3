"""The certificates of TLS listeners, which may be replaced while they listen."""

from typing import Any

from OpenSSL.SSL import Context
from twisted.internet.interfaces import IOpenSSLContextFactory
from zope.interface import implementer


@implementer(IOpenSSLContextFactory)
class RenewableContext:
    """Makes the TLS context of each new connection, from the certificate of that time.

    :ivar certificates: those that are used, the listener's own first; none for a listener without
        TLS.
    """

    def __init__(self) -> None:
        self._factory: Any = None
        self.certificates: tuple[bytes, ...] = ()

    def getContext(self) -> Context:
        context: Context = self._factory.getContext()
        return context

    def use(self, factory: Any) -> None:
        """Use another certificate from now on.

        :param factory: a `twisted.internet.ssl.CertificateOptions`.
        """
        self._factory = factory
        self.certificates = certificates_of(factory)


def certificates_of(factory: Any) -> tuple[bytes, ...]:
    """Return the fingerprints of the certificates in a `twisted.internet.ssl.CertificateOptions`.

    :raises OpenSSL.SSL.Error: if they cannot be used, as with the key of another certificate.
    """
    factory.getContext()
    return tuple(each.digest("sha256") for each in (factory.certificate, *factory.extraCertChain))


class RenewingReactor:
    """Listens with TLS in such a way that the certificate can be replaced.

    :param context: gets the certificate of the listener.
    """

    def __init__(self, reactor: Any, context: RenewableContext) -> None:
        self._reactor = reactor
        self._context = context

    def listenSSL(self, port: int, factory: Any, contextFactory: Any, **options: Any) -> Any:
        self._context.use(contextFactory)
        return self._reactor.listenSSL(port, factory, self._context, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


class ReadingReactor:
    """Reads the certificate of a listener, and does not listen.

    :ivar factory: what was read.
    """

    factory: Any = None

    def listenSSL(self, _port: int, _factory: Any, contextFactory: Any, **_: Any) -> None:
        self.factory = contextFactory
