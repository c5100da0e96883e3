"""What a process does at SIGHUP: it reads its settings again, and uses what it can of them."""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from twisted.logger import Logger

from rtdeliver.config.sections import Config
from rtdeliver.errors import ConfigError

log = Logger()

Reloader = Callable[[Config], None]
"""Uses new settings from now on, or raises `ConfigError` and goes on with the old ones."""


class Reload:
    """Reads the settings again, and says what became of them.

    :param config: the settings that are in use.
    :param read: returns the settings as they are now; raises `ConfigError` if they are wrong.
    :param reloaders: by the setting that each one uses. If that is the name of a file, the content
        of the file may change, and not its name.
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
            for reloader in self._reloaders.values():
                reloader(config)
        except ConfigError as error:
            log.error("the settings are not reloaded: {error}", error=str(error))
            return
        unused = [
            name
            for name in changed_settings(self._config, config)
            if name not in self._reloaders or name.endswith("_file")
        ]
        log.info(
            "reloaded {reloaded}{rest}",
            reloaded=", ".join(self._reloaders) or "nothing",
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
