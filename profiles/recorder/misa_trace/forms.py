"""The two forms of a trace's keys, contiguous and paged, made from each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from .schema import INT8_PAGES, PAGES_DTYPE, at, need, refuse
from .tensors import Tensor
from .trace import Trace, join_mxfp4_pages, join_pages, make_trace, split_mxfp4_pages, split_pages


def fields(trace: Trace, *names: str) -> dict[str, Any]:
    """The named tensors that the trace has."""
    return {name: getattr(trace, name) for name in names if getattr(trace, name) is not None}


def rows_of(trace: Trace, name: str) -> np.ndarray:
    """The query row of each row of topk or attention_mass."""
    numbers = getattr(trace, name + "_row")
    return numbers.data.astype(np.int64) if numbers is not None else np.arange(trace.rows)


def keep_rows(trace: Trace, rows: np.ndarray) -> dict[str, Any]:
    """What belongs to query rows, for `rows` of them in this order: queries, weights, candidates, topk, attention_mass."""
    kept: dict[str, Any] = {
        name: tensor[rows]
        for name, tensor in fields(trace, "q", "weights", "q_scale", "q_norm", "q_block_scale", "candidates").items()
    }
    place = np.full(trace.rows, -1)
    place[rows] = np.arange(len(rows))
    for name, tensor in fields(trace, "topk", "attention_mass").items():
        of = place[rows_of(trace, name)]
        if (of >= 0).any():
            kept[name], kept[name + "_row"] = tensor[of >= 0], of[of >= 0]
    return kept


def move_needles(needle: Tensor | None, keys: np.ndarray, positions: int, ratio: int) -> np.ndarray | None:
    """Needles whose keys are all still there, counted anew: key t is number keys[t] now, -1 where it is gone, and
    position p is p - positions. A key stands for `ratio` tokens."""
    if needle is None:
        return None
    kept = []
    for numbers in needle.data.tolist():
        start, length, asked, asked_length, *answer = numbers
        now = keys[start : start + length]
        end = ((int(keys.max()) if len(keys) else -1) + 2) * ratio - 1  # of the positions that see no further key
        if len(now) < length or (now < 0).any() or asked < positions or asked - positions + asked_length > end:
            continue
        moved = [int(now[0]), length, asked - positions, asked_length]
        if answer:
            moved += [int(keys[answer[0]]), answer[1]] if answer[1] > 0 else [0, 0]
        kept.append(moved)
    return np.array(kept, np.int64) if kept else None


def one_row_each(trace: Trace) -> Trace:
    """The same paged trace with a sequence for each row (next_n = 1), which shares its pages with the others."""
    if trace.next_n == 1:
        return trace
    table, lengths = np.repeat(need(trace.block_table).data, trace.next_n, axis=0), trace.positions() + 1
    kept = {**keep_rows(trace, np.arange(trace.rows)), "needle": trace.needle}
    return make_trace(trace.metadata, k_pages=trace.k_pages, block_table=table, seq_lens=lengths, **kept, **trace.extra)


def contiguous(trace: Trace) -> Trace:
    """The trace with contiguous keys: those of one sequence after another; sequences that begin with the same pages
    share them. Rows that see no token are left out, for contiguous windows are never empty but before a first entry;
    so are needles of several sequences."""
    if not trace.paged:
        return trace
    size, pages, scales = trace.page_size, need(trace.k_pages), trace.key_scales()
    lengths, positions = trace.sequence_keys(), trace.positions()
    starts, slots = _one_after_another(need(trace.block_table).data, lengths, size)
    _, ke = trace.windows()
    rows = np.flatnonzero(positions >= 0)
    if not (ke > 0).any():
        refuse("MP-E231", "no row sees a token", at("seq_lens"), "a trace of rows that see some")
    kept, metadata = keep_rows(trace, rows), dict(trace.metadata)
    start = np.repeat(starts, trace.next_n)[rows]
    if "attention_mass" in kept:
        mass = np.zeros((len(kept["attention_mass"]), len(slots)), np.float16)
        for to, row in enumerate(kept["attention_mass_row"]):
            length = int(lengths[rows[row] // trace.next_n])
            mass[to, start[row] : start[row] + length] = kept["attention_mass"].data[to, :length]
        kept["attention_mass"] = mass
    metadata.pop(PAGES_DTYPE, None)
    values = pages if scales is None else split_pages(pages)[0]
    if trace.key_dtype == "F4":
        values, words = split_mxfp4_pages(pages, trace.head_dim)
        kept["k_block_scale"] = words.reshape(-1, words.shape[-1])[slots]
    kept["k"] = values.reshape(-1, trace.head_dim)[slots]
    if scales is not None:
        kept["k_scale"] = scales.reshape(-1)[slots].astype(np.float32)
        metadata["k_scale_format"] = "f32"
    kept["needle"] = trace.needle if len(np.unique(starts)) == 1 else None
    return make_trace(metadata, ks=start, ke=start + ke[rows], q_pos=positions[rows], **kept, **trace.extra)


def _one_after_another(tables: np.ndarray, lengths: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each sequence begins among the keys of all, and the slot (page * size + offset) of each key. A sequence
    whose pages are the first ones of a longer sequence begins where that does."""
    starts, slots, count = np.zeros(len(tables), np.int64), [], 0
    known: dict[int, list[tuple[np.ndarray, int]]] = {}  # first page -> pages and beginning of sequences
    for sequence in np.argsort(-lengths, kind="stable"):
        length = int(lengths[sequence])
        used = tables[sequence][: -(-length // size)]
        if length == 0:
            continue
        same = [start for pages, start in known.get(int(used[0]), []) if np.array_equal(pages[: len(used)], used)]
        if not same:
            token = np.arange(length)
            slots.append(used[token // size].astype(np.int64) * size + token % size)
            known.setdefault(int(used[0]), []).append((used, count))
            same, count = [count], count + length
        starts[sequence] = same[0]
    return starts, np.concatenate(slots) if slots else np.zeros(0, np.int64)


def paged(trace: Trace, page_size: int = 64) -> Trace:
    """The trace with paged keys: a sequence for each row, and pages shared by rows of equal ks. Needles of several
    sequences are left out."""
    if trace.paged:
        return trace
    if page_size < 1:
        refuse("MP-E212", f"pages of {page_size} keys", "paged", "64, as stacks have them")
    ks, ke = trace.windows()
    starts, sequence = np.unique(ks, return_inverse=True)
    lengths = np.array([ke[ks == start].max() - start for start in starts])
    counts = np.maximum(-(-lengths // page_size), 1)
    first, most = np.concatenate(([0], np.cumsum(counts)[:-1])), int(counts.max())
    k = need(trace.k)
    data = np.zeros((int(counts.sum()) * page_size, k.data.shape[1]), k.data.dtype)
    scales = np.ones(len(data))
    blocks = None if trace.k_block_scale is None else np.zeros((len(data), trace.k_block_scale.shape[1]), np.int32)
    known = trace.key_scales()
    for start, length, page in zip(starts, lengths, first):
        place = slice(page * page_size, page * page_size + length)
        data[place] = k.data[start : start + length]
        if known is not None:
            scales[place] = known[start : start + length]
        if blocks is not None:
            blocks[place] = need(trace.k_block_scale).data[start : start + length]
    pages = Tensor(k.dtype, data.reshape(-1, page_size, data.shape[1]))
    if blocks is not None:
        pages = join_mxfp4_pages(pages, blocks.reshape(-1, page_size, blocks.shape[1]))
    if known is not None:
        pages = join_pages(pages, scales.reshape(-1, page_size))
    tables = first[:, None] + np.minimum(np.arange(most), counts[:, None] - 1)
    kept = keep_rows(trace, np.arange(trace.rows))
    if "attention_mass" in kept:
        mass = np.zeros((len(kept["attention_mass"]), most * page_size), np.float16)
        for to, row in enumerate(kept["attention_mass_row"]):
            visible = int(lengths[sequence[row]])
            mass[to, :visible] = kept["attention_mass"].data[to, ks[row] : ks[row] + visible]
        kept["attention_mass"] = mass
    metadata = {**trace.metadata, **({"k_scale_format": "f32"} if known is not None else {})}
    if k.dtype == "I8":
        metadata[PAGES_DTYPE] = INT8_PAGES
    needle = None
    if len(starts) == 1:
        keys = np.maximum(np.arange(trace.tokens) - starts[0], -1)
        needle = move_needles(trace.needle, keys, 0, trace.compress_ratio)
    return make_trace(
        metadata,
        k_pages=pages,
        block_table=tables[sequence.reshape(-1)],
        seq_lens=trace.positions() + 1,
        needle=needle,
        **kept,
        **trace.extra,
    )
