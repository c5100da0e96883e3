"""How settings are read: from a TOML file, and from options that override it."""

import difflib
import tomllib
from collections.abc import Mapping
from typing import Any

import msgspec

from rtdeliver.config.check import check
from rtdeliver.config.sections import Config
from rtdeliver.errors import ConfigError

_SECTIONS: dict[str, type[msgspec.Struct]] = {
    field.name: field.type for field in msgspec.structs.fields(Config)
}
_KEYS = [
    f"{table}.{key}" for table, section in _SECTIONS.items() for key in section.__struct_fields__
]

# How alike an unknown key and a known one must be for a suggestion, from 0 to 1; a known key of the
# same table counts as more alike by the second number.
_MIN_LIKENESS = 0.65
_SAME_TABLE_BONUS = 0.1


def load_config(path: str | None, options: Mapping[str, Any]) -> Config:
    """Return the settings of a file, overridden by options.

    :param path: the path of a TOML file, or ``None``.
    :param options: values by table and key, such as ``viewers.max_connections``; ``None`` and empty
        lists stand for options that were not given.
    :raises ConfigError: if the file cannot be read, or a table, key or value is wrong.
    """
    tables = _read(path) if path else {}
    for name, value in options.items():
        if value not in (None, []):
            table, _, key = name.partition(".")
            tables.setdefault(table, {})[key] = value
    try:
        config = msgspec.convert(tables, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(error)) from None
    check(config)
    return config


def _read(path: str) -> dict[str, dict[str, Any]]:
    try:
        with open(path, "rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"config {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"config {path}: {error}") from None
    try:
        for name, table in tables.items():
            _check_names(name, table)
    except ConfigError as error:
        raise ConfigError(f"config {path}: {error}") from None
    return tables


def _check_names(name: str, table: object) -> None:
    if not isinstance(table, dict):
        if name in _SECTIONS:
            raise ConfigError(f"{name} is a table: write [{name}], and its keys below")
        raise ConfigError(f"unknown key {name}{_suggest_key(name)}")
    if name not in _SECTIONS:
        close = difflib.get_close_matches(name, _SECTIONS, n=1)
        raise ConfigError(
            f"unknown table [{name}]{f'; did you mean [{close[0]}]?' if close else ''}"
        )
    for key in table:
        if key not in _SECTIONS[name].__struct_fields__:
            raise ConfigError(f"unknown key {name}.{key}{_suggest_key(key, name)}")


def _suggest_key(key: str, table: str = "") -> str:
    """Name the known key, of any table, that is most like an unknown one; empty if none is."""

    def likeness(name: str) -> float:
        section, _, known = name.partition(".")
        forms = (known, f"{section}_{known}")
        alike = max(difflib.SequenceMatcher(None, key, form).ratio() for form in forms)
        return alike + (_SAME_TABLE_BONUS if section == table else 0)

    best = max(_KEYS, key=likeness)
    return f"; did you mean {best}?" if likeness(best) > _MIN_LIKENESS else ""


def _explain(error: msgspec.ValidationError) -> str:
    what, _, where = str(error).partition(" - at `$.")
    return f"{where.rstrip('`')}: {what[0].lower()}{what[1:]}" if where else what
