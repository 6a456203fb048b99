"""Drawn traces: arrays by name, and metadata, by seed."""

import misa_trace as m
import numpy as np


def contiguous(seed=1, heads=4, dim=32, lengths=(30, 50), rows_of_each=5, k_dtype="F8_E4M3", q_dtype="F8_E4M3", ratio=1):
    """Keys of one sequence after another, `lengths` of them; of a ratio above 1 they are entries of so many tokens."""
    draw = np.random.default_rng(seed)
    rows, keys = rows_of_each * len(lengths), sum(lengths)
    arrays = {
        "q": _as(draw.normal(size=(rows, heads, dim)) * 2, q_dtype),
        "weights": draw.normal(size=(rows, heads)).astype(np.float32),
        "k": _as(draw.normal(size=(keys, dim)) * 2, k_dtype),
    }
    for name in "qk":
        if isinstance(arrays[name], tuple):
            arrays[name], arrays[name + "_block_scale"] = arrays[name]
    if k_dtype in ("F8_E4M3", "I8"):
        arrays["k_scale"] = draw.uniform(0.01, 0.02, keys).astype(np.float32)
    starts = np.cumsum((0, *lengths[:-1]))
    arrays["ks"] = np.repeat(starts, rows_of_each).astype(np.int32)
    arrays["q_pos"] = np.concatenate([np.sort(draw.choice(n * ratio, rows_of_each, replace=False)) for n in lengths])
    arrays["q_pos"] = arrays["q_pos"].astype(np.int32)
    arrays["ke"] = arrays["ks"] + (arrays["q_pos"] + 1) // ratio
    return arrays, {"provenance": "synthetic", "index_topk": "8", **_entries(ratio)}


def paged(seed=1, heads=4, dim=32, page_size=4, lengths=(13, 9), next_n=2, dtype="U8", ratio=1):
    """Paged keys of sequences of `lengths` tokens."""
    draw = np.random.default_rng(seed)
    most = max(-(-n // ratio // page_size) for n in lengths) + 1
    pages = most * len(lengths) + 3
    numbers = draw.normal(size=(pages, page_size, dim)) * 2
    if dtype == "F4":
        values, words = m.to_mxfp4(numbers)
        cache = m.join_mxfp4_pages(values, words.data)
    elif dtype in ("U8", "I8"):
        values = m.to_e4m3(numbers) if dtype == "U8" else _as(numbers, "I8")
        cache = m.join_pages(values, draw.uniform(0.01, 0.02, (pages, page_size)))
    else:
        cache = _as(numbers, dtype)
    rows = next_n * len(lengths)
    metadata = {"provenance": "synthetic", "index_topk": "6", **({"k_pages_dtype": "I8"} if dtype == "I8" else {})}
    q = _as(draw.normal(size=(rows, heads, dim)) * 2, dtype if dtype in ("F4", "I8") else "F8_E4M3")
    return {
        **({"q": q[0], "q_block_scale": q[1]} if dtype == "F4" else {"q": q}),
        "weights": draw.normal(size=(rows, heads)).astype(np.float32),
        "k_pages": cache,
        "block_table": draw.permutation(pages)[: most * len(lengths)].reshape(len(lengths), most).astype(np.int32),
        "seq_lens": np.array(lengths, np.int32),
    }, {**metadata, **_entries(ratio)}


def _entries(ratio):
    return {} if ratio == 1 else {"compress_ratio": str(ratio)}


def _as(numbers, dtype):
    if dtype == "F8_E4M3":
        return m.to_e4m3(numbers)
    if dtype == "F4":
        return m.to_mxfp4(numbers)
    if dtype == "I8":
        return m.to_int8(numbers)[0]
    return m.to_bf16(numbers) if dtype == "BF16" else m.Tensor("F32", numbers.astype(np.float32))


def raw_write(path, arrays, metadata):
    """Writes arrays as they are, without a check: what another recorder may have written."""
    tensors = {name: m.tensor_of(value, name) for name, value in arrays.items()}
    m.write_file(path, {"format": "misa-trace/1", **metadata}, tensors)
    return path
