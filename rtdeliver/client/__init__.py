"""The module that pages import: rtdeliver.js keeps a stream and its topics through reconnects.

rtdeliver.d.ts has its types for TypeScript, as the compiler makes them from the comments in it.
"""

from importlib.resources import files


def read_client() -> bytes:
    """Return rtdeliver.js as browsers get it, in UTF-8."""
    return files("rtdeliver.client").joinpath("rtdeliver.js").read_bytes()
