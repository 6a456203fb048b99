"""transformers: every class *Indexer whose scores are a weighted sum over heads of relu(q . k).

No model code is needed. While an indexer's forward runs, a torch function mode sees its operations: the product of
queries and keys is the last matmul before relu with relu's shape [B, S, H, T], the weights are what relu's result is
multiplied by, and the selection is the last topk. The masked scores that topk is given say which keys a row sees.
"""

from __future__ import annotations

import functools
import inspect
from types import ModuleType
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from torch.overrides import TorchFunctionMode

from .calls import Call, Refused, on_cpu, spread, take
from .messages import contained, warn
from .recording import Recorder

_PRODUCTS = ("matmul", "__matmul__", "__rmatmul__")
_WEIGHTINGS = _PRODUCTS + ("mul", "__mul__", "__rmul__", "multiply")
_RELUS = ("relu", "relu_", "clamp_min", "clamp_min_", "clamp", "clamp_")


def hook(module: ModuleType, recorder_of: Callable[[str], Recorder]) -> None:
    """Wraps forward of the indexers that a module defines."""
    for cls in list(vars(module).values()):
        if isinstance(cls, type) and cls.__name__.endswith("Indexer") and cls.__module__ == module.__name__:
            forward = vars(cls).get("forward")
            if forward is not None and not getattr(forward, "_misa_trace", False):
                setattr(cls, "forward", _recorded(forward, recorder_of("transformers")))


def _recorded(forward: Callable[..., Any], recorder: Recorder) -> Callable[..., Any]:
    signature = inspect.signature(forward)

    @contained
    def begin(module: Any, args: Any, kwargs: Any) -> Optional[Tuple[Optional[int], _Watch]]:
        given = signature.bind_partial(module, *args, **kwargs).arguments
        layer = given.get("layer_idx", getattr(module, "layer_idx", None))
        states = given.get("hidden_states")
        phase = "decode" if states is not None and states.dim() > 1 and states.shape[1] == 1 else "prefill"
        return (layer, _Watch(phase, given.get("position_ids"))) if recorder.wants(layer, phase) else None

    @functools.wraps(forward)
    def recorded(module: Any, *args: Any, **kwargs: Any) -> Any:
        begun = None if torch.compiler.is_compiling() else begin(module, args, kwargs)
        if begun is None:
            return forward(module, *args, **kwargs)
        layer, watch = begun
        with watch:
            result = forward(module, *args, **kwargs)
        _finish(recorder, module, layer, watch)
        return result

    setattr(recorded, "_misa_trace", True)
    return recorded


class _Watch(TorchFunctionMode):
    """Keeps references to the operands of the operations that matter; copies nothing and changes nothing."""

    def __init__(self, phase: str, positions: Any) -> None:
        super().__init__()
        self.phase = phase
        self.positions = positions  # position_ids, where forward has them
        self.products: List[Tuple[torch.Tensor, torch.Tensor, torch.Size]] = []
        self.product: Optional[Tuple[torch.Tensor, torch.Tensor]] = None
        self.shape: Optional[torch.Size] = None  # [B, S, H, T], that of relu's result
        self.weights: Optional[torch.Tensor] = None
        self.scores: Optional[torch.Tensor] = None
        self.ids: Optional[torch.Tensor] = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Optional[Dict[str, Any]] = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in _WEIGHTINGS or name in _RELUS or name == "topk":
            self._see(name, args, result)
        return result

    @contained
    def _see(self, name: str, args: Any, result: Any) -> None:
        tensors = [value for value in args if isinstance(value, torch.Tensor)]
        if name == "topk":
            self.scores, self.ids = tensors[0], result[1]
        elif name in _RELUS:
            fitting = [(a, b) for a, b, shape in self.products if shape == result.shape]
            if result.dim() == 4 and fitting:
                self.product, self.shape, self.weights = fitting[-1], result.shape, None
        elif len(tensors) == 2:
            if self.shape is not None and self.weights is None:
                for one, other in (tensors, tensors[::-1]):
                    if one.shape == self.shape and other.numel() == self.shape[:3].numel():
                        self.weights = other
            if name in _PRODUCTS and isinstance(result, torch.Tensor) and result.dim() == 4:
                self.products.append((tensors[0], tensors[1], result.shape))


@contained
@on_cpu
def _finish(recorder: Recorder, module: Any, layer: Optional[int], watch: _Watch) -> None:
    try:
        call = _call_of(recorder, module, layer, watch)
        if call is not None:
            recorder.add(call)
    except Refused as why:
        name = type(module).__name__
        warn("{} is not recorded: {}".format(name, why), key="refused " + name)


def _call_of(recorder: Recorder, module: Any, layer: Optional[int], watch: _Watch) -> Optional[Call]:
    if watch.product is None or watch.shape is None:
        raise Refused("no product of queries and keys is followed by relu")
    if watch.weights is None:
        raise Refused("its heads are not weighted")
    if watch.scores is None or watch.ids is None:
        raise Refused("no topk was seen")
    batch, rows, heads, tokens = watch.shape
    q, k = watch.product
    if watch.scores.shape != (batch, rows, tokens) or q.shape[:3] != (batch, rows, heads):
        raise Refused("topk was given scores {}, which are not of the queries {} [B, S, H, D]".format(
            list(watch.scores.shape), list(q.shape)))
    dim = q.shape[-1]
    keys = k.expand(batch, 1, dim, tokens)[:, 0].transpose(1, 2)  # [B, T, D]

    kept = spread(batch * rows, recorder.settings.rows)
    sequences = len({row // rows for row in kept})
    if not recorder.room(4 * (len(kept) * heads * (dim + 1) + sequences * tokens * dim)):
        return None
    kept, windows, scores = _windows(watch.scores.reshape(batch * rows, tokens), kept)
    if not kept:
        return None  # keys are entries of several tokens, and none is whole yet
    ends: Dict[int, int] = {}
    for row, (_, end) in zip(kept, windows):
        ends[row // rows] = max(ends.get(row // rows, 0), end)
    begins: Dict[int, int] = {}
    parts: List[torch.Tensor] = []
    for item, end in sorted(ends.items()):
        begins[item] = sum(len(part) for part in parts)
        parts.append(keys[item, :end].detach().cpu())
    call = Call(
        stack="transformers", layer=layer, phase=watch.phase, kept=kept, rows=batch * rows,
        q=take(q.reshape(batch * rows, heads, dim), kept),
        weights=take(watch.weights.reshape(batch * rows, heads), kept).float(),
        k=torch.cat(parts),
        ks=[begins[row // rows] + begin for row, (begin, _) in zip(kept, windows)],
        ke=[begins[row // rows] + end for row, (_, end) in zip(kept, windows)],
        scores={i: scores[i, windows[i][0] : windows[i][1]] for i in {0, len(kept) - 1}},
    )
    factor = call.measure_factor()
    call.weights = call.weights * factor
    chosen = watch.ids.shape[-1]
    stated = getattr(module, "index_topk", chosen) // getattr(module, "index_kpool", 1)  # GLM-5.3 counts tokens of pools
    top_k = stated if chosen == min(stated, tokens) else chosen
    call.metadata = _metadata(module, heads, dim, top_k, factor, watch.scores.dtype)
    ratio, positions = _entries(module, watch, batch * rows)
    if ratio > 1:
        call.q_pos = [int(position) for position in positions[kept]]
        if [(position + 1) // ratio for position in call.q_pos] != [end - begin for begin, end in windows]:
            raise Refused("rows do not see the keys of {} tokens that are whole at their positions".format(ratio))
        call.metadata["compress_ratio"] = str(ratio)
    if recorder.settings.topk:
        begin_of = torch.tensor([begin for begin, _ in windows])[:, None]
        call.set_topk(take(watch.ids.reshape(batch * rows, chosen), kept).long() - begin_of, top_k)
    return call


def _entries(module: Any, watch: _Watch, rows: int) -> Tuple[int, torch.Tensor]:
    """How many tokens a key stands for, and the position of each row; 1 where the module does not tell both."""
    ratio, positions = getattr(module, "compress_rate", 1), watch.positions
    if not isinstance(ratio, int) or not isinstance(positions, torch.Tensor) or positions.dim() != 2:
        return 1, torch.empty(0)
    batch = max(1, rows // positions.shape[1])
    positions = positions.detach().cpu().expand(batch, -1).reshape(-1)
    return (ratio, positions) if len(positions) == rows else (1, torch.empty(0))


def _windows(scores: torch.Tensor, kept: List[int]) -> Tuple[List[int], List[Tuple[int, int]], torch.Tensor]:
    """The rows of `kept` that see a key, the window [begin, end) of each, and their scores [R, T] on the CPU."""
    taken = take(scores, kept)
    seen = taken > torch.finfo(taken.dtype).min / 2  # a mask is -inf or the least number of the dtype
    some = seen.any(1)
    taken, seen = taken[some].float(), seen[some]
    begins, counts = seen.int().argmax(1), seen.sum(1)
    windows = [(int(begin), int(begin + count)) for begin, count in zip(begins, counts)]
    if not all(bool(row[begin:end].all()) for row, (begin, end) in zip(seen, windows)):
        raise Refused("the keys that a row sees are not one window")
    return [row for row, has in zip(kept, some) if has], windows, taken


def _metadata(module: Any, heads: int, dim: int, top_k: int, factor: float, dtype: torch.dtype) -> Dict[str, str]:
    import transformers

    config = getattr(module, "config", None)
    metadata = {
        "model": str(getattr(config, "model_type", type(module).__name__)),
        "stack": "transformers " + transformers.__version__,
        "index_n_heads": str(heads),
        "index_head_dim": str(dim),
        "index_topk": str(top_k),
        "q_quant": "none",
        "k_quant": "none",
        "weights_folded": "true",
        "folded_by_recorder": repr(factor),
    }
    if dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest":
        metadata["topk_arithmetic"] = "f32"
    return metadata
