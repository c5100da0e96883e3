"""Runs the unit tests on each supported Python, with the lowest and with the newest Twisted.

Run from the project's root: ``python -m tests.matrix [INTERPRETER]...``. Each combination has an
environment in ``.matrix/``, which is kept. An interpreter that is not here is named and left out.
"""

import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

PYTHONS = ("python3.11", "python3.12", "python3.13")
FOLDER = Path(".matrix")
UNIT = ("tests", "--ignore=tests/integration", "--ignore=tests/e2e")


class Combination(NamedTuple):
    """A Python, and which Twisted pip is to install there."""

    python: str
    twisted: str

    @property
    def environment(self) -> Path:
        version = re.sub(r"\W+", "-", self.twisted).strip("-")
        return FOLDER / f"{Path(self.python).name}-{version}"


def main(wanted: Sequence[str]) -> int:
    """Print how each combination fares; return the exit status."""
    outcomes: dict[str, str] = {}
    for python in wanted or PYTHONS:
        if not is_here(python):
            outcomes[python] = "skipped: not installed"
            continue
        outcomes.update(outcomes_on(python))
    for name, outcome in outcomes.items():
        print(f"{name}: {outcome}")  # noqa: T201
    return 0 if "passed" in outcomes.values() and "failed" not in outcomes.values() else 1


def outcomes_on(python: str) -> Iterator[tuple[str, str]]:
    """Run the tests on one Python; yield how each combination is called, and how it fared."""
    tried = set()
    for twisted in (f"twisted[tls]=={lowest_twisted()}", "twisted[tls]"):
        combination = Combination(python, twisted)
        version = install(combination)
        # The lowest may be the newest, too.
        if version not in tried:
            tried.add(version)
            yield f"{python}, Twisted {version}", "passed" if passes(combination) else "failed"


def is_here(python: str) -> bool:
    """Whether an interpreter runs: pyenv has commands for those that it has not."""
    if shutil.which(python) is None:
        return False
    return subprocess.run([python, "-c", ""], capture_output=True).returncode == 0


def lowest_twisted() -> str:
    """Return the lowest version that the package allows."""
    config = configparser.ConfigParser()
    config.read("setup.cfg")
    [version] = re.findall(r"^twisted\S*>=(\S+)$", config["options"]["install_requires"], re.M)
    return str(version)


def install(combination: Combination) -> str:
    """Make or renew an environment; return the version of Twisted that it has."""
    environment = combination.environment
    if not environment.exists():
        subprocess.run([combination.python, "-m", "venv", environment], check=True)
    pip = [str(environment / "bin" / "pip"), "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "install", "--quiet", "--upgrade", combination.twisted, ".[unit]"], check=True
    )
    # The tests run on the sources.
    subprocess.run([*pip, "uninstall", "--quiet", "--yes", "rtdeliver"], check=True)
    shown = subprocess.run([*pip, "show", "twisted"], check=True, capture_output=True, text=True)
    [version] = re.findall(r"^Version: (.*)$", shown.stdout, re.M)
    return str(version)


def passes(combination: Combination) -> bool:
    """Run the unit tests; return whether they pass."""
    print(f"{combination.python}, {combination.twisted}:", flush=True)  # noqa: T201
    python = str(combination.environment / "bin" / "python")
    command = [python, "-m", "pytest", "-q", "-n", str(os.cpu_count()), *UNIT]
    return subprocess.run(command).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
