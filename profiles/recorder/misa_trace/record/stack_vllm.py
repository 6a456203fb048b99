"""vLLM's selections. Its scores are those of stack_deepgemm; each selection is written into a buffer of ids.

    vllm._custom_ops.top_k_per_row_prefill, top_k_per_row_decode   (logits, ..., ids, ...)
    torch.ops._C.cooperative_topk, persistent_topk, ...            the same, where a version calls them directly
    vllm.model_executor.layers.indexer_topk.SparseIndexerTopk      what get_indexer_topk returns
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Callable

import torch

from .imports import replace
from .messages import contained
from .recording import Recorder

_FUNCTIONS = ("top_k_per_row_prefill", "top_k_per_row_decode")
_OPERATIONS = _FUNCTIONS + ("cooperative_topk", "persistent_topk")


def hook(module: ModuleType, recorder_of: Callable[[str], Recorder]) -> None:
    """Replaces the selecting functions that a module has, and those of torch.ops once the module is there."""
    recorder = recorder_of("vLLM")
    wrap = functools.partial(_recorded, recorder=recorder)
    for name in _FUNCTIONS:
        if hasattr(module, name):
            replace(module, name, wrap)
    selector = getattr(module, "SparseIndexerTopk", None)
    if isinstance(selector, type):
        replace(selector, "forward", wrap)
    for name in _OPERATIONS:
        if hasattr(torch.ops._C, name):
            replace(torch.ops._C, name, functools.partial(_Operation, recorder=recorder))


def _recorded(original: Callable[..., Any], recorder: Recorder) -> Callable[..., Any]:
    @functools.wraps(original)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        _see(recorder, args, kwargs)
        return result

    return recorded


class _Operation:
    """An operation of torch.ops whose selections are seen. All else is the operation's own, overloads for instance."""

    def __init__(self, original: Any, recorder: Recorder) -> None:
        self._original, self._recorder = original, recorder

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self._original(*args, **kwargs)
        _see(self._recorder, args, kwargs)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


@contained
def _see(recorder: Recorder, args: Any, kwargs: Any) -> None:
    if torch.compiler.is_compiling() or not recorder.waits:
        return
    logits, *others = [value for value in [*args, *kwargs.values()] if isinstance(value, torch.Tensor)]
    ids = [t for t in others if t.dtype == torch.int32 and t.dim() == 2 and len(t) == len(logits) and t.shape[1] > 1]
    if ids:
        recorder.selected(logits, ids[-1])
