"""What several of the tests with real processes need."""

import itertools
from collections.abc import Callable, Mapping

import pytest

from tests.integration.roles import config_options

WriteConfig = Callable[[Mapping[str, object]], list[str]]


@pytest.fixture(scope="session")
def write_config(tmp_path_factory: pytest.TempPathFactory) -> WriteConfig:
    """Write settings, by table and key, to a file of their own; return the options that name it."""
    folder = tmp_path_factory.mktemp("config")
    numbers = itertools.count()

    def write(settings: Mapping[str, object]) -> list[str]:
        return config_options(settings, folder / f"{next(numbers)}.toml")

    return write


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test marked ``waits`` outside of the reactor, so that it may wait for a Deferred.

    pytest-twisted would run it in the reactor, as it does fixtures not.
    """
    if pyfuncitem.get_closest_marker("waits") is None:
        return None
    names = pyfuncitem._fixtureinfo.argnames
    pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    return True
