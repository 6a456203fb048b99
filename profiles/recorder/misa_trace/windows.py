"""Which keys a row sees: the windows of contiguous and of paged keys, and their checks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import schema
from .schema import at, need, refuse

if TYPE_CHECKING:
    from .trace import Trace


def first(bad: Any) -> int | None:
    found = np.flatnonzero(bad)
    return int(found[0]) if len(found) else None


def derived_windows(trace: Trace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ks, ke and q_pos of the rows of paged keys, [Q] int64. Row j of next_n sees what is whole of the first
    seq_len - next_n + j + 1 tokens."""
    lengths, next_n = need(trace.seq_lens).data.astype(np.int64), trace.next_n
    tokens = np.maximum(np.repeat(lengths, next_n) - next_n + np.tile(np.arange(next_n), len(lengths)) + 1, 0)
    return np.zeros_like(tokens), tokens // trace.compress_ratio, tokens - 1


def used_pages(trace: Trace) -> Iterator[np.ndarray]:
    """The numbers of the pages of each sequence, as far as it has keys."""
    for table, keys in zip(need(trace.block_table).data, trace.sequence_keys()):
        yield table[: -(-int(keys) // trace.page_size)]


def seen_slots(trace: Trace) -> np.ndarray:
    """Which keys rows see: [N], or [pages, page_size]."""
    if not trace.paged:
        change = np.zeros(trace.tokens + 1, np.int64)
        ks, ke = trace.windows()
        np.add.at(change, ks, 1)
        np.add.at(change, ke, -1)
        return np.cumsum(change[:-1]) > 0
    seen = np.zeros((need(trace.k_pages).shape[0], trace.page_size), np.bool_)
    for pages, keys in zip(used_pages(trace), trace.sequence_keys()):
        seen[pages[:-1]] = True
        if keys > 0:
            seen[pages[-1], : (int(keys) - 1) % trace.page_size + 1] = True
    return seen


def check_contiguous_windows(trace: Trace) -> None:
    ks, ke, position = (getattr(trace, name).data.astype(np.int64) for name in ("ks", "ke", "q_pos"))
    keys, ratio = trace.tokens, trace.compress_ratio
    may_see_none = (ratio > 1) & (ke == ks)  # a row before the end of its first entry
    row = first((ks < 0) | (ks > keys) | ((ks == keys) & ~may_see_none))
    if row is not None:
        refuse(
            "MP-E230",
            f"the window begins at token {ks[row]}, the keys are 0 to {keys - 1}",
            at("ks", row),
            schema.WINDOW,
        )
    row = first(ke > keys)
    if row is not None:
        refuse(
            "MP-E230",
            f"the window ends before token {ke[row]}, there are {keys} keys",
            at("ke", row),
            schema.WINDOW,
        )
    row = first((ke <= ks) & ~may_see_none)
    if row is not None:
        refuse(
            "MP-E231",
            "the window [{}, {}) {}".format(ks[row], ke[row], "runs backwards" if ke[row] < ks[row] else "is empty"),
            at("ke", row),
            "a row sees at least its own token",
        )
    wanted = ks + (position + 1) // ratio
    row = first((position < 0) | (ke != wanted))
    if row is not None:
        formula = "ks + q_pos + 1" if ratio == 1 else f"ks + floor((q_pos + 1) / {ratio})"
        refuse(
            "MP-E232",
            f"ke is {ke[row]}, {formula} is {wanted[row]}",
            at("ke", row),
            "q_pos counts from its sequence's start" if ratio == 1 else "q_pos in tokens, ks and ke in entries",
        )


def check_paged_windows(trace: Trace) -> None:
    lengths, capacity = need(trace.seq_lens).data, trace.tokens
    sequence = first((lengths < 0) | (trace.sequence_keys() > capacity))
    if sequence is not None:
        refuse(
            "MP-E235",
            f"sequence {sequence} has {lengths[sequence]} tokens, its pages hold 0 to {capacity}"
            + ("" if trace.compress_ratio == 1 else f" entries of {trace.compress_ratio} tokens"),
            at("seq_lens"),
            "a block_table with all pages of the sequence",
        )
    for name, derived in zip(("ks", "ke", "q_pos"), derived_windows(trace)):
        given = getattr(trace, name)
        row = None if given is None else first(given.data != derived)
        if row is not None:
            refuse(
                "MP-E233",
                f"{name} is {given.data[row]}, seq_lens give {derived[row]}",
                at(name, row),
                "leave it out: paged windows follow from seq_lens",
            )
    pages = need(trace.k_pages).shape[0]
    for sequence, used in enumerate(used_pages(trace)):
        block = first((used < 0) | (used >= pages))
        if block is not None:
            refuse(
                "MP-E234",
                f"page {block} of sequence {sequence} is number {used[block]}, there are 0 to {pages - 1}",
                at("block_table"),
                "the whole cache as k_pages, or page numbers that count in the part recorded",
            )
