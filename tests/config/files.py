"""Files with settings."""

import tempfile
from pathlib import Path

from msgspec.structs import fields
from twisted.trial.unittest import SynchronousTestCase

from rtdeliver.config.load import load_config
from rtdeliver.config.sections import Config
from rtdeliver.errors import ConfigError

KEYS = [
    f"{section.name}.{field.name}" for section in fields(Config) for field in fields(section.type)
]


class FileTestCase(SynchronousTestCase):
    def write(self, content: bytes) -> str:
        """Return the path of a file with this content."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "file"
        path.write_bytes(content)
        return str(path)

    def folder(self) -> str:
        """Return the path of an empty folder."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name

    def load(self, text: str) -> Config:
        return load_config(self.write(text.encode()), {})

    def complaint(self, text: str) -> str:
        """Return what is wrong with a file of this text."""
        return str(self.assertRaises(ConfigError, self.load, text))

    def takes(self, text: str) -> bool:
        """Whether a file of this text is taken."""
        try:
            self.load(text)
        except ConfigError:
            return False
        return True
