"""Traces that may be given away: the numbers are mixed, ranks and ties of scores stay."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

from .forms import fields
from .schema import need
from .slicing import trim
from .tensors import Tensor
from .trace import Trace, join_pages, make_trace, split_pages
from .windows import seen_slots

# Matrix units add products in groups of 16 or 32 numbers; numbers stay in their group, and so do all sums.
GROUP = 16
KEPT = (
    "format",
    "provenance",
    "index_n_heads",
    "index_head_dim",
    "index_topk",
    "compress_ratio",
    "k_scale_format",
    "topk_arithmetic",
)


def anonymise(trace: Trace, seed: int | None = None) -> Trace:
    """A trace of the same scores, whose numbers, heads and pages stand elsewhere.

    The D numbers of queries and keys are permuted within groups of 16 and get signs, the same for all, and heads are
    permuted: every product q . k keeps its value, in any arithmetic that adds within such groups or in any order, and a
    score is the same sum in another order. So ranks, ties and a recorded topk stay, and MISA's heads are the same heads
    under other numbers. Pages are renumbered at random; keys that no row sees, metadata but for that of the format, and
    tensors of the caller's own are left out. Without `seed` the draw is of the system and kept nowhere.

    What this does not hide (docs/python.md): scores, positions, lengths and attention mass; scales, norms and the sizes
    of the numbers of each key, by which somebody with the model can recognise tokens; which keys are alike.
    """
    draw = np.random.default_rng(secrets.randbits(128) if seed is None else seed)
    trace = trim(trace)
    dim, heads = trace.head_dim, draw.permutation(trace.heads)
    order = np.concatenate([first + draw.permutation(min(GROUP, dim)) for first in range(0, dim, GROUP)])
    flipped = draw.integers(0, 2, dim).astype(bool)
    kept: dict[str, Any] = {name: tensor for name, tensor in trace.tensors() if not name.startswith("x.")}
    kept["q"] = _mixed(trace.q, order, flipped)
    for name in fields(trace, "q", "weights", "q_scale", "q_norm"):
        kept[name] = kept[name][:, heads]
    seen = seen_slots(trace)
    if trace.paged:
        pages = _mixed_pages(need(trace.k_pages), order, flipped, seen)
        place = draw.permutation(len(pages))
        kept["k_pages"] = pages[np.argsort(place)]
        kept["block_table"] = place[need(trace.block_table).data]
    else:
        kept["k"] = _blank(_mixed(need(trace.k), order, flipped), seen)
    metadata = {name: value for name, value in trace.metadata.items() if name in KEPT}
    return make_trace(metadata, **kept)


def _mixed(tensor: Tensor, order: np.ndarray, flipped: np.ndarray) -> Tensor:
    """The numbers of the last dimension in another order, some negated, bit by bit."""
    mixed = tensor.data[..., order].copy()
    bits = mixed.view(f"u{mixed.itemsize}")
    bits ^= np.where(flipped, 1 << (8 * mixed.itemsize - 1), 0).astype(bits.dtype)
    return Tensor(tensor.dtype, mixed)


def _blank(tensor: Tensor, seen: np.ndarray) -> Tensor:
    data = tensor.data.copy()
    data[~seen] = 0
    return Tensor(tensor.dtype, data)


def _mixed_pages(pages: Tensor, order: np.ndarray, flipped: np.ndarray, seen: np.ndarray) -> Tensor:
    if pages.dtype != "U8":
        return _blank(_mixed(pages, order, flipped), seen)
    values, scales = split_pages(pages)
    bits = scales.view(np.uint32).copy()  # whatever their format is
    bits[~seen] = bits[seen][0] if seen.any() else 0
    return join_pages(_blank(_mixed(values, order, flipped), seen), bits.view(np.float32))
