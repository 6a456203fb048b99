"""SGLang's selections. Its scores are those of stack_deepgemm, which it calls by their names in deep_gemm.

    Indexer._get_topk_ragged, _get_topk_ragged_with_cp (extend), _get_topk_paged (decode, verify) -> ids [rows, k]

The ids count from the request's first token only where SGLang does not fuse the selection with the page table:
SGLANG_DSA_FUSE_TOPK=0 (SGLANG_NSA_FUSE_TOPK=0 in older versions). Others are noticed and left out.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Callable

import torch

from .imports import replace
from .recording import Recorder

_METHODS = ("_get_topk_ragged", "_get_topk_ragged_with_cp", "_get_topk_paged")


def hook(module: ModuleType, recorder_of: Callable[[str], Recorder]) -> None:
    indexer = getattr(module, "Indexer", None)
    if isinstance(indexer, type):
        for name in _METHODS:
            if hasattr(indexer, name):
                replace(indexer, name, functools.partial(_recorded, recorder=recorder_of("SGLang")))


def _recorded(original: Callable[..., Any], recorder: Recorder) -> Callable[..., Any]:
    @functools.wraps(original)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return original(*args, **kwargs)
        with recorder.scope() as selection:
            result = original(*args, **kwargs)
            if isinstance(result, torch.Tensor) and result.dim() == 2:
                selection.append(result)
        return result

    return recorded
