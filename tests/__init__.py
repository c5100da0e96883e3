"""Tests: of each module here, of promises in contracts/, of real processes in the rest."""

from hypothesis import HealthCheck, settings

# The same examples in every run; `pytest --hypothesis-profile=explore` looks for others.
settings.register_profile(
    "house", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "explore", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")
