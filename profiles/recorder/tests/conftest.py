"""Fixtures: drawn traces, and the program."""

import os
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # the package also where it is not installed
ROOT = pathlib.Path(__file__).resolve().parents[3]


def lacks(what):
    """Skips a test, aloud; with MISA_NO_SKIPS set, as .ci/run does, it fails."""
    if os.environ.get("MISA_NO_SKIPS"):
        pytest.fail(f"there is no {what}, and MISA_NO_SKIPS is set")
    pytest.skip(f"there is no {what}")


def pytest_collection_modifyitems(items):
    """Runs tests that fork before all others, which start threads."""
    items.sort(key=lambda item: not item.module.__name__.endswith("test_processes"))


@pytest.fixture
def program():
    """The path of misa-prof: MISA_PROF, else a build of this repository."""
    for path in (os.environ.get("MISA_PROF"), ROOT / "build/dev/cli/misa-prof", ROOT / "build/release/cli/misa-prof"):
        found = path and shutil.which(str(path))
        if found:
            return found
    return lacks("misa-prof: set MISA_PROF, or build the preset dev")
