"""How many streams a process can hold with its file descriptors."""

import resource

# For listeners, logs, connections to other nodes, and clients without a stream yet.
_SPARE_DESCRIPTORS = 512


def max_connections(configured: int) -> int:
    """Return how many streams this process accepts: the configured number, or fewer.

    The soft limit of file descriptors is raised to the hard limit, which bounds the number.

    :param configured: the most streams; 0 means as many as the limit allows.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    allowed = max(hard - _SPARE_DESCRIPTORS, hard // 2)
    return min(configured or allowed, allowed)
