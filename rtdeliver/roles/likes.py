"""The role rtlikes: the live-video app, which uses the platform like any application."""

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from rtdeliver.config.sections import Config
from rtdeliver.errors import ConfigError
from rtdeliver.http.failover import at_random
from rtdeliver.http.routes import new_app
from rtdeliver.http.site import ValidatingResource
from rtdeliver.interfaces import IPlatform
from rtdeliver.likes.app import LikesApp
from rtdeliver.likes.platform import HttpPlatform
from rtdeliver.process.host import IHost
from rtdeliver.process.listeners import Listener, browser_url
from rtdeliver.process.service import RoleService
from rtdeliver.roles.base import RoleBase
from rtdeliver.roles.reload import replacing
from rtdeliver.tokens import ApplicationKey, read_key

log = Logger()

_LISTEN = "tcp:8000"


def build_likes(config: Config, reactor: Any, host: IHost) -> RoleService:
    """Put the role together.

    :raises ConfigError: if a setting that the role needs is missing or wrong.
    """
    if not config.node.dispatchers:
        raise ConfigError("node.dispatchers: give at least one URL, such as http://127.0.0.1:8090")
    if not config.likes.frontend:
        raise ConfigError(
            "likes.frontend: give the URL at which browsers reach the frontends, such as"
            " http://localhost:8080"
        )
    base = RoleBase("rtlikes", config, reactor, host)
    platform = HttpPlatform(
        dispatchers=base.failover(config.node.dispatchers, at_random),
        client=base.client_within(config.likes.publish_seconds),
        now=base.now,
    )
    key = likes_key(config)
    if config.access.token_key_file:
        base.reloaders["access.token_key_file"] = replacing(
            read_key(config.access.token_key_file),
            read=lambda new: read_key(new.access.token_key_file),
            use=key.key.replace,
        )
    app = new_likes_app(config, platform, key, base)
    description = config.listeners.listen or _LISTEN
    listeners = [likes_listener(base, "listen", description, app)]
    if config.listeners.internal:
        internal = new_app()
        base.add_operator_routes(internal, missing=app.missing, samples=[app.samples])
        listeners.append(
            base.internal_listener("internal", config.listeners.internal, internal, {})
        )

    def begin(ports: Mapping[str, IListeningPort]) -> None:
        app.start(frontend=lambda _: config.likes.frontend)
        log_link(description, ports["listen"], reactor)

    return base.service(
        listeners, begin=begin, drain=lambda: app.stop(config.process.drain_seconds)
    )


def likes_key(config: Config) -> ApplicationKey:
    """Return the key that the app signs members' tokens with.

    :raises ConfigError: if the key cannot be read.
    """
    return ApplicationKey(config.access.token_key_file, config.likes_database.path)


def new_likes_app(
    config: Config, platform: IPlatform, key: ApplicationKey, base: RoleBase
) -> LikesApp:
    """Return the app with the configured settings."""
    return LikesApp(
        settings=config.likes,
        database=config.likes_database,
        limits=config.likes_limits,
        crowd=config.likes_crowd,
        platform=platform,
        key=key,
        reactor=base.reactor,
        now=base.now,
    )


def likes_listener(base: RoleBase, key: str, description: str, app: LikesApp) -> Listener:
    """Return the listener at which browsers open the app."""
    return base.public_listener(key, description, ValidatingResource(app.resource()))


def public_url(config: Config, port: IListeningPort) -> Callable[[str], str]:
    """Return a function from the host that a browser reaches to the URL of the public ``port``.

    :raises ConfigError: if a browser cannot reach the port.
    """
    configured, description = config.likes.frontend, config.listeners.public
    if configured:
        return lambda _: configured
    if browser_url(description, port, "") is None:
        raise ConfigError(
            "likes.frontend: give the URL at which browsers reach the public listener"
        )
    return lambda host: browser_url(description, port, host) or ""


def log_link(description: str, port: IListeningPort, reactor: Any) -> None:
    """Log the URL of the app, after all other log lines of the start."""
    url = browser_url(description, port, "localhost")
    if url is not None:
        reactor.callLater(0, log.info, "open {url}/", url=url)
