"""How many file descriptors a process has, and so how many streams."""

import resource

# What a process opens besides streams: listeners, logs, other nodes, clients not yet connected.
_SPARE_DESCRIPTORS = 512


def max_connections(configured: int) -> int:
    """Return how many streams this process takes: as configured, or as descriptors allow.

    The soft limit of descriptors is raised to the hard one.

    :param configured: 0 for as many as possible.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    allowed = max(hard - _SPARE_DESCRIPTORS, hard // 2)
    return min(configured or allowed, allowed)
