"""Fixtures: a plug-in of a text."""

import pytest

from .driver import Driver


@pytest.fixture
def plugin(tmp_path):
    def make(text):
        path = tmp_path / "mine.py"
        path.write_text(text, encoding="utf-8")
        return Driver(path)

    return make
