"""Drawn traces: arrays by name, and metadata, by seed."""

import misa_trace as m
import numpy as np


def contiguous(seed=1, heads=4, dim=32, lengths=(30, 50), rows_of_each=5, k_dtype="F8_E4M3", q_dtype="F8_E4M3"):
    draw = np.random.default_rng(seed)
    rows, keys = rows_of_each * len(lengths), sum(lengths)
    arrays = {
        "q": _as(draw.normal(size=(rows, heads, dim)) * 2, q_dtype),
        "weights": draw.normal(size=(rows, heads)).astype(np.float32),
        "k": _as(draw.normal(size=(keys, dim)) * 2, k_dtype),
    }
    if k_dtype == "F8_E4M3":
        arrays["k_scale"] = draw.uniform(0.01, 0.02, keys).astype(np.float32)
    starts = np.cumsum((0, *lengths[:-1]))
    arrays["ks"] = np.repeat(starts, rows_of_each).astype(np.int32)
    arrays["q_pos"] = np.concatenate([np.sort(draw.choice(n, rows_of_each, replace=False)) for n in lengths])
    arrays["q_pos"] = arrays["q_pos"].astype(np.int32)
    arrays["ke"] = arrays["ks"] + arrays["q_pos"] + 1
    return arrays, {"provenance": "synthetic", "index_topk": "8"}


def paged(seed=1, heads=4, dim=32, page_size=4, lengths=(13, 9), next_n=2, dtype="U8"):
    draw = np.random.default_rng(seed)
    most = max(-(-n // page_size) for n in lengths) + 1
    pages = most * len(lengths) + 3
    numbers = draw.normal(size=(pages, page_size, dim)) * 2
    cache = (
        _as(numbers, dtype)
        if dtype != "U8"
        else m.join_pages(m.to_e4m3(numbers), draw.uniform(0.01, 0.02, (pages, page_size)))
    )
    rows = next_n * len(lengths)
    return {
        "q": m.to_e4m3(draw.normal(size=(rows, heads, dim)) * 2),
        "weights": draw.normal(size=(rows, heads)).astype(np.float32),
        "k_pages": cache,
        "block_table": draw.permutation(pages)[: most * len(lengths)].reshape(len(lengths), most).astype(np.int32),
        "seq_lens": np.array(lengths, np.int32),
    }, {"provenance": "synthetic", "index_topk": "6"}


def _as(numbers, dtype):
    if dtype == "F8_E4M3":
        return m.to_e4m3(numbers)
    return m.to_bf16(numbers) if dtype == "BF16" else m.Tensor("F32", numbers.astype(np.float32))


def raw_write(path, arrays, metadata):
    """Writes arrays as they are, without a check: what another recorder may have written."""
    tensors = {name: m.tensor_of(value, name) for name, value in arrays.items()}
    m.write_file(path, {"format": "misa-trace/1", **metadata}, tensors)
    return path
