"""What the recorder says on standard error, and the rule that nothing is raised into an engine."""

from __future__ import annotations

import functools
import os
import sys
from typing import Any, Callable, Set

# How each stack runs without CUDA graphs, which replay kernels without Python.
NO_GRAPHS = ("--enforce-eager (vLLM), --cuda-graph-backend-decode=disabled --cuda-graph-backend-prefill=disabled "
             "(SGLang; --disable-cuda-graph in older versions), no static cache (transformers)")

_said: Set[str] = set()


def warn(text: str, key: str = "") -> None:
    """Prints a warning; those of one key (the text, if there is none) are printed once."""
    if (key or text) not in _said:
        _said.add(key or text)
        say("warning: " + text)


def say(text: str) -> None:
    try:
        print("misa-trace[{}]: {}".format(os.getpid(), text), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # standard error is closed


def contained(hook: Callable[..., Any]) -> Callable[..., Any]:
    """A hook whose errors become one warning: the engine goes on as if it were not there."""

    @functools.wraps(hook)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return hook(*args, **kwargs)
        except Exception as error:  # pylint: disable=broad-except
            warn("a call was not recorded: {}: {} (in {})".format(type(error).__name__, error, hook.__name__),
                 key="contained " + hook.__name__ + type(error).__name__)
            return None

    return run


def forget() -> None:
    """Lets every warning be printed again; for tests."""
    _said.clear()
