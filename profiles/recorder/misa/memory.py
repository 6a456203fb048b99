"""Where a tensor's elements are: of torch, of NumPy, and of everything that speaks DLPack."""

from __future__ import annotations

import ctypes
import sys
from typing import Any, NamedTuple

import numpy as np
from misa_trace.tensors import Tensor

from ._abi import MISA_BF16, MISA_CPU, MISA_CUDA, MISA_E4M3, MISA_F32

I32, U8, I64 = -1, -2, -3  # beside the numbers of the header
NAMES = {
    MISA_F32: "float32", MISA_BF16: "bfloat16", MISA_E4M3: "float8_e4m3fn", I32: "int32", U8: "uint8", I64: "int64",
}
SIZES = {MISA_F32: 4, MISA_BF16: 2, MISA_E4M3: 1, I32: 4, U8: 1, I64: 8}
CODES = {name: code for code, name in NAMES.items()}
_OF_TRACE = {"F32": MISA_F32, "BF16": MISA_BF16, "F8_E4M3": MISA_E4M3, "I32": I32, "U8": U8, "I64": I64}
_OF_DLPACK = {(2, 32): MISA_F32, (4, 16): MISA_BF16, (10, 8): MISA_E4M3, (0, 32): I32, (1, 8): U8, (0, 64): I64}


class Memory(NamedTuple):
    """Elements that somebody else owns. `strides` count elements."""

    pointer: int
    dtype: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    device_type: int
    device: int


class DlTensor(ctypes.Structure):
    """DLPack's DLTensor, with its device and its dtype written out."""

    _fields_ = [
        ("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]

_torch_dtypes: dict[Any, int] = {}


def is_torch(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _of_torch(value: Any, name: str) -> Memory:
    if not _torch_dtypes:
        torch = sys.modules["torch"]
        _torch_dtypes.update((getattr(torch, name), code) for name, code in CODES.items() if hasattr(torch, name))
    dtype = _torch_dtypes.get(value.dtype)
    if dtype is None:
        raise ValueError(f"{name} is {value.dtype}, which no kernel reads")
    if value.is_cuda:
        return Memory(value.data_ptr(), dtype, value.shape, value.stride(), MISA_CUDA, value.get_device())
    if value.device.type != "cpu":
        raise ValueError(f"{name} is on {value.device}, and there are kernels for the CPU and CUDA")
    return Memory(value.data_ptr(), dtype, value.shape, value.stride(), MISA_CPU, 0)


def _of_numpy(value: np.ndarray, name: str, bits: int | None) -> Memory:
    dtype = CODES.get(value.dtype.name)
    if bits is not None and value.dtype.kind == "u" and value.itemsize == SIZES[bits]:
        dtype = bits  # NumPy has no FP8 and no bf16: their bits come as integers
    if dtype is None or any(stride % value.itemsize for stride in value.strides):
        raise ValueError(f"{name} is {value.dtype}, which no kernel reads")
    strides = tuple(stride // value.itemsize for stride in value.strides)
    return Memory(value.ctypes.data, dtype, value.shape, strides, MISA_CPU, 0)


def _of_dlpack(value: Any, name: str) -> Memory:
    capsule = value.__dlpack__()  # it lives as long as this function; the memory is the caller's
    one = DlTensor.from_address(_pointer_of(capsule, b"dltensor"))
    dtype = _OF_DLPACK.get((one.code, one.bits)) if one.lanes == 1 else None
    if dtype is None:
        raise ValueError(f"{name} has elements that no kernel reads (DLPack's code {one.code}, {one.bits} bits)")
    if one.device_type not in (MISA_CPU, MISA_CUDA):
        raise ValueError(f"{name} is on a device of DLPack's type {one.device_type}, neither CPU nor CUDA")
    shape = tuple(one.shape[: one.ndim])
    if one.strides:
        strides = tuple(one.strides[: one.ndim])
    else:
        strides = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(one.ndim))
    device = one.device_id if one.device_type == MISA_CUDA else 0
    return Memory((one.data or 0) + one.byte_offset, dtype, shape, strides, one.device_type, device)


def memory_of(value: Any, name: str, bits: int | None = None) -> Memory:
    """`name` is for messages. `bits`: the dtype that integers of NumPy of its size are the bits of."""
    if is_torch(value):
        return _of_torch(value, name)
    if isinstance(value, np.ndarray):
        return _of_numpy(value, name, bits)
    if isinstance(value, Tensor):
        return _of_numpy(value.data, name, _OF_TRACE.get(value.dtype))
    if hasattr(value, "__dlpack__"):
        return _of_dlpack(value, name)
    raise ValueError(f"{name} is {type(value).__name__}, not a tensor of torch, NumPy or DLPack")


def host_array(value: Any, name: str) -> np.ndarray:
    """A copy of integers as int32 of the host; of a CUDA tensor it waits for the device."""
    if is_torch(value):
        value = value.detach().cpu().numpy()
    elif not isinstance(value, np.ndarray) and hasattr(value, "__dlpack__"):
        value = np.from_dlpack(value)
    array = np.array(value)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"{name} must be one list of integers, and is {array.dtype} {list(array.shape)}")
    if array.size and (array.min() < 0 or array.max() > 2**31 - 1):
        raise ValueError(f"{name} has {array.min()} to {array.max()}, beyond 0 to 2^31 - 1")
    return np.ascontiguousarray(array, dtype=np.int32)
