"""Puts the hooks of all stacks in place, each when its module is imported."""

from __future__ import annotations

import re
from types import ModuleType
from typing import TYPE_CHECKING, Optional

from .imports import when_imported
from .messages import warn
from .settings import Settings, SettingsError

if TYPE_CHECKING:
    from .recording import Recorder

# transformers.models.NAME.modeling_NAME, and the code that a checkpoint brings with it
_MODELING = re.compile(r"transformers\.models\..*\.modeling_\w+|transformers_modules\..*")
# DeepGEMM, vLLM's copy of it, vLLM's wrapper of either, and what SGLang takes in its place
_DEEPGEMM = re.compile(
    r"deep_gemm|vllm\.third_party\.deep_gemm|vllm\.utils\.deep_gemm|sglang\.srt\.layers\.attention\.(dsa|nsa)\.utils")
_VLLM_TOPK = re.compile(r"vllm\._custom_ops|vllm\.model_executor\.layers\.(indexer_topk|sparse_attn_indexer)")
_SGLANG = re.compile(r"sglang\.srt\.layers\.attention\.(dsa\.dsa_indexer|nsa\.nsa_indexer)")

_settings: Optional[Settings] = None
_recorder: Optional[Recorder] = None


def install() -> bool:
    """Puts the hooks in place if MISA_TRACE_DIR is set, once per process. Never raises."""
    global _settings
    if _settings is not None:
        return True
    try:
        _settings = Settings.of()
    except SettingsError as error:
        warn("nothing is recorded: {}".format(error))
    if _settings is None:
        return False
    when_imported(lambda name: _MODELING.fullmatch(name) is not None, _hook_transformers)
    when_imported(lambda name: _DEEPGEMM.fullmatch(name) is not None, _hook_deepgemm)
    when_imported(lambda name: _VLLM_TOPK.fullmatch(name) is not None, _hook_vllm)
    when_imported(lambda name: _SGLANG.fullmatch(name) is not None, _hook_sglang)
    return True


def recorder_of(stack: str) -> Recorder:
    """The recorder of the process, made when the first stack is hooked. Before that torch is not needed."""
    global _recorder
    from .recording import Recorder

    if _recorder is None:
        assert _settings is not None
        _recorder = Recorder(_settings)
    if stack not in _recorder.stacks:
        _recorder.stacks.append(stack)
    return _recorder


def current() -> Optional[Recorder]:
    """The recorder, None if no stack was hooked."""
    return _recorder


def forget() -> None:
    """Lets install be called again, with another environment; for tests."""
    global _settings, _recorder
    _settings = _recorder = None


def _hook_transformers(module: ModuleType) -> None:
    from . import stack_transformers

    stack_transformers.hook(module, recorder_of)


def _hook_deepgemm(module: ModuleType) -> None:
    from . import stack_deepgemm

    stack_deepgemm.hook(module, recorder_of)


def _hook_vllm(module: ModuleType) -> None:
    from . import stack_vllm

    stack_vllm.hook(module, recorder_of)


def _hook_sglang(module: ModuleType) -> None:
    from . import stack_sglang

    stack_sglang.hook(module, recorder_of)
