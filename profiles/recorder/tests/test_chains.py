"""Any chain of tools keeps scores, recorded tokens and attention mass of the rows that are left."""

import misa_trace as m
import numpy as np
import pytest
from drawn import contiguous, paged


def drawn_trace(draw, seed, ratio):
    if draw.random() < 0.5:
        lengths = [int(n) for n in draw.integers(6, 60, draw.integers(1, 4))]
        dtype = str(draw.choice(["F8_E4M3", "BF16", "F32"]))
        rows = int(draw.integers(1, 6))
        arrays, metadata = contiguous(seed, lengths=lengths, rows_of_each=rows, k_dtype=dtype, ratio=ratio)
    else:
        lengths = [int(n) for n in ratio * draw.integers(-8, 40, draw.integers(1, 5)).clip(0)]
        size, next_n = int(draw.choice([1, 4, 16])), int(draw.integers(1, 4))
        dtype = str(draw.choice(["U8", "BF16"]))
        arrays, metadata = paged(seed, lengths=lengths, page_size=size, next_n=next_n, dtype=dtype, ratio=ratio)
    trace = m.make_trace(metadata, **arrays)
    rows = np.flatnonzero(draw.random(trace.rows) < 0.6)
    more = {"topk": trace.select()[rows], "topk_row": rows} if len(rows) else {}
    return m.make_trace(metadata, attention_mass=draw.uniform(0, 1, (trace.rows, trace.tokens)), **more, **arrays)


def facts_of(trace, row):
    """Scores, recorded tokens and attention mass of a row; None for what it has not."""
    ks, ke = trace.windows()
    facts = [trace.scores(row)]
    for name in ("topk", "attention_mass"):
        tensor, numbers = getattr(trace, name), getattr(trace, name + "_row")
        listed = [] if tensor is None else list(range(trace.rows)) if numbers is None else numbers.data.tolist()
        values = tensor.data[listed.index(row)] if row in listed else None
        facts.append(values if values is None or name == "topk" else values[ks[row] : ke[row]])
    return facts


def step(draw, trace):
    """A tool applied to a trace, and which row of it each row was."""
    ks, ke = trace.windows()
    tool = draw.integers(5)
    if tool == 0:
        rows = draw.permutation(trace.rows)[: draw.integers(1, trace.rows + 1)]
        return m.slice_trace(trace, rows=rows), rows
    if tool == 1:
        end = int(draw.integers(1, 50 * trace.compress_ratio))
        rows = np.flatnonzero((trace.positions() >= 0) & (trace.positions() < end))
        return (m.slice_trace(trace, tokens=(0, end)), rows) if len(rows) else (trace, np.arange(trace.rows))
    if tool == 2 and trace.paged and (ke > ks).any():
        return m.contiguous(trace), np.flatnonzero(trace.positions() >= 0)
    if tool == 3:
        return m.anonymise(trace, int(draw.integers(1000))), np.arange(trace.rows)
    return m.paged(trace, int(draw.integers(1, 20))), np.arange(trace.rows)


@pytest.mark.parametrize("seed, ratio", [(seed, 1) for seed in range(60)] + [(seed, 2 + seed % 3) for seed in range(30)])
def test_a_chain_of_tools_keeps_what_rows_see_and_chose(seed, ratio):
    draw = np.random.default_rng(seed)
    trace = drawn_trace(draw, seed, ratio)
    for _ in range(4):
        after, rows = step(draw, trace)
        assert after.rows == len(rows) and after.compress_ratio == ratio
        for now, before in enumerate(rows):
            scores, chosen, mass = facts_of(trace, int(before))
            new_scores, new_chosen, new_mass = facts_of(after, now)
            assert np.allclose(new_scores, scores, rtol=1e-12, atol=1e-12)
            assert np.array_equal(new_chosen, chosen)
            assert np.array_equal(new_mass, mass)
        trace = after
