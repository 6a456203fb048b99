"""Scores of FP8 or bf16 queries and keys by a Triton kernel, contiguous or paged, as a plug-in of misa-prof.

    misa-prof compare --backend plugin:score_triton.py
    misa-prof profile --backend plugin:score_triton.py --model deepseek-v3.2 --workload prefill-32k --rows 128

    logits[m, c] = scale(t) * sum over h of weights[m, h] * relu(q[m, h] . key(t)),   t = the token of column c

A program takes one row and 128 columns: one product [heads, dim] x [dim, 128] on the tensor cores, then the sum over
heads. It reads each key once per row, so many rows are bound by the L2 cache. It is here to be read.
"""

import os

import torch
import triton
import triton.language as tl

name, arithmetic = "score-triton", "fp8-mma"
device = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"


@triton.jit
def score_kernel(
    q,  # [rows, heads, DIM]
    weights,  # [rows, heads]
    keys,
    scales,
    table,
    sequence,
    begin,
    end,
    runs,
    origin,
    logits,
    heads,
    columns,
    page_size,
    runs_per_row,
    length,
    key_page_stride,
    key_token_stride,
    scale_page_stride,
    scale_token_stride,
    table_stride,
    runs_stride,
    logits_stride,
    HEADS: tl.constexpr,  # a power of two that the tensor cores take: 16 or more
    DIM: tl.constexpr,
    COLUMNS: tl.constexpr,
    SCALED: tl.constexpr,
    PAGED: tl.constexpr,
    LISTED: tl.constexpr,  # candidates, not the window
):
    m = tl.program_id(1).to(tl.int64)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    first, last = tl.load(begin + m), tl.load(end + m)
    token = first + column
    if LISTED:
        run = tl.load(runs + m * runs_stride + column // length, mask=column < runs_per_row * length, other=-1)
        token = tl.where(run < 0, -1, tl.load(origin + m) + run * length + column % length)
    seen = (token >= first) & (token < last)
    slot = tl.where(seen, token, 0).to(tl.int64)
    key_at = slot * key_token_stride
    scale_at = slot * scale_token_stride
    if PAGED:
        entry = table + tl.load(sequence + m).to(tl.int64) * table_stride + slot // page_size
        page = tl.load(entry, mask=seen, other=0).to(tl.int64)
        key_at = page * key_page_stride + slot % page_size * key_token_stride
        scale_at = page * scale_page_stride + slot % page_size * scale_token_stride

    d, h = tl.arange(0, DIM), tl.arange(0, HEADS)
    is_head = h < heads
    query = tl.load(q + (m * heads + h[:, None]) * DIM + d[None, :], mask=is_head[:, None], other=0.0)
    key = tl.load(keys + key_at[None, :] + d[:, None], mask=seen[None, :], other=0.0)
    dots = tl.dot(query, key)  # [HEADS, COLUMNS]
    dots = tl.where(dots < 0, 0.0, dots)  # NaN stays NaN
    weight = tl.load(weights + m * heads + h, mask=is_head, other=0.0)
    score = tl.sum(dots * weight[:, None], axis=0)
    if SCALED:
        score *= tl.load(scales + scale_at, mask=seen, other=0.0)
    score = tl.where(seen, score, float("-inf"))
    tl.store(logits + m * logits_stride + column, score, mask=column < columns)


def accepts(step, task):
    return task.queries.dtype == task.keys.dtype != "f32" and task.queries.dim in (32, 64, 128)


def score(task):
    queries, keys, windows, within = task.queries, task.keys, task.windows, task.candidates
    scales, table = keys.scales, keys.block_table
    scale_strides = (0, 0) if scales is None else scales.stride()
    grid = (triton.cdiv(task.columns, 128), queries.rows)
    score_kernel[grid](
        queries.values,
        queries.weights,
        keys.values,
        scales,
        table,
        windows.sequence,
        windows.begin,
        windows.end,
        within and within.runs,
        within and within.origin,
        task.logits,
        queries.heads,
        task.columns,
        keys.page_size,
        within.runs_per_row if within else 0,
        within.length if within else 1,
        keys.values.stride(0),
        keys.values.stride(1),
        *scale_strides,
        0 if table is None else table.stride(0),
        within.runs.stride(0) if within else 0,
        task.logits.stride(0),
        HEADS=max(16, triton.next_power_of_2(queries.heads)),
        DIM=queries.dim,
        COLUMNS=128,
        SCALED=scales is not None,
        PAGED=table is not None,
        LISTED=within is not None,
    )
