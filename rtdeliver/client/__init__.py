"""The module that pages import: rtdeliver.js keeps a stream and its topics through reconnects."""

from importlib.resources import files


def read_client() -> bytes:
    """Return rtdeliver.js as browsers get it, in UTF-8."""
    return files("rtdeliver.client").joinpath("rtdeliver.js").read_bytes()
