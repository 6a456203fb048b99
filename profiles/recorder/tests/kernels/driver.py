"""Calls a table of kernels as misa-prof does, on the memory of a trace."""

import ctypes
import pathlib

import misa_trace as m
import numpy as np
from misa import _abi, host

DTYPES = {"F32": _abi.MISA_F32, "BF16": _abi.MISA_BF16, "F8_E4M3": _abi.MISA_E4M3}


class Driver:
    """The table of a Python file, and tasks made of a trace. Memory that tasks point to is kept."""

    def __init__(self, path, device_type=_abi.MISA_CPU):
        path = pathlib.Path(path)
        self.plugin = host.Plugin(path, host.load(path), device_type, 0)
        self.table = self.plugin.table
        self.kept = []

    def pointer(self, array):
        array = np.ascontiguousarray(array)
        self.kept.append(array)
        return array.ctypes.data

    def queries(self, trace):
        rows, heads, dim = trace.q.shape
        return _abi.misa_queries(rows, heads, dim, DTYPES[trace.q.dtype], 0, self.pointer(trace.q.data),
                                 self.pointer(trace.weights.data))

    def keys(self, trace):
        if not trace.paged:
            count, dim = trace.k.shape
            size = trace.k.data.itemsize
            scales = trace.key_scales()
            scales = self.pointer(scales.astype(np.float32)) if scales is not None else None
            return _abi.misa_keys(1, count, dim, DTYPES[trace.k.dtype], 0, self.pointer(trace.k.data), count * dim * size,
                                  dim * size, scales, count * 4, 4, None, 0, 0, 0)
        pages, size, width = trace.k_pages.shape
        sequences, most = trace.block_table.shape
        table = self.pointer(trace.block_table.data)
        memory = self.pointer(trace.k_pages.data)  # FP8 pages: all values of a page, then its scales
        if trace.k_pages.dtype != "U8":
            element = trace.k_pages.data.itemsize
            return _abi.misa_keys(pages, size, width, DTYPES[trace.k_pages.dtype], 0, memory, size * width * element,
                                  width * element, None, 0, 0, table, sequences, most, most * 4)
        dim = width - 4
        return _abi.misa_keys(pages, size, dim, _abi.MISA_E4M3, 0, memory, size * width, dim, memory + size * dim,
                              size * width, 4, table, sequences, most, most * 4)

    def windows(self, trace):
        ks, ke = trace.windows()
        sequence = np.arange(trace.rows) // trace.next_n if trace.paged else np.zeros(trace.rows)
        return _abi.misa_windows(*(self.pointer(ids.astype(np.int32)) for ids in (sequence, ks, ke)))

    def candidates(self, runs, origin, length):
        runs = np.ascontiguousarray(runs, dtype=np.int32)
        return _abi.misa_candidates(self.pointer(runs), runs.shape[1], runs.shape[1] * 4,
                                    self.pointer(np.asarray(origin, np.int32)), length)

    def score_task(self, trace, candidates=None, columns=None):
        """A task whose rows of logits are 3 numbers apart; all logits are 77 before."""
        ks, ke = trace.windows()
        columns = columns or (candidates.runs_per_row * candidates.length if candidates else int((ke - ks).max()))
        self.logits = np.full((trace.rows, columns + 3), 77, np.float32)
        return _abi.misa_score_task(ctypes.sizeof(_abi.misa_score_task), self.queries(trace), self.keys(trace),
                                    self.windows(trace), candidates or _abi.misa_candidates(), columns,
                                    self.logits.ctypes.data, (columns + 3) * 4)

    def score(self, task):
        """The status, and the logits that the task then points to."""
        status = self.table.score(None, ctypes.byref(task), None)
        row = (ctypes.c_float * task.columns)
        logits = [row.from_address(task.logits + m * task.logits_stride) for m in range(task.queries.rows)]
        return status, np.array(logits, np.float32).reshape(-1, task.columns)

    def select(self, trace, logits, k):
        logits = np.ascontiguousarray(logits, np.float32)
        self.kept.append(logits)
        tokens = np.full((len(logits), k + 2), 77, np.int32)
        task = _abi.misa_select_task(ctypes.sizeof(_abi.misa_select_task), *logits.shape, logits.ctypes.data,
                                     logits.strides[0], self.windows(trace), _abi.misa_candidates(), k, 0, 0,
                                     tokens.ctypes.data, tokens.strides[0])
        status = self.table.select(None, ctypes.byref(task), None)
        assert (tokens[:, k:] == 77).all()
        return status, tokens[:, :k]

    def index(self, trace, k, indexer=b"dsa"):
        ks, ke = (ends.astype(np.int32) for ends in trace.windows())
        plan = _abi.misa_index_plan(size=ctypes.sizeof(_abi.misa_index_plan), indexer=indexer, rows=trace.rows,
                                    heads=trace.heads, dim=trace.head_dim, dtype=DTYPES[trace.q.dtype], top_k=k,
                                    host_begin=self.pointer(ks), host_end=self.pointer(ke))
        if not self.table.accepts(None, _abi.MISA_INDEX, ctypes.addressof(plan)):
            return _abi.MISA_UNSUPPORTED, None
        planned = ctypes.c_void_p()
        assert self.table.plan(None, ctypes.byref(plan), ctypes.byref(planned)) == 0, self.error()
        tokens = np.full((trace.rows, k), 77, np.int32)
        task = _abi.misa_index_task(ctypes.sizeof(_abi.misa_index_task), self.queries(trace), self.keys(trace),
                                    self.windows(trace), None, tokens.ctypes.data, k * 4)
        status = self.table.run(None, planned, ctypes.byref(task), None)
        self.table.release(None, planned)
        assert not self.plugin.plans
        return status, tokens

    def error(self):
        return ctypes.string_at(self.table.error(None)).decode()


def wanted(trace, columns, candidates=None):
    """The logits by the formula in double; candidates as (runs, origin, length)."""
    logits = np.full((trace.rows, columns), -np.inf)
    ks, ke = trace.windows()
    for row in range(trace.rows):
        scores = trace.scores(row)
        if candidates is None:
            logits[row, :len(scores)] = scores
            continue
        runs, origin, length = candidates
        for column in range(columns):
            run = runs[row][column // length] if column < len(runs[row]) * length else -1
            token = origin[row] + run * length + column % length
            if run >= 0 and ks[row] <= token < ke[row]:
                logits[row, column] = scores[token - ks[row]]
    return logits


def assert_scores(driver, trace):
    """Of windows, and of candidates of one token and of blocks."""
    ks = trace.windows()[0]
    for length in (0, 1, 3):
        runs = [sorted(np.random.default_rng(row).choice(8, 4, replace=False)) + [-1] for row in range(trace.rows)]
        listed = (runs, ks, length) if length else None
        columns = 5 * length + 2 if listed else None  # two more than there are candidates
        task = driver.score_task(trace, driver.candidates(*listed) if listed else None, columns)
        status, logits = driver.score(task)
        assert status == _abi.MISA_OK, driver.error()
        exact = wanted(trace, task.columns, listed)
        np.testing.assert_allclose(logits, exact, rtol=1e-3, atol=1e-3)
        assert np.isfinite(exact).any() and np.isinf(exact).any()


def traces(drawn):
    """Every layout and dtype, by name."""
    made = {
        "contiguous-e4m3": drawn.contiguous(),
        "contiguous-bf16": drawn.contiguous(k_dtype="BF16", q_dtype="BF16"),
        "contiguous-f32": drawn.contiguous(k_dtype="F32", q_dtype="F32"),
        "paged-e4m3": drawn.paged(),
        "paged-bf16": drawn.paged(dtype="BF16"),
    }
    return {name: m.make_trace(metadata, **arrays) for name, (arrays, metadata) in made.items()}
