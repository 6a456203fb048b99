"""Parts of a trace: some rows, some tokens, some heads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from .forms import fields, keep_rows, move_needles, one_row_each
from .schema import need, refuse
from .tensors import Tensor
from .trace import Trace, make_trace
from .windows import seen_slots


def numbers_of(text: str, count: int, what: str) -> np.ndarray:
    """Numbers below `count` of a text such as "0:64,70,-1": ranges as Python has them, in the order given."""
    chosen: list[int] = []
    for part in text.split(","):
        try:
            ends = [int(end) if end.strip() else None for end in part.split(":")]
        except ValueError:
            ends = []
        if len(ends) == 1 and ends[0] is not None and -count <= ends[0] < count:
            chosen.append(ends[0] % count)
        elif len(ends) in (2, 3) and not (len(ends) == 3 and ends[2] == 0):
            chosen += range(count)[slice(*ends)]
        else:
            refuse("MP-E244", f"'{part}' names no {what}, there are {count}", "slice", "numbers and ranges: 0:64,70,-1")
    return _distinct(chosen, count, what)


def slice_trace(
    trace: Trace,
    *,
    rows: Iterable[int] | None = None,
    heads: Iterable[int] | None = None,
    tokens: tuple[int, int] | None = None,
) -> Trace:
    """A part of a trace.

    rows: query rows, in this order. heads: in this order; the recorded topk is left out, for scores change. tokens
    (first, end): those positions of every sequence, with the rows that stand at them; first must be where an entry, and
    of paged keys a page, begins, and where it is not 0 the recorded topk and candidates are left out. Keys that no
    remaining row sees are left out, and pages are renumbered; the numbers in `needle` and `topk` stay right.
    """
    if trace.topk is not None and "index_topk" not in trace.metadata:
        # The rows that are left may have no topk to tell k.
        trace = replace(trace, metadata={**trace.metadata, "index_topk": str(trace.top_k)})
    if tokens is not None:
        trace = _tokens(trace, *tokens)
    if heads is not None:
        trace = _heads(trace, _distinct(heads, trace.heads, "head"))
    if rows is not None:
        trace = _rows(trace, _distinct(rows, trace.rows, "row"))
    return trim(trace)


def _distinct(numbers: Iterable[int], count: int, what: str) -> np.ndarray:
    chosen = np.fromiter(numbers, np.int64)
    if len(chosen) == 0 or len(np.unique(chosen)) != len(chosen) or chosen.min() < 0 or chosen.max() >= count:
        refuse("MP-E244", f"{what}s {chosen.tolist()}, there are {count}", "slice", "each once, one at least, from 0")
    return chosen


def _heads(trace: Trace, heads: np.ndarray) -> Trace:
    kept = {name: tensor for name, tensor in trace.tensors() if name not in ("topk", "topk_row")}
    for name in fields(trace, "q", "weights", "q_scale", "q_norm", "q_block_scale"):
        kept[name] = kept[name][:, heads]
    metadata = dict(trace.metadata)
    if "index_n_heads" in metadata:
        metadata["index_n_heads"] = str(len(heads))
    return make_trace(metadata, **kept)


def _rows(trace: Trace, rows: np.ndarray) -> Trace:
    if not trace.paged:
        windows = {name: tensor[rows] for name, tensor in fields(trace, "ks", "ke", "q_pos").items()}
        keys = fields(trace, "k", "k_scale", "k_block_scale", "needle")
        return make_trace(trace.metadata, **keys, **windows, **keep_rows(trace, rows), **trace.extra)
    groups = rows.reshape(-1, trace.next_n) if len(rows) % trace.next_n == 0 else None
    whole = groups is not None and np.array_equal(
        groups, groups[:, :1] // trace.next_n * trace.next_n + np.arange(trace.next_n)
    )
    if groups is None or not whole:
        trace, groups = one_row_each(trace), rows[:, None]
    sequences = groups[:, 0] // trace.next_n
    return make_trace(
        trace.metadata,
        k_pages=trace.k_pages,
        block_table=need(trace.block_table)[sequences],
        seq_lens=need(trace.seq_lens)[sequences],
        needle=trace.needle,
        **keep_rows(trace, rows),
        **trace.extra,
    )


def _tokens(trace: Trace, first: int, end: int) -> Trace:
    if not 0 <= first < end:
        refuse("MP-E230", f"tokens {first} to {end}", "slice", "first:end, counted from a sequence's first token")
    ratio = trace.compress_ratio
    if first % ratio != 0:
        refuse("MP-E230", f"token {first} does not begin an entry of {ratio}", "slice", f"a multiple of {ratio}")
    gone = first // ratio  # keys before the part
    if trace.paged:
        if gone % trace.page_size != 0:
            refuse(
                "MP-E230",
                f"token {first} does not begin a page of {trace.page_size * ratio}",
                "slice",
                f"a multiple of {trace.page_size * ratio}, or contiguous keys",
            )
        trace = one_row_each(trace)
    ks, ke = trace.windows()
    position = trace.positions()
    rows = np.flatnonzero((position >= first) & (position < end))
    if len(rows) == 0:
        refuse(
            "MP-E212",
            f"no row stands at tokens {first} to {end - 1}",
            "slice",
            f"rows stand at {position.min()} to {position.max()}",
        )
    kept = keep_rows(trace, rows)
    if first > 0:
        kept = {name: tensor for name, tensor in kept.items() if name not in ("topk", "topk_row", "candidates")}
    if not trace.paged:
        keys = fields(trace, "k", "k_scale", "k_block_scale")
        needle = move_needles(trace.needle, np.arange(trace.tokens), first, ratio)
        windows = {"ks": ks[rows] + gone, "ke": ke[rows], "q_pos": position[rows] - first}
        return make_trace(trace.metadata, needle=needle, **windows, **keys, **kept, **trace.extra)
    if "attention_mass" in kept:
        kept["attention_mass"] = kept["attention_mass"][:, gone:]
    table = need(trace.block_table)[rows][:, gone // trace.page_size :]
    needle = move_needles(trace.needle, np.maximum(np.arange(trace.tokens) - gone, -1), first, ratio)
    return make_trace(
        trace.metadata,
        k_pages=trace.k_pages,
        block_table=table,
        seq_lens=position[rows] + 1 - first,
        needle=needle,
        **kept,
        **trace.extra,
    )


def trim(trace: Trace) -> Trace:
    """The trace without the keys that no row sees, or without their pages. At least one key or page stays."""
    seen = seen_slots(trace)
    if not seen.any():
        seen.flat[0] = True
    kept: dict[str, Any] = dict(trace.tensors())
    if trace.paged:
        used = np.flatnonzero(seen.any(axis=1))
        number = np.zeros(len(seen), np.int64)
        number[used] = np.arange(len(used))
        table: np.ndarray = need(trace.block_table).data.astype(np.int64)
        counts = -(-trace.sequence_keys() // trace.page_size)
        inside = np.arange(table.shape[1]) < counts[:, None]
        kept["k_pages"] = need(trace.k_pages)[used]
        table = np.where(inside, number[np.where(inside, table, 0)], 0)
        if trace.attention_mass is None and trace.needle is None:
            table = table[:, : max(int(counts.max()), 1)]
        kept["block_table"] = table
        return make_trace(trace.metadata, **kept)
    number = np.cumsum(np.concatenate(([0], seen)))
    for name in fields(trace, "k", "k_scale", "k_block_scale"):
        kept[name] = kept[name][np.flatnonzero(seen)]
    ks, ke = trace.windows()
    kept["ks"], kept["ke"] = number[ks], number[ks] + ke - ks
    if "attention_mass" in kept:
        kept["attention_mass"] = Tensor("F16", kept["attention_mass"].data[:, seen])
    kept["needle"] = move_needles(trace.needle, np.where(seen, number[:-1], -1), 0, trace.compress_ratio)
    return make_trace(trace.metadata, **kept)
