"""Hooks on modules: actions that run right after an import, and functions replaced wherever they are bound."""

from __future__ import annotations

import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any, Callable, List, Optional, Tuple

from .messages import contained

Action = Callable[[ModuleType], None]


class _Finder:
    """Finds nothing itself: it lets the other finders find, and runs actions once the module has been executed."""

    def __init__(self) -> None:
        self.actions: List[Tuple[Callable[[str], bool], Action]] = []
        self._busy = threading.local()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        actions = [action for matches, action in self.actions if matches(name)]
        busy = self._busy.__dict__.setdefault("names", set())
        if not actions or name in busy:
            return None
        busy.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            busy.discard(name)
        if spec is None or spec.loader is None or not hasattr(spec.loader, "exec_module"):
            return None
        execute = spec.loader.exec_module

        def execute_and_act(module: ModuleType) -> None:
            execute(module)
            for action in actions:
                contained(action)(module)

        setattr(spec.loader, "exec_module", execute_and_act)
        return spec


_finder: Optional[_Finder] = None


def when_imported(matches: Callable[[str], bool], action: Action) -> None:
    """Runs `action` on each module whose name matches: now if it has been imported, else right after its import."""
    global _finder
    if _finder is None:
        _finder = _Finder()
        sys.meta_path.insert(0, _finder)
    _finder.actions.append((matches, action))
    for name, module in list(sys.modules.items()):
        if module is not None and matches(name):
            contained(action)(module)


def forget() -> None:
    """Takes all actions back; for tests."""
    global _finder
    if _finder is not None:
        sys.meta_path.remove(_finder)
        _finder = None


def replace(owner: Any, name: str, wrap: Callable[[Any], Any]) -> bool:
    """Puts wrap(function) in the place of owner.name, and of every global of a module that is the same function.

    False if owner has no such name, or the function there is a wrapper of ours already.
    """
    original = getattr(owner, name, None)
    if original is None or getattr(original, "_misa_trace", False):
        return False
    wrapper = wrap(original)
    wrapper._misa_trace = True
    setattr(owner, name, wrapper)
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType) and module is not owner and vars(module).get(name) is original:
            setattr(module, name, wrapper)
    return True
