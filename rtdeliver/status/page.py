"""The status page as browsers get it: one file, with its style and its script."""

import hashlib
from base64 import b64encode
from importlib.resources import files

import msgspec


class Page(msgspec.Struct, frozen=True):
    """The page.

    :param policy: the Content-Security-Policy that lets it do what it does, and nothing else.
    """

    content: bytes
    policy: str


def read_page() -> Page:
    """Return the page, put together from its files."""
    folder = files("rtdeliver.status").joinpath("page")
    content = folder.joinpath("status.html").read_bytes()
    digests = {}
    for name in ("status.css", "status.js"):
        part = folder.joinpath(name).read_bytes()
        content = content.replace(f"/* {name} */".encode(), part)
        digests[name] = b64encode(hashlib.sha256(part).digest()).decode()
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src 'sha256-{digests['status.js']}'",
            # Bars have their lengths as attributes.
            f"style-src-elem 'sha256-{digests['status.css']}'",
            "style-src-attr 'unsafe-inline'",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    return Page(content, policy)
