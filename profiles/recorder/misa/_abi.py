"""backends/plugin/misa_kernel.h in ctypes: its numbers, structs and functions, by the same names."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p

MISA_KERNEL_VERSION = 1
MISA_OK, MISA_UNSUPPORTED, MISA_INVALID, MISA_FAILED = range(4)
MISA_CPU, MISA_CUDA = 1, 2
MISA_F32, MISA_BF16, MISA_E4M3 = range(3)
MISA_SCORE, MISA_SELECT, MISA_SCORE_SELECT, MISA_ROUTE, MISA_INDEX = range(5)
MISA_ANY_ORDER = 1
MISA_FORCES = 1


class misa_queries(ctypes.Structure):
    _fields_ = [
        ("rows", c_int64),
        ("heads", c_int64),
        ("dim", c_int64),
        ("dtype", c_int32),
        ("reserved", c_int32),
        ("values", c_void_p),
        ("weights", c_void_p),
    ]


class misa_keys(ctypes.Structure):
    _fields_ = [
        ("pages", c_int64),
        ("page_size", c_int64),
        ("dim", c_int64),
        ("dtype", c_int32),
        ("reserved", c_int32),
        ("values", c_void_p),
        ("values_page_stride", c_int64),
        ("values_token_stride", c_int64),
        ("scales", c_void_p),
        ("scales_page_stride", c_int64),
        ("scales_token_stride", c_int64),
        ("block_table", c_void_p),
        ("sequences", c_int64),
        ("max_pages", c_int64),
        ("block_table_stride", c_int64),
    ]


class misa_windows(ctypes.Structure):
    _fields_ = [("sequence", c_void_p), ("begin", c_void_p), ("end", c_void_p)]


class misa_candidates(ctypes.Structure):
    _fields_ = [
        ("runs", c_void_p),
        ("runs_per_row", c_int64),
        ("runs_stride", c_int64),
        ("origin", c_void_p),
        ("length", c_int64),
    ]


class misa_score_task(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("queries", misa_queries),
        ("keys", misa_keys),
        ("windows", misa_windows),
        ("candidates", misa_candidates),
        ("columns", c_int64),
        ("logits", c_void_p),
        ("logits_stride", c_int64),
    ]


class misa_select_task(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("rows", c_int64),
        ("columns", c_int64),
        ("logits", c_void_p),
        ("logits_stride", c_int64),
        ("windows", misa_windows),
        ("candidates", misa_candidates),
        ("k", c_int64),
        ("force_ends", c_int32),
        ("reserved", c_int32),
        ("tokens", c_void_p),
        ("tokens_stride", c_int64),
        ("force_first", c_int64),
        ("force_last", c_int64),
    ]


class misa_route_task(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("router", c_char_p),
        ("queries", misa_queries),
        ("keys", misa_keys),
        ("windows", misa_windows),
        ("tails", c_void_p),
        ("norms", c_void_p),
        ("first_row", c_int64),
        ("seed", c_uint64),
        ("active", c_int64),
        ("heads", c_void_p),
    ]


class misa_index_plan(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("indexer", c_char_p),
        ("rows", c_int64),
        ("heads", c_int64),
        ("dim", c_int64),
        ("dtype", c_int32),
        ("reserved", c_int32),
        ("pages", c_int64),
        ("page_size", c_int64),
        ("sequences", c_int64),
        ("max_pages", c_int64),
        ("host_sequence", c_void_p),
        ("host_begin", c_void_p),
        ("host_end", c_void_p),
        ("host_lengths", c_void_p),
        ("top_k", c_int64),
        ("active_heads", c_int64),
        ("block_size", c_int64),
        ("candidates", c_int64),
        ("blocks", c_int64),
        ("samples", c_int64),
        ("router", c_char_p),
        ("block_window", c_char_p),
        ("seed", c_uint64),
        ("force_first", c_int64),
        ("force_last", c_int64),
    ]


class misa_index_task(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("queries", misa_queries),
        ("keys", misa_keys),
        ("windows", misa_windows),
        ("norms", c_void_p),
        ("tokens", c_void_p),
        ("tokens_stride", c_int64),
    ]


# The functions of a table, as types: what they return, then what they take.
ACCEPTS = ctypes.CFUNCTYPE(c_int32, c_void_p, c_int32, c_void_p)
SCORE = ctypes.CFUNCTYPE(c_int32, c_void_p, POINTER(misa_score_task), c_void_p)
SELECT = ctypes.CFUNCTYPE(c_int32, c_void_p, POINTER(misa_select_task), c_void_p)
SCORE_SELECT = ctypes.CFUNCTYPE(c_int32, c_void_p, POINTER(misa_score_task), POINTER(misa_select_task), c_void_p)
ROUTE = ctypes.CFUNCTYPE(c_int32, c_void_p, POINTER(misa_route_task), c_void_p)
PLAN = ctypes.CFUNCTYPE(c_int32, c_void_p, POINTER(misa_index_plan), POINTER(c_void_p))
RUN = ctypes.CFUNCTYPE(c_int32, c_void_p, c_void_p, POINTER(misa_index_task), c_void_p)
RELEASE = ctypes.CFUNCTYPE(None, c_void_p, c_void_p)
ERROR = ctypes.CFUNCTYPE(c_void_p, c_void_p)  # a char* that Python must not turn into bytes


class misa_kernel_table(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("version", c_int32),
        ("device_type", c_int32),
        ("flags", c_uint32),
        ("reserved", c_uint32),
        ("name", c_char_p),
        ("description", c_char_p),
        ("arithmetic", c_char_p),
        ("self", c_void_p),
        ("accepts", ACCEPTS),
        ("score", SCORE),
        ("select", SELECT),
        ("score_select", SCORE_SELECT),
        ("route", ROUTE),
        ("plan", PLAN),
        ("run", RUN),
        ("release", RELEASE),
        ("error", ERROR),
        ("features", c_uint32),
        ("reserved_features", c_uint32),
    ]


# misa_kernels(version, device_type, device): a misa_kernel_table*, or null.
MISA_KERNELS_FUNCTION = ctypes.CFUNCTYPE(c_void_p, c_int32, c_int32, c_int32)
