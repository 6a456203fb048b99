"""Modules that only wheels bring."""

import os

import pytest


def needs(module):
    """The module. Without it the tests of a file are skipped, aloud; with MISA_WHEELS set, as scripts/test_recorder.sh
    does, they fail."""
    if os.environ.get("MISA_WHEELS"):
        __import__(module)
    return pytest.importorskip(module, reason=f"there is no {module}; scripts/test_recorder.sh brings it")
