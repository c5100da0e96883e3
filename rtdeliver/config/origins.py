"""The origins whose pages may read the streams, as operators write them (RFC 6454, section 6.2)."""

import re

import msgspec

from rtdeliver.errors import ConfigError

_HOST = r"\[[0-9a-f:.]+\]|(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
_ORIGIN = re.compile(rf"([a-z][a-z0-9+.-]*)://({_HOST})(?::([0-9]{{1,5}}))?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
# What stands for `*.` in the origins of subdomains.
_SUBDOMAIN = re.compile(r"(?:[a-z0-9_-]+\.)+")


class Origin(msgspec.Struct, frozen=True):
    """An origin, or with ``subdomains`` the origins of all hosts below one.

    :param begin: the scheme, with ``://``.
    :param end: the rest, as browsers send it: in small letters, without the default port.
    """

    begin: str
    end: str
    subdomains: bool

    def matches(self, origin: str) -> bool:
        """Whether it is ``origin``, which a browser has sent."""
        if not (origin.startswith(self.begin) and origin.endswith(self.end)):
            return False
        between = origin[len(self.begin) : len(origin) - len(self.end)]
        if self.subdomains:
            return _SUBDOMAIN.fullmatch(between) is not None
        return not between


def read_origin(text: str) -> Origin:
    """Read an origin such as ``https://example.com`` or ``https://*.example.com:8443``.

    :raises ConfigError: if no browser sends such an origin.
    """
    match = _ORIGIN.fullmatch(text.lower())
    if match is None or int(match[3] or 1) not in range(1, 65536):
        raise ConfigError(
            f"access.cors_origins: {text} is not an origin such as https://example.com or"
            " https://*.example.com, with a port but without a path, nor * or same-host"
        )
    scheme, host, port = match.groups()
    suffix = "" if port in (None, _DEFAULT_PORTS.get(scheme)) else f":{int(port)}"
    return Origin(
        begin=f"{scheme}://",
        end=host.removeprefix("*.") + suffix,
        subdomains=host.startswith("*."),
    )
