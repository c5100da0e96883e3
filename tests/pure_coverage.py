"""Whether the unit tests cover what tests/test_imports.py calls pure.

Run from the project's root, after the unit tests under coverage: ``python -m tests.pure_coverage``.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.test_imports import FLOORS, MODULES, PURE, ROOT, full, name_of, within

LEAST_PERCENT = 95
"""Of the lines and branches of each module."""

BOUND = {*PURE, *FLOORS["small parts"]}


def main() -> int:
    """Print what is too little; return the exit status."""
    covered = percents(read_report())
    too_little = {name: percent for name, percent in covered.items() if percent < LEAST_PERCENT}
    for name, percent in sorted(too_little.items()):
        print(f"{name}: {percent:.1f} % covered, {LEAST_PERCENT} % wanted")  # noqa: T201
    print(f"{len(covered)} pure modules, {len(too_little)} covered too little")  # noqa: T201
    return 1 if too_little else 0


def read_report() -> Mapping[str, Any]:
    """Return what coverage.py tells of each file, by its path."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        subprocess.run(
            [sys.executable, "-m", "coverage", "json", "-q", "-o", str(path)], check=True
        )
        files: dict[str, Any] = json.loads(path.read_bytes())["files"]
    return files


def percents(files: Mapping[str, Any]) -> dict[str, float]:
    """Return how much is covered of each module that the bound is for."""
    covered = {
        name_of(ROOT / path): told["summary"]["percent_covered"] for path, told in files.items()
    }
    bound = [module for module in MODULES if any(within(module, full(name)) for name in BOUND)]
    return {module: covered[module] for module in bound}


if __name__ == "__main__":
    sys.exit(main())
