"""Our indexers on tensors of others: planned once for the windows of a step, run on the current stream."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np

from . import _abi
from .library import Table, table_of
from .memory import CODES, I32, NAMES, SIZES, U8, Memory, is_torch, memory_of
from .windows import PagedKeys, Windows

_numbers: dict[Any, int] = {}
_SETTINGS = ("active_heads", "block_size", "candidates", "blocks", "samples", "router", "block_window", "seed",
             "force_first", "force_last")


class Keys:
    """Keys as a run takes them: a struct of the header, and what a plan must know of it."""

    __slots__ = ("struct", "device_type", "device", "shape", "fused")

    def __init__(self, given: Any, dim: int, bits: int | None) -> None:
        struct = self.struct = _abi.misa_keys()
        self.fused: int | None = None  # bytes of a page before its scales, where it has both
        values, scales, block_table = given, None, None
        if type(given) is tuple:
            if len(given) != 2:
                raise ValueError(f"keys are (values, scales), and this has {len(given)} parts")
            values, scales = given
        elif type(given) is PagedKeys:
            values, scales, block_table = given.cache, given.scales, given.block_table
        found = memory_of(values, "keys", bits)
        if block_table is None:
            self._contiguous(found, dim)
        else:
            self._paged(found, given, dim)
        self.device_type, self.device = found.device_type, found.device
        struct.dim = dim
        if scales is not None:
            self._scale(self._beside(memory_of(scales, "the scales of keys"), "the scales of keys", _abi.MISA_F32))
        if block_table is not None:
            table = self._beside(memory_of(block_table, "block_table"), "block_table", I32)
            if len(table.shape) != 2 or (table.strides[1] != 1 and table.shape[1] > 1):
                raise ValueError(f"block_table is {list(table.shape)}, and must be [sequences, max_pages] without gaps")
            struct.block_table = table.pointer
            struct.sequences, struct.max_pages = table.shape
            struct.block_table_stride = 4 * max(table.strides[0], table.shape[1])
        self.shape = (struct.dtype, struct.pages, struct.page_size, struct.sequences, struct.max_pages)

    def _contiguous(self, found: Memory, dim: int) -> None:
        pointer, dtype, shape, strides, _, _ = found
        if len(shape) != 2 or shape[1] != dim or strides[1] != 1:
            raise ValueError(f"keys are {list(shape)} with strides {list(strides)}, and must be [N, {dim}], rows dense")
        struct = self.struct
        struct.pages, struct.page_size, struct.dtype, struct.values = 1, shape[0], dtype, pointer
        struct.values_token_stride = max(strides[0], dim) * SIZES[dtype]

    def _paged(self, found: Memory, keys: PagedKeys, dim: int) -> None:
        pointer, dtype, shape, strides, _, _ = found
        bytes_ = dtype in (U8, _abi.MISA_E4M3)
        if len(shape) == 2 and bytes_ and keys.page_size is not None and shape[1] == keys.page_size * (dim + 4):
            shape, strides = (shape[0], keys.page_size, dim + 4), (strides[0], dim + 4, strides[1])
        fused = bytes_ and len(shape) == 3 and shape[2] == dim + 4
        if len(shape) != 3 or (shape[2] != dim and not fused) or (strides[2] != 1 and shape[2] > 1):
            raise ValueError(
                f"the cache is {NAMES[dtype]} {list(shape)}, and must be [pages, page_size, {dim}], or uint8 "
                f"[pages, page_size, {dim + 4}]"
            )
        struct = self.struct
        struct.pages, struct.page_size, struct.values = shape[0], shape[1], pointer
        if fused:
            if strides[1] != dim + 4 and shape[1] > 1:
                raise ValueError("pages of a uint8 cache must be dense")
            page = max(strides[0], shape[1] * (dim + 4))
            struct.dtype, struct.values_page_stride, struct.values_token_stride = _abi.MISA_E4M3, page, dim
            self.fused = shape[1] * dim
            struct.scales, struct.scales_page_stride, struct.scales_token_stride = pointer + self.fused, page, 4
            return
        struct.dtype = dtype
        struct.values_page_stride, struct.values_token_stride = strides[0] * SIZES[dtype], strides[1] * SIZES[dtype]

    def _scale(self, found: Memory) -> None:
        struct, shape, strides = self.struct, found.shape, found.strides
        wanted: tuple[int, ...] = (struct.pages, struct.page_size)
        if struct.pages == 1 and shape in ((struct.page_size,), (struct.page_size, 1)):
            shape, strides = wanted, (struct.page_size, strides[0])
        if tuple(shape) != wanted:
            raise ValueError(f"the scales of keys are {list(shape)}, wanted [{wanted[0]}, {wanted[1]}]")
        struct.scales = found.pointer
        struct.scales_page_stride, struct.scales_token_stride = 4 * strides[0], 4 * max(strides[1], 1)

    def _beside(self, found: Memory, name: str, dtype: int) -> Memory:
        if found.dtype != dtype:
            raise ValueError(f"{name}: {NAMES[found.dtype]}, wanted {NAMES[dtype]}")
        if (found.device_type, found.device) != (self.device_type, self.device):
            raise ValueError(f"{name} is on another device than the keys")
        return found


class _Plan:
    """An indexer planned for windows and keys of one shape: its memory, and a task that runs fill in."""

    __slots__ = ("table", "handle", "task", "queries", "keys", "reference", "looks", "fused", "where", "rows")

    def __init__(self, indexer: Indexer, table: Table, windows: Windows, keys: Keys) -> None:
        dtype, pages, page_size, sequences, max_pages = keys.shape
        rows, settings = len(windows), indexer.settings
        lengths = windows.lengths_of(sequences)
        if sequences and len(lengths) < sequences:
            raise ValueError(f"windows have {len(lengths)} lengths, and the block table has {sequences} sequences")
        plan = _abi.misa_index_plan(
            size=ctypes.sizeof(_abi.misa_index_plan), indexer=indexer.name.encode(), rows=rows, heads=indexer.heads,
            dim=indexer.dim, dtype=dtype, pages=pages, page_size=page_size, sequences=sequences, max_pages=max_pages,
            host_sequence=windows.sequence.ctypes.data, host_begin=windows.begin.ctypes.data,
            host_end=windows.end.ctypes.data, host_lengths=lengths.ctypes.data if sequences else None,
            top_k=indexer.top_k, **settings,
        )
        self.table, self.handle, self.rows = table, None, rows
        self.where = (keys.device_type, keys.device)
        handle = ctypes.c_void_p()
        status = table.plan(table.self, ctypes.byref(plan), ctypes.byref(handle))
        if status != _abi.MISA_OK:
            raise table.refused(status)
        self.handle = handle.value
        task = self.task = _abi.misa_index_task(
            size=ctypes.sizeof(_abi.misa_index_task), tokens_stride=4 * indexer.top_k
        )
        self.queries, self.keys, self.reference = task.queries, task.keys, ctypes.byref(task)
        self.looks: Any = None  # of the tensors of torch that the task was last filled in from, and checked
        self.fused: int | None = None  # where scales begin in a page that has both
        self.queries.rows, self.queries.heads, self.queries.dim = rows, indexer.heads, indexer.dim
        self.queries.dtype = dtype

    def __del__(self) -> None:
        if self.handle:
            self.table.release(self.table.self, self.handle)


class Indexer:
    """One of "dsa", "misa", "misa-dagger", "hisa", "misa-lr", "misa-lr-dagger".

    What is left out is as the command line of misa-prof has it: 8 active heads, block_size 1024 of misa and 128 of
    hisa, 8192 candidates of misa-dagger, 64 blocks, 64 samples, block_window "visible". `dtype` ("float32", "bfloat16", "float8_e4m3fn") and
    `device` ("cpu", "cuda", "cuda:1") are those of the tensors, and are checked where they are given; NumPy's uint8 and
    uint16 are taken for the bits of FP8 and bf16 where `dtype` says so.
    """

    def __init__(
        self, name: str, heads: int = 64, dim: int = 128, top_k: int = 2048, *, dtype: Any = None, device: Any = None,
        active_heads: int | None = None, block_size: int | None = None, candidates: int | None = None,
        blocks: int | None = None, samples: int | None = None, router: str | None = None,
        block_window: str | None = None, seed: int | None = None, force_first: int | None = None,
        force_last: int | None = None,
    ) -> None:
        self.name, self.heads, self.dim, self.top_k = name, heads, dim, top_k
        self.dtype = None if dtype is None else CODES.get(str(dtype).rsplit(".", 1)[-1])
        if dtype is not None and self.dtype not in (_abi.MISA_F32, _abi.MISA_BF16, _abi.MISA_E4M3):
            raise ValueError(f"dtype is {dtype}, and kernels read float32, bfloat16 and float8_e4m3fn")
        self.device = None if device is None else _device_of(device)
        given = locals()
        self.settings = {
            one: value.encode() if isinstance(value, str) else value
            for one in _SETTINGS
            if (value := given[one]) is not None
        }
        for one in ("heads", "dim", "top_k"):
            if given[one] < 1:
                raise ValueError(f"{one} is {given[one]}, and at least 1 is needed")
        key = (name, heads, dim, top_k, self.dtype, self.device, *sorted(self.settings.items()))
        self._number = _numbers.setdefault(key, len(_numbers))  # the same of indexers that share plans
        self._latest: Windows | None = None  # of the call before, where it gave lists or tensors

    def __call__(
        self, q: Any, weights: Any, keys: Any, windows: Any, *, out: Any = None, norms: Any = None,
        stream: int | None = None,
    ) -> Any:
        """The tokens that each row keeps: int32 [M, top_k], counted from begin[m], ascending, -1 pads last.

        q [M, H, D]. weights [M, H] float32 hold every factor of a head's score: the model's weight, H^-1/2, D^-1/2, the
        query's FP8 scale. keys: [N, D], (values, scales) or misa.PagedKeys. windows: misa.Windows; or (begin, end) or
        (sequence, begin, end), whose values are compared with those of the call before. `norms` [M, H] float32 of the
        unquantised queries are for router "qnorm". The result is `out` where it is given, else a tensor of torch where
        q is one, else an array. On CUDA work is put on torch's current stream, or on `stream`, and not waited for.
        """
        looks = _looks(q, weights, keys) if is_torch(q) else None
        plan = windows.recent.get(self._number) if type(windows) is Windows else None
        if plan is None or looks is None or looks != plan.looks:
            plan = self._filled(q, weights, keys, windows, looks)
        else:  # the same but for addresses
            plan.queries.values, plan.queries.weights = q.data_ptr(), weights.data_ptr()
            _move_keys(plan, keys)
        task, table = plan.task, plan.table
        device_type, device = plan.where
        rows = plan.rows
        if norms is not None or task.norms:
            task.norms = None if norms is None else self._rows_of(norms, "norms", plan)
        if out is None:
            out = _new_ids(q, device_type, rows, self.top_k)
            task.tokens = out.data_ptr() if is_torch(out) else out.ctypes.data
            task.tokens_stride = 4 * self.top_k
        else:
            task.tokens, task.tokens_stride = self._place_of(out, plan)
        status = table.run(table.self, plan.handle, plan.reference, _stream_of(stream, device_type, device))
        if status != 0:
            raise table.refused(status)
        return out

    def _filled(self, q: Any, weights: Any, keys: Any, windows: Any, looks: Any) -> _Plan:
        """The plan for these, its task filled in but for what is written."""
        found = memory_of(q, "q", self.dtype)
        pointer, dtype, shape, strides, device_type, device = found
        heads, dim = self.heads, self.dim
        if len(shape) != 3 or shape[1] != heads or shape[2] != dim:
            raise ValueError(f"q is {list(shape)}, and must be [M, {heads}, {dim}]")
        if not _is_dense(shape, strides):
            raise ValueError("q has gaps; try: q.contiguous()")
        taken = Keys(keys, dim, self.dtype)
        if taken.shape[0] != dtype:
            raise ValueError(f"q is {NAMES[dtype]}, and keys are {NAMES[taken.shape[0]]}")
        if (taken.device_type, taken.device) != (device_type, device):
            raise ValueError("q and keys are on different devices")
        if type(windows) is not Windows:
            windows = self._windows(windows)
        rows = len(windows.begin)
        if shape[0] != rows:
            raise ValueError(f"q has {shape[0]} rows, and windows have {rows}")
        plan = windows.plans.get((self._number, taken.shape, device_type, device)) or self._plan(windows, taken)
        plan.looks = None
        plan.queries.weights = self._rows_of(weights, "weights", plan)
        plan.queries.values = pointer
        plan.task.keys, plan.fused = taken.struct, taken.fused
        plan.looks = looks
        windows.recent[self._number] = plan
        return plan

    def plan(self, keys: Any, windows: Windows) -> Windows:
        """Plans ahead for keys of this shape, dtype and device: takes all memory that calls need, and waits for the
        device. A call does the same where nothing was planned; a stream that is captured needs a plan before."""
        if type(windows) is not Windows:
            raise ValueError("plan() is for misa.Windows, which keep the plan")
        taken = Keys(keys, self.dim, self.dtype)
        if (self._number, taken.shape, taken.device_type, taken.device) not in windows.plans:
            self._plan(windows, taken)
        return windows

    def _plan(self, windows: Windows, keys: Keys) -> _Plan:
        dtype, where = keys.shape[0], (keys.device_type, keys.device)
        if self.dtype is not None and dtype != self.dtype:
            raise ValueError(f"keys are {NAMES[dtype]}, and this indexer is for {NAMES[self.dtype]}")
        if dtype not in (_abi.MISA_F32, _abi.MISA_BF16, _abi.MISA_E4M3):
            raise ValueError(f"keys are {NAMES[dtype]}, and kernels read float32, bfloat16 and float8_e4m3fn")
        if self.device is not None and (self.device[0] != where[0] or self.device[1] not in (None, where[1])):
            raise ValueError("the tensors are on another device than this indexer is for")
        if keys.device_type == _abi.MISA_CUDA and "torch" in sys.modules:
            if sys.modules["torch"].cuda.is_current_stream_capturing():
                raise RuntimeError("the stream is captured, and planning waits for the device; try: plan() before")
        plan = windows.plans[(self._number, keys.shape, *where)] = _Plan(self, table_of(*where), windows, keys)
        return plan

    def _windows(self, given: Any) -> Windows:
        """Those of the call before where the values are the same, so that its plan is used again."""
        windows = Windows.of(given)
        if self._latest is not None and self._latest.same(windows):
            return self._latest
        self._latest = windows
        return windows

    def _rows_of(self, value: Any, name: str, plan: _Plan) -> int:
        pointer, dtype, shape, strides, *where = memory_of(value, name)
        if dtype != _abi.MISA_F32 or tuple(shape) != (plan.rows, self.heads):
            raise ValueError(f"{name}: {NAMES[dtype]} {list(shape)}, wanted float32 [{plan.rows}, {self.heads}]")
        if not _is_dense(shape, strides):
            raise ValueError(f"{name} have gaps; try: {name}.contiguous()")
        if tuple(where) != plan.where:
            raise ValueError(f"q and {name} are on different devices")
        return pointer

    def _place_of(self, out: Any, plan: _Plan) -> tuple[int, int]:
        pointer, dtype, shape, strides, *where = memory_of(out, "out")
        if dtype != I32 or tuple(shape) != (plan.rows, self.top_k):
            raise ValueError(f"out: {NAMES[dtype]} {list(shape)}, wanted int32 [{plan.rows}, {self.top_k}]")
        if strides[1] != 1 and self.top_k > 1:
            raise ValueError("the rows of out have gaps")
        if tuple(where) != plan.where:
            raise ValueError("q and out are on different devices")
        return pointer, 4 * max(strides[0], self.top_k)


def _looks(q: Any, weights: Any, keys: Any) -> Any:
    """All of the tensors of a call that a plan and a task depend on, but for addresses; None: not all are torch's."""
    try:
        if type(keys) is tuple:
            values, scales = keys
            rest = (1, scales.shape, scales.stride(), scales.dtype, scales.get_device())
        elif type(keys) is PagedKeys:
            values, scales, table = keys.cache, keys.scales, keys.block_table
            rest = (2, keys.page_size, table.shape, table.stride(), table.dtype, table.get_device())
            if scales is not None:
                rest += (scales.shape, scales.stride(), scales.dtype, scales.get_device())
        else:
            values, rest = keys, None
        return (
            (q.shape, q.stride(), q.dtype, q.get_device()),
            (weights.shape, weights.stride(), weights.dtype, weights.get_device()),
            (values.shape, values.stride(), values.dtype, values.get_device()),
            rest,
        )
    except (AttributeError, ValueError, TypeError):
        return None  # what is wrong, if anything, is said where they are looked at one by one


def _move_keys(plan: _Plan, keys: Any) -> None:
    struct = plan.keys
    if type(keys) is tuple:
        struct.values, struct.scales = keys[0].data_ptr(), keys[1].data_ptr()
    elif type(keys) is PagedKeys:
        struct.values = pointer = keys.cache.data_ptr()
        struct.block_table = keys.block_table.data_ptr()
        if plan.fused is not None:
            struct.scales = pointer + plan.fused
        elif keys.scales is not None:
            struct.scales = keys.scales.data_ptr()
    else:
        struct.values = keys.data_ptr()


def _is_dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether the elements are in order without gaps; strides of axes of one element do not count."""
    step = 1
    for extent, stride in zip(reversed(shape), reversed(strides)):
        if extent == 0:
            return True
        if extent != 1 and stride != step:
            return False
        step *= extent
    return True


def _device_of(device: Any) -> tuple[int, int | None]:
    kind, _, index = str(device).partition(":")
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device is {device}, and there are kernels for cpu and cuda")
    number = int(index) if index else (0 if kind == "cpu" else None)
    return (_abi.MISA_CUDA if kind == "cuda" else _abi.MISA_CPU, number)


def _new_ids(q: Any, device_type: int, rows: int, top_k: int) -> Any:
    if is_torch(q):
        torch = sys.modules["torch"]
        return torch.empty((rows, top_k), dtype=torch.int32, device=q.device)
    if device_type != _abi.MISA_CPU:
        raise ValueError("q is on a GPU and no tensor of torch, so the result has no place; try: out=")
    return np.empty((rows, top_k), np.int32)


def _stream_of(stream: int | None, device_type: int, device: int) -> int | None:
    if device_type == _abi.MISA_CPU or stream is not None or "torch" not in sys.modules:
        return stream
    torch = sys.modules["torch"]
    raw = getattr(torch._C, "_cuda_getCurrentRawStream", None)  # what torch's own compiler calls: 20 times as fast
    return raw(device) if raw else torch.cuda.current_stream(device).cuda_stream
