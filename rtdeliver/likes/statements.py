"""Reads the app's SQL from the files in ``sql/``."""

import re
from collections.abc import Mapping
from importlib.resources import files

_STATEMENT = re.compile(r"^-- name: (\w+)\n(.+?;)$", re.MULTILINE | re.DOTALL)


def read_sql(name: str) -> str:
    """Return the content of a file.

    :param name: the file's, without ``.sql``.
    """
    return files("rtdeliver.likes").joinpath("sql", f"{name}.sql").read_text("utf-8")


def read_statements(*names: str) -> Mapping[str, str]:
    """Return the statements in files, by the names of the statements.

    A line ``-- name: NAME`` stands before each statement, and a semicolon ends it.
    """
    return dict(found for name in names for found in _STATEMENT.findall(read_sql(name)))
