"""Which topics have a history, and how much is kept of each."""

from collections.abc import Mapping

from rtdeliver.config.sections import HistoryClass
from rtdeliver.grants import patterns
from rtdeliver.model import Topic

# Of topics that were looked up, so many are remembered.
_REMEMBERED = 10_000


class HistoryClasses:
    """Finds the class of a topic: that of the first pattern that matches.

    :param classes: by pattern.
    """

    def __init__(self, classes: Mapping[str, HistoryClass]) -> None:
        self._classes = [(patterns([text]), each) for text, each in classes.items()]
        self._found: dict[Topic, HistoryClass | None] = {}

    def __bool__(self) -> bool:
        """Whether any topic may have a history."""
        return bool(self._classes)

    def of(self, topic: Topic) -> HistoryClass | None:
        """Return how much is kept of ``topic``; ``None`` if it has no history."""
        if not self._classes:
            return None
        try:
            return self._found[topic]
        except KeyError:
            pass
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        found = next((each for pattern, each in self._classes if pattern.cover(topic)), None)
        self._found[topic] = found
        return found
