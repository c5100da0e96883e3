"""What a process uses its file descriptors for."""

import resource

from rtdeliver.errors import ConfigError

# For listeners, logs, connections to other nodes, and clients of internal listeners.
_RESERVED = 256
_LEAST_WAITING, _MOST_WAITING = 64, 16_384
_LEAST_LIMIT = 512


def max_connections(configured: int) -> int:
    """Return how many streams this process accepts: the configured number, or fewer.

    :param configured: the most streams; 0 means as many as the limit of descriptors allows.
    :raises ConfigError: if the limit is too low for any use.
    """
    limit = _limit()
    allowed = limit - _RESERVED - _waiting(limit)
    return min(configured or allowed, allowed)


def max_waiting() -> int:
    """Return how many connections without a stream the public listeners of this process accept.

    :raises ConfigError: if the limit of descriptors is too low for any use.
    """
    return _waiting(_limit())


def descriptors_for(connections: int) -> int:
    """Return how many file descriptors a process needs for so many streams."""
    needed = max(_LEAST_LIMIT, connections + _RESERVED + _LEAST_WAITING)
    while needed - _RESERVED - _waiting(needed) < connections:
        needed += max(1, connections + _RESERVED + _waiting(needed) - needed)
    return needed


def _waiting(limit: int) -> int:
    return max(_LEAST_WAITING, min(limit // 32, _MOST_WAITING))


def _limit() -> int:
    """Return the limit of file descriptors; the soft one is raised to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < _LEAST_LIMIT:
        raise ConfigError(
            f"This process may have only {hard} files open, and needs {_LEAST_LIMIT} at least:"
            f" raise the limit, for example by: ulimit -n {_LEAST_LIMIT}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
