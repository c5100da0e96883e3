"""What an ordinary install from a wheel gives."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.integration.roles import ROOT, TWISTD

PAGES = ("rtdeliver/likes/page", "rtdeliver/status/page")
CLIENT = {"rtdeliver/client/rtdeliver.js", "rtdeliver/client/rtdeliver.d.ts"}
ROLES = ("rtcombined", "rtfrontend", "rtdispatcher", "rtlatency", "rtlikes")
SOURCES = ("*.py", "*.lua", "*.sql")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, so that what that lacks is missing here too."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("rtdeliver", "twisted"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "build", "--quiet"], cwd=source, check=True)
    [built] = (source / "dist").glob("*.whl")
    return built


def test_a_wheel_has_all_modules_the_page_and_its_client_and_nothing_else(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {
        str(path.relative_to(ROOT))
        for package in ("rtdeliver", "twisted")
        for pattern in SOURCES
        for path in (ROOT / package).rglob(pattern)
    }
    pages = {str(path.relative_to(ROOT)) for page in PAGES for path in (ROOT / page).iterdir()}
    assert {f"{PAGES[0]}/index.html", f"{PAGES[1]}/status.html"} <= pages
    assert packed == modules | pages | CLIENT | {"rtdeliver/py.typed"}
    assert "twisted/__init__.py" not in packed
    assert "twisted/plugins/__init__.py" not in packed


def test_twistd_finds_the_roles_of_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for role in ROLES:
        shown = subprocess.run(
            [TWISTD, role, "--help"],
            cwd=elsewhere,
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "--config=" in shown.stdout
        assert role in shown.stdout


def test_twistd_lists_the_roles_of_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    shown = subprocess.run(
        [TWISTD, "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    commands = {line.split()[0] for line in shown.stdout.splitlines() if line.split()}
    assert commands >= set(ROLES)
