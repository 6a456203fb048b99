"""DeepGEMM's scoring functions, vLLM's wrappers of them and SGLang's substitutes: contiguous keys (prefill) and paged
keys (decode).

    fp8_mqa_logits(q, (k, k_scale), weights, ks, ke, ...) -> [M, N], or [M, max_seqlen_k] counted from ks
    fp8_paged_mqa_logits(q [B, next_n, H, D], pages, weights, context_lens, block_table, ...) -> [B * next_n, longest]
    fp8_fp4_...: the same with q = (values, scales); scales are None for FP8 on SM90, and packed UE8M0 on SM100
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from types import ModuleType
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch

from ..schema import ARITHMETICS
from .calls import Call, Refused, on_cpu, spread, take, to_list
from .imports import replace
from .keys import pages_used, seen_tokens
from .messages import NO_GRAPHS, contained, warn
from .recording import Recorder

_CONTIGUOUS = ("fp8_mqa_logits", "fp8_fp4_mqa_logits", "_fp8_mqa_logits_torch")
_PAGED = ("fp8_paged_mqa_logits", "fp8_fp4_paged_mqa_logits", "_fp8_paged_mqa_logits_torch")
# Places of arguments, for a built-in function has no names to ask for; and what others call the same.
_CONTIGUOUS_ORDER = ("q", "kv", "weights", "ks", "ke", "clean_logits", "max_seqlen_k")
_PAGED_ORDER = ("q", "kv_cache", "weights", "context_lens", "block_table")
_ALSO_CALLED = {
    "cu_seq_len_k_start": "ks", "cu_seqlen_ks": "ks", "cu_seq_len_k_end": "ke", "cu_seqlen_ke": "ke", "q_fp8": "q",
    "kv_cache_fp8": "kv_cache", "fused_kv_cache": "kv_cache", "block_tables": "block_table",
}
# How tensor cores of a generation round, where it is known.
_ARITHMETICS = {(9, torch.float32): "fp8-mma", (10, torch.bfloat16): "fp8-mma+bf16-result"}
_LAYER_NAMES = ("layer_id", "layer_idx", "layer_number")
_FRAMES = 24  # how far up the caller is looked for that knows its layer


def hook(module: ModuleType, recorder_of: Callable[[str], Recorder]) -> None:
    """Replaces the scoring functions that a module has."""
    for names, take_call in ((_CONTIGUOUS, _contiguous_call), (_PAGED, _paged_call)):
        for name in names:
            if hasattr(module, name):
                package = module.__name__.split(".")[0]
                recorder = recorder_of({"vllm": "vLLM", "sglang": "SGLang"}.get(package, "DeepGEMM"))
                replace(module, name, functools.partial(_recorded, recorder=recorder, take_call=take_call))


def _recorded(original: Callable[..., Any], recorder: Recorder, take_call: Callable[..., Any]) -> Callable[..., Any]:
    phase, order = ("decode", _PAGED_ORDER) if take_call is _paged_call else ("prefill", _CONTIGUOUS_ORDER)

    @contained
    @on_cpu
    def record(logits: Any, layer: Optional[int], args: Any, kwargs: Any) -> None:
        try:
            call = take_call(recorder, layer, logits, _named(original, order, args, kwargs))
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
            warn("a CUDA graph is captured, and calls in it are not recorded; try: " + NO_GRAPHS, key="capture")
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


def _named(function: Any, order: Tuple[str, ...], args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Dict[str, Any]:
    """Arguments by the names of `order`."""
    try:
        given = dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):  # a built-in function
        given = {**dict(zip(order, args)), **kwargs}
        if isinstance(given.get("clean_logits"), int) and not isinstance(given["clean_logits"], bool):
            given["max_seqlen_k"] = given.pop("clean_logits")  # as of DeepGEMM 2.8
    return {_ALSO_CALLED.get(name, name): value for name, value in given.items()}


def _queries(given: Any, weights: torch.Tensor, kept: List[int]) -> Tuple[torch.Tensor, torch.Tensor, bool]:
    """Kept rows of q [M, H, D] and of weights [M, H], with the queries' UE8M0 scales folded in if there are any."""
    q, scales = given if isinstance(given, (tuple, list)) else (given, None)
    if q.dtype != torch.float8_e4m3fn:
        raise Refused("its queries are {}, not float8_e4m3fn{}".format(
            q.dtype, ": a trace does not hold FP4" if q.element_size() == 1 else ""))
    heads, dim = q.shape[-2:]
    folded = take(weights.reshape(-1, heads), kept).float()
    if scales is not None:
        folded = folded * _ue8m0x4(take(scales.reshape(-1, heads), kept), "queries")
    return take(q.reshape(-1, heads, dim), kept), folded, scales is not None


def _ue8m0x4(words: torch.Tensor, what: str) -> torch.Tensor:
    """Scales of words of four UE8M0 bytes, which must be equal: 2^(byte - 127)."""
    codes = words.contiguous().view(torch.uint8).reshape(*words.shape, 4)
    if not bool((codes == codes[..., :1]).all()):
        raise Refused("its {} have four scales each, a trace holds one".format(what))
    return torch.pow(2.0, codes[..., 0].double() - 127).float()


def _contiguous_call(recorder: Recorder, layer: Optional[int], logits: torch.Tensor,
                     given: Dict[str, Any]) -> Optional[Call]:
    (k, k_scale), rows = given["kv"], len(logits)
    kept = spread(rows, recorder.settings.rows)
    ks, ke = (to_list(take(given[name], kept)) for name in ("ks", "ke"))
    seen = [i for i, (begin, end) in enumerate(zip(ks, ke)) if end > begin]
    if not seen:
        return None
    kept, ks, ke = [kept[i] for i in seen], [ks[i] for i in seen], [ke[i] for i in seen]
    low, high = min(ks), max(ke)
    if not recorder.room((len(kept) * given["weights"].shape[-1] + high - low) * (k.shape[-1] + 4)):
        return None
    q, weights, packed = _queries(given["q"], given["weights"], kept)
    if k_scale.element_size() == 1:
        k_scale = k_scale.contiguous().view(torch.float32)
    k_scale = k_scale.reshape(-1)[low:high].detach().cpu()
    call = Call(
        stack="DeepGEMM", layer=layer, phase="prefill", kept=kept, rows=rows, q=q, weights=weights,
        k=k[low:high].detach().cpu().view(torch.float8_e4m3fn),
        k_scale=_ue8m0x4(k_scale, "keys") if packed else k_scale,
        ks=[begin - low for begin in ks], ke=[end - low for end in ke],
    )
    from_ks = bool(given.get("max_seqlen_k")) or logits.shape[1] < len(k)
    for i in {0, len(kept) - 1}:
        at = 0 if from_ks else ks[i]
        call.scores[i] = logits[kept[i], at : at + ke[i] - ks[i]].detach().float().cpu()
    return _checked(call, logits)


def _paged_call(recorder: Recorder, layer: Optional[int], logits: torch.Tensor,
                given: Dict[str, Any]) -> Optional[Call]:
    values = given["q"][0] if isinstance(given["q"], (tuple, list)) else given["q"]
    cache = given["kv_cache"]
    (batch, next_n), size, width = values.shape[:2], cache.shape[1], cache.shape[-1]
    sequences = spread(batch, max(1, recorder.settings.rows // next_n))
    lengths = _lengths(take(given["context_lens"], sequences), next_n)
    seen = [i for i, row in enumerate(lengths) if min(row) > 0]  # others are padding of the batch
    if not seen:
        return None
    sequences, lengths = [sequences[i] for i in seen], [lengths[i] for i in seen]
    kept = [sequence * next_n + j for sequence in sequences for j in range(next_n)]
    # With `indices`, which say what rows are of one request, every row has a table of its own.
    pages = pages_used([to_list(row) for row in take(given["block_table"], sequences)], lengths, size)
    if not recorder.room((len(kept) * given["weights"].shape[-1] + len(pages.ids) * size) * width):
        return None
    q, weights, packed = _queries(given["q"], given["weights"], kept)
    pages.bytes = take(cache, pages.ids).view(torch.uint8).reshape(len(pages.ids), size, width)
    if packed:
        scales = pages.bytes.view(len(pages.ids), -1)[:, size * (width - 4) :]
        words = scales.contiguous().view(torch.int32)
        unseen = torch.arange(size) >= torch.tensor(seen_tokens(pages))[:, None]
        scales.copy_(_ue8m0x4(words.masked_fill(unseen, 0), "keys").view(torch.uint8))
    call = Call(stack="DeepGEMM", layer=layer, phase="decode", kept=kept, rows=batch * next_n, q=q, weights=weights,
                pages=pages)
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
    if logits.is_cuda and dim == 128:
        arithmetic = _ARITHMETICS.get((torch.cuda.get_device_capability(logits.device)[0], logits.dtype))
        if arithmetic in ARITHMETICS:
            call.metadata["topk_arithmetic"] = arithmetic
    return call


def _stack() -> str:
    """The engine around the kernel, and its version."""
    for name in ("vllm", "sglang", "tensorrt_llm", "deep_gemm"):
        module = sys.modules.get(name)
        if module is not None:
            return "{} {}".format(name, getattr(module, "__version__", "")).strip()
    return "DeepGEMM"
