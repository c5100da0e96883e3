"""What Redis answers that keeps a process from using it."""

from collections import Counter

from twisted.logger import Logger

from rtdeliver.metrics import Sample, counter

log = Logger()

# From the answer of a server of Redis Cluster, to a script that uses several keys.
_CLUSTER = ("MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN", "non local key")
_NO_CLUSTER = (
    "it is a server of Redis Cluster, which moves keys to others: give one or more independent"
    " servers instead, each with a --redis of its own"
)


class Faults:
    """Which scripts Redis has refused and not run since, and why.

    :param place: names the Redis in the log.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._why: dict[str, str] = {}
        self._minor: dict[str, str] = {}
        self._kinds: Counter[str] = Counter()

    @property
    def reason(self) -> str:
        """In Redis' own words why it refuses a script; empty if it refuses none."""
        return next(iter(self._why.values()), "")

    def note(self, script: str, error: str) -> None:
        """Note that Redis refused a script. The log tells so once for each reason."""
        self._note(self._why, script, error)

    def note_minor(self, script: str, error: str) -> None:
        """Note the same of a script that the process can do without: it is no `reason`."""
        self._note(self._minor, script, error)

    def clear(self, script: str) -> None:
        """Note that Redis has run a script."""
        had_failed = self._why.pop(script, None) or self._minor.pop(script, None)
        if had_failed and not self._why and not self._minor:
            log.info("Redis at {place} takes commands again", place=self._place)

    def clear_all(self) -> None:
        """Note that Redis takes commands, perhaps another one. What it refuses comes again."""
        if self._why or self._minor:
            log.info("Redis at {place} takes commands again", place=self._place)
        self._why.clear()
        self._minor.clear()

    def _note(self, why_by_script: dict[str, str], script: str, error: str) -> None:
        self._kinds[error.split(" ", 1)[0]] += 1
        why = explain(error)
        if why not in why_by_script.values():
            log.error("Redis at {place} refuses commands: {why}", place=self._place, why=why)
        why_by_script[script] = why

    def samples(self) -> list[Sample]:
        return [
            counter(
                "redis_errors",
                "Commands that Redis refused, by the first word of its answer.",
                count,
                kind=kind,
                redis=self._place,
            )
            for kind, count in self._kinds.items()
        ]


def explain(error: str) -> str:
    """Return what an error of Redis means for the operator."""
    # Since version 7, the name of the script follows.
    words = error.split(" script: ")[0]
    return f"{_NO_CLUSTER} ({words})" if any(word in error for word in _CLUSTER) else words
