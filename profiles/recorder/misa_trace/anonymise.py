"""Traces that may be given away: the numbers are mixed, ranks and ties of scores stay."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

from .forms import fields
from .schema import need
from .slicing import trim
from .tensors import Tensor
from .trace import Trace, join_mxfp4_pages, join_pages, make_trace, split_mxfp4_pages, split_pages
from .windows import seen_slots

# Matrix units add products in groups of 16 or 32 numbers; numbers stay in their group, and so do all sums.
GROUP = 16
KEPT = (
    "format",
    "provenance",
    "index_n_heads",
    "index_head_dim",
    "index_topk",
    "index_init_tokens",
    "index_local_tokens",
    "compress_ratio",
    "candidate_length",
    "k_scale_format",
    "k_pages_dtype",
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
    flipped = draw.integers(0, 2, dim).astype(bool) & _may_be_negated(trace)
    kept: dict[str, Any] = {name: tensor for name, tensor in trace.tensors() if not name.startswith("x.")}
    kept["q"] = _mixed(trace.q, order, flipped)
    for name in fields(trace, "q", "weights", "q_scale", "q_norm", "q_block_scale"):
        kept[name] = kept[name][:, heads]
    seen = seen_slots(trace)
    if trace.paged:
        pages = _mixed_pages(trace, order, flipped, seen)
        place = draw.permutation(len(pages))
        kept["k_pages"] = pages[np.argsort(place)]
        kept["block_table"] = place[need(trace.block_table).data]
    else:
        kept["k"] = _blank(_mixed(need(trace.k), order, flipped), seen)
        if trace.k_block_scale is not None:
            kept["k_block_scale"] = Tensor("I32", _blank_words(trace.k_block_scale.data, seen))
    metadata = {name: value for name, value in trace.metadata.items() if name in KEPT}
    return make_trace(metadata, **kept)


def _mixed(tensor: Tensor, order: np.ndarray, flipped: np.ndarray) -> Tensor:
    """The numbers of the last dimension in another order, some negated, bit by bit."""
    if tensor.dtype == "F4":
        codes = np.stack([tensor.data & 15, tensor.data >> 4], axis=-1).reshape(tensor.shape)[..., order]
        codes ^= np.where(flipped, 8, 0).astype(np.uint8)
        return Tensor("F4", codes[..., 0::2] | codes[..., 1::2] << 4)
    if tensor.dtype == "I8":
        return Tensor("I8", np.where(flipped, -tensor.data[..., order], tensor.data[..., order]))
    mixed = tensor.data[..., order].copy()
    bits = mixed.view(f"u{mixed.itemsize}")
    bits ^= np.where(flipped, 1 << (8 * mixed.itemsize - 1), 0).astype(bits.dtype)
    return Tensor(tensor.dtype, mixed)


def _may_be_negated(trace: Trace) -> bool:
    """Whether every number has a negative: -128 of INT8 has none."""
    values = [trace.q] if trace.k is None else [trace.q, trace.k]
    if trace.paged and trace.key_dtype == "I8":
        values.append(split_pages(need(trace.k_pages))[0])
    return not any(tensor.dtype == "I8" and (tensor.data == -128).any() for tensor in values)


def _blank_words(words: np.ndarray, seen: np.ndarray) -> np.ndarray:
    blank = words.copy()
    blank[~seen] = words[seen][0] if seen.any() else 0
    return blank


def _blank(tensor: Tensor, seen: np.ndarray) -> Tensor:
    data = tensor.data.copy()
    data[~seen] = 0
    return Tensor(tensor.dtype, data)


def _mixed_pages(trace: Trace, order: np.ndarray, flipped: np.ndarray, seen: np.ndarray) -> Tensor:
    pages = need(trace.k_pages)
    if trace.key_dtype == "F4":
        numbers, words = split_mxfp4_pages(pages, trace.head_dim)
        return join_mxfp4_pages(_blank(_mixed(numbers, order, flipped), seen), _blank_words(words, seen))
    if pages.dtype not in ("U8", "I8"):
        return _blank(_mixed(pages, order, flipped), seen)
    values, scales = split_pages(pages)
    bits = _blank_words(scales.view(np.uint32), seen)  # whatever their format is
    return join_pages(_blank(_mixed(values, order, flipped), seen), bits.view(np.float32))
