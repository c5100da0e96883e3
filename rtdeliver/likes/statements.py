"""The SQL of the app, which is in the files of the folder ``sql``."""

import re
from collections.abc import Mapping
from importlib.resources import files

_STATEMENT = re.compile(r"^-- name: (\w+)\n(.+?;)$", re.MULTILINE | re.DOTALL)


def read_sql(name: str) -> str:
    """Return all of a file.

    :param name: of the file, without ``.sql``.
    """
    return files("rtdeliver.likes").joinpath("sql", f"{name}.sql").read_text("utf-8")


def read_statements(*names: str) -> Mapping[str, str]:
    """Return the statements of files by their names.

    A line ``-- name: NAME`` stands before each statement, and a semicolon ends it.
    """
    return dict(found for name in names for found in _STATEMENT.findall(read_sql(name)))
