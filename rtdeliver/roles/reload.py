"""What a process does at SIGHUP: it reads its settings again, and uses what it can of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec
from twisted.logger import Logger

from rtdeliver.config.sections import Config
from rtdeliver.errors import ConfigError

log = Logger()

T = TypeVar("T")

Reloader = Callable[[Config], Callable[[], None] | None]
"""Reads what new settings lead to, and returns what uses that; ``None`` if nothing has changed.

It raises `ConfigError` if something is wrong. Nothing is used before everything has been read.
"""


def replacing(current: T, *, read: Callable[[Config], T], use: Callable[[T], None]) -> Reloader:
    """Return a reloader of one thing.

    :param current: what is in use.
    :param read: returns what it is by new settings, or raises `ConfigError`.
    :param use: uses that from now on.
    """
    held = current

    def reload(config: Config) -> Callable[[], None] | None:
        new = read(config)

        def change() -> None:
            nonlocal held
            held = new
            use(new)

        return None if new == held else change

    return reload


class Reload:
    """Reads the settings again, and says what became of them.

    :param config: the settings that are in use.
    :param read: returns the settings as they are now; raises `ConfigError` if they are wrong.
    :param reloaders: by the setting that each one uses. If that names files, their contents may
        change, and not the setting.
    """

    def __init__(
        self, config: Config, *, read: Callable[[], Config], reloaders: Mapping[str, Reloader]
    ) -> None:
        self._config = config
        self._read = read
        self._reloaders = reloaders

    def __call__(self) -> None:
        try:
            config = self._read()
            read = {name: reloader(config) for name, reloader in self._reloaders.items()}
        except ConfigError as error:
            log.error("the settings are not reloaded: {error}", error=str(error))
            return
        changes = {name: change for name, change in read.items() if change is not None}
        for change in changes.values():
            change()
        unused = [
            name
            for name in changed_settings(self._config, config)
            if name not in self._reloaders or name.endswith("_file") or name.startswith("listeners")
        ]
        log.info(
            "reloaded {reloaded}{rest}",
            reloaded=", ".join(changes) or "nothing, since nothing has changed",
            rest=f"; a restart is needed for {', '.join(unused)}" if unused else "",
        )


def changed_settings(old: Config, new: Config) -> Sequence[str]:
    """Return the settings that differ, as ``section.name``."""
    return [
        f"{section}.{name}"
        for section in msgspec.structs.asdict(old)
        for name, value in msgspec.structs.asdict(getattr(old, section)).items()
        if getattr(getattr(new, section), name) != value
    ]
