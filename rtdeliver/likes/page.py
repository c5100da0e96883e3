"""The page's files and the client module, as browsers get them."""

import gzip
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files

import msgspec

from rtdeliver.client import read_client

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_COMMENT_LINES = re.compile(rb"^[ \t]*(?://.*|/\*(?s:(?!\*/).)*\*/[ \t]*)$", re.MULTILINE)


# No file has a text over several lines.
_BLANK_LINES = re.compile(rb"\n\n+")
_INDENTATION = re.compile(rb"^\t+", re.MULTILINE)


class PageFile(msgspec.Struct, frozen=True):
    """One file.

    :param compressed: its content for browsers that take gzip, which all do.
    :param digest: names its content.
    """

    content_type: str
    content: bytes
    compressed: bytes
    digest: str


def read_page() -> Mapping[str, PageFile]:
    """Return all files of the page, and the client module that it imports, by name.

    They come without indentation and blank lines, and scripts without the comments that have lines
    of their own: that is a third of each script, and mostly types for tools.
    """
    contents = {
        file.name: file.read_bytes()
        for file in files("rtdeliver.likes").joinpath("page").iterdir()
        if file.is_file()
    }
    contents["rtdeliver.js"] = read_client()
    return {name: _read(name, content) for name, content in contents.items()}


def _read(name: str, content: bytes) -> PageFile:
    if name.endswith(".js"):
        content = _COMMENT_LINES.sub(b"", content)
    content = _BLANK_LINES.sub(b"\n", _INDENTATION.sub(b"", content)).lstrip()
    digest = hashlib.blake2b(content, digest_size=12).hexdigest()
    return PageFile(
        _TYPES[name[name.rindex(".") :]], content, gzip.compress(content, mtime=0), digest
    )
