"""DeepGEMM's scoring functions, and vLLM's wrappers of them: contiguous keys (prefill) and paged keys (decode).

    fp8_mqa_logits(q, (k, k_scale), weights, ks, ke, ...) -> [M, N], or [M, max_seqlen_k] counted from ks
    fp8_paged_mqa_logits(q [B, next_n, H, D], pages, weights, context_lens, block_table, ...) -> [B * next_n, longest]
    fp8_fp4_...: the same with q = (values, scales), scales None for FP8
"""

from __future__ import annotations

import functools
import re
import sys
from types import ModuleType
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch

from ..schema import ARITHMETICS
from .calls import Call, Refused, spread, take, to_list
from .imports import replace
from .keys import pages_used
from .messages import contained, warn
from .recording import Recorder

_CONTIGUOUS = ("fp8_mqa_logits", "fp8_fp4_mqa_logits")
_PAGED = ("fp8_paged_mqa_logits", "fp8_fp4_paged_mqa_logits")
_LAYER_NAMES = ("layer_id", "layer_idx", "layer_number")
_FRAMES = 24  # how far up the caller is looked for that knows its layer


def hook(module: ModuleType, recorder_of: Callable[[str], Recorder]) -> None:
    """Replaces the scoring functions that a module has."""
    for names, take_call in ((_CONTIGUOUS, _contiguous_call), (_PAGED, _paged_call)):
        for name in names:
            if hasattr(module, name):
                recorder = recorder_of("vLLM" if module.__name__.startswith("vllm") else "DeepGEMM")
                replace(module, name, functools.partial(_recorded, recorder=recorder, take_call=take_call))


def _recorded(original: Callable[..., Any], recorder: Recorder, take_call: Callable[..., Any]) -> Callable[..., Any]:
    phase = "decode" if take_call is _paged_call else "prefill"

    @contained
    def record(logits: Any, layer: Optional[int], args: Any, kwargs: Any) -> None:
        try:
            with torch.no_grad():
                call = take_call(recorder, layer, logits, args, kwargs)
            if call is not None:
                recorder.add(call, logits)
                return
        except Refused as why:
            warn("{} is not recorded: {}".format(original.__name__, why), key="refused " + original.__name__)
        skip(logits)

    @contained
    def skip(logits: Any) -> None:
        recorder.skip(len(logits))

    @contained
    def asked() -> Optional[Tuple[Optional[int]]]:
        if torch.compiler.is_compiling():
            return None
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            warn("a CUDA graph is being captured, and calls in it are not recorded: try --enforce-eager (vLLM) or "
                 "--disable-cuda-graph (SGLang)", key="capture")
            return None
        layer = layer_of_callers()
        return (layer,) if recorder.wants(layer, phase) else None

    @functools.wraps(original)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        if recorder.inside:
            return original(*args, **kwargs)
        wanted = asked()
        if wanted is None:
            logits = original(*args, **kwargs)
            skip(logits)
            return logits
        recorder.inside = True  # vLLM's wrapper calls DeepGEMM's function, which is hooked too
        try:
            logits = original(*args, **kwargs)
        finally:
            recorder.inside = False
        record(logits, wanted[0], args, kwargs)
        return logits

    return recorded


def layer_of_callers() -> Optional[int]:
    """The layer that a caller knows: its layer_id or layer_idx, those of its self, or vLLM's k_cache_prefix."""
    frame = sys._getframe(1)
    for _ in range(_FRAMES):
        if frame.f_back is None:
            return None
        frame = frame.f_back
        names = frame.f_locals
        prefix = names.get("k_cache_prefix")
        if isinstance(prefix, str):
            found = re.search(r"\blayers\.(\d+)\b", prefix)
            if found:
                return int(found.group(1))
        owner = names.get("self")
        for name in _LAYER_NAMES:
            for value in (names.get(name), getattr(owner, "__dict__", {}).get(name)):
                if isinstance(value, int) and not isinstance(value, bool):
                    return value
    return None


class _Arguments:
    """Arguments by place or by any of their names."""

    def __init__(self, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> None:
        self._args, self._kwargs = args, kwargs

    def get(self, place: int, *names: str) -> Any:
        if place < len(self._args):
            return self._args[place]
        for name in names:
            if name in self._kwargs:
                return self._kwargs[name]
        return None


def _queries(given: Any) -> torch.Tensor:
    q, scales = given if isinstance(given, (tuple, list)) else (given, None)
    if scales is not None:
        raise Refused("its queries are FP4, which a trace does not hold")
    if q.dtype != torch.float8_e4m3fn:
        raise Refused("its queries are {}, not float8_e4m3fn".format(q.dtype))
    return q


def _contiguous_call(recorder: Recorder, layer: Optional[int], logits: torch.Tensor, args: Any,
                     kwargs: Any) -> Optional[Call]:
    given = _Arguments(args, kwargs)
    q = _queries(given.get(0, "q"))
    k, k_scale = given.get(1, "kv")
    weights = given.get(2, "weights")
    rows, heads, dim = q.shape
    kept = spread(rows, recorder.settings.rows)
    ks, ke = (to_list(take(given.get(place, *names), kept)) for place, names in (
        (3, ("cu_seq_len_k_start", "cu_seqlen_ks")), (4, ("cu_seq_len_k_end", "cu_seqlen_ke"))))
    seen = [i for i, (begin, end) in enumerate(zip(ks, ke)) if end > begin]
    if not seen:
        return None
    kept, ks, ke = [kept[i] for i in seen], [ks[i] for i in seen], [ke[i] for i in seen]
    low, high = min(ks), max(ke)
    if not recorder.room(len(kept) * heads * (dim + 4) + (high - low) * (dim + 4)):
        return None
    if k_scale.element_size() == 1:
        k_scale = k_scale.contiguous().view(torch.float32)
    compressed = bool(given.get(6, "max_seqlen_k"))  # columns then count from ks
    call = Call(
        stack="DeepGEMM", layer=layer, phase="prefill", kept=kept, rows=rows, q=take(q, kept),
        weights=take(weights.reshape(rows, heads), kept).float(),
        k=k[low:high].detach().cpu().view(torch.float8_e4m3fn), k_scale=k_scale.reshape(-1)[low:high].detach().cpu(),
        ks=[begin - low for begin in ks], ke=[end - low for end in ke],
    )
    for i in {0, len(kept) - 1}:
        at = 0 if compressed else ks[i]
        call.scores[i] = logits[kept[i], at : at + ke[i] - ks[i]].detach().float().cpu()
    return _checked(call, logits)


def _paged_call(recorder: Recorder, layer: Optional[int], logits: torch.Tensor, args: Any,
                kwargs: Any) -> Optional[Call]:
    given = _Arguments(args, kwargs)
    if kwargs.get("indices") is not None:
        raise Refused("rows chosen by `indices` are not understood")
    q = _queries(given.get(0, "q"))
    cache, weights = given.get(1, "kv_cache", "fused_kv_cache"), given.get(2, "weights")
    context, table = given.get(3, "context_lens"), given.get(4, "block_table", "block_tables")
    batch, next_n, heads, dim = q.shape
    size = cache.shape[1]
    sequences = spread(batch, max(1, recorder.settings.rows // next_n))
    lengths = _lengths(take(context, sequences), next_n)
    seen = [i for i, row in enumerate(lengths) if min(row) > 0]  # others are padding of the batch
    if not seen:
        return None
    sequences, lengths = [sequences[i] for i in seen], [lengths[i] for i in seen]
    kept = [sequence * next_n + j for sequence in sequences for j in range(next_n)]
    pages = pages_used([to_list(row) for row in take(table, sequences)], lengths, size)
    if not recorder.room(len(kept) * heads * (dim + 4) + len(pages.ids) * size * (dim + 4)):
        return None
    pages.bytes = take(cache, pages.ids).view(torch.uint8).reshape(len(pages.ids), size, dim + 4)
    call = Call(
        stack="DeepGEMM", layer=layer, phase="decode", kept=kept, rows=batch * next_n,
        q=take(q.reshape(batch * next_n, heads, dim), kept),
        weights=take(weights.reshape(-1, heads), kept).float(), pages=pages,
    )
    for i in {0, len(kept) - 1}:
        call.scores[i] = logits[kept[i], : call.window(i)].detach().float().cpu()
    return _checked(call, logits)


def _lengths(context: torch.Tensor, next_n: int) -> List[List[int]]:
    """Tokens that each of a sequence's next_n rows sees, from context_lens [B], [B, 1] or [B, next_n]."""
    rows = context.reshape(len(context), -1).tolist()
    return [row if len(row) == next_n else [int(row[0]) - next_n + j + 1 for j in range(next_n)] for row in rows]


def _checked(call: Call, logits: torch.Tensor) -> Call:
    factor = call.measure_factor()
    if abs(factor - 1) > 1e-2:
        raise Refused("its scores are {:.4g} times those of the formula".format(factor))
    heads, dim = call.q.shape[1:]
    call.metadata = {
        "stack": _stack(),
        "index_n_heads": str(heads),
        "index_head_dim": str(dim),
        "q_quant": "e4m3",
        "k_quant": "e4m3",
        "weights_folded": "true",
        "result_dtype": str(logits.dtype).replace("torch.", ""),
    }
    arithmetic = "fp8-mma" + ("+bf16-result" if logits.dtype == torch.bfloat16 else "")
    hopper = logits.is_cuda and torch.cuda.get_device_capability(logits.device)[0] == 9
    if hopper and dim == 128 and arithmetic in ARITHMETICS:
        call.metadata["topk_arithmetic"] = arithmetic
    return call


def _stack() -> str:
    """The engine around the kernel, and its version."""
    for name in ("vllm", "sglang", "tensorrt_llm", "deep_gemm"):
        module = sys.modules.get(name)
        if module is not None:
            return "{} {}".format(name, getattr(module, "__version__", "")).strip()
    return "DeepGEMM"
