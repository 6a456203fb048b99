"""Hooks on modules run right after an import, once, and reach functions that were bound before."""

import importlib
import sys
import types

import pytest

from misa_trace.record import imports


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    (tmp_path / "mt_package").mkdir()
    (tmp_path / "mt_package" / "__init__.py").write_text("")
    (tmp_path / "mt_package" / "first.py").write_text("def score():\n    return 1\n")
    (tmp_path / "mt_package" / "second.py").write_text("from .first import score\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    imports.forget()
    for name in list(sys.modules):
        if name.startswith("mt_package"):
            del sys.modules[name]


def double(module):
    imports.replace(module, "score", lambda original: lambda: 2 * original())


def test_a_module_is_changed_before_others_bind_its_functions():
    imports.when_imported(lambda name: name == "mt_package.first", double)
    assert importlib.import_module("mt_package.second").score() == 2


def test_functions_that_are_bound_already_are_replaced_too():
    second = importlib.import_module("mt_package.second")
    imports.when_imported(lambda name: name == "mt_package.first", double)
    assert second.score() == 2


def test_a_function_is_replaced_once():
    first = importlib.import_module("mt_package.first")
    double(first)
    double(first)
    assert first.score() == 2


def test_an_action_that_fails_does_not_fail_the_import(capsys):
    def fail(module):
        raise KeyError("broken")

    imports.when_imported(lambda name: name == "mt_package.first", fail)
    assert importlib.import_module("mt_package.first").score() == 1
    assert "broken" in capsys.readouterr().err


def test_a_module_that_is_not_there_is_still_not_found():
    imports.when_imported(lambda name: True, lambda module: None)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("mt_package.third")


def test_modules_that_are_no_modules_are_passed_over(monkeypatch):
    monkeypatch.setitem(sys.modules, "mt_package_none", None)
    seen = []
    imports.when_imported(lambda name: name.startswith("mt_package"), seen.append)
    assert all(isinstance(module, types.ModuleType) for module in seen)
