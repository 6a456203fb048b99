"""Memory that somebody else owns, as tensors that do not copy it: torch's, or NumPy's where torch is not used."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
from misa_trace.tensors import Tensor

from ._abi import MISA_BF16, MISA_CPU, MISA_CUDA, MISA_E4M3, MISA_F32
from .memory import I32, SIZES, DlTensor


class NumpyViews:
    """Arrays of the host. NumPy has no FP8 and no bf16: their bits are uint8 and uint16; numbers() decodes them."""

    module: Any = np
    device_type = MISA_CPU
    _HELD = {
        MISA_F32: np.dtype("<f4"),
        MISA_BF16: np.dtype("<u2"),
        MISA_E4M3: np.dtype("u1"),
        I32: np.dtype("<i4"),
    }

    def view(self, pointer: int, dtype: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
        """[shape] at `pointer`; strides in bytes."""
        span = sum((extent - 1) * stride for extent, stride in zip(shape, strides)) + SIZES[dtype]
        if 0 in shape:
            return np.empty(shape, self._HELD[dtype])
        memory = (ctypes.c_char * span).from_address(pointer)
        return np.ndarray(shape, self._HELD[dtype], buffer=memory, strides=strides)

    def numbers(self, values: np.ndarray, dtype: int) -> np.ndarray:
        """As float32, exactly."""
        if dtype == MISA_F32:
            return values
        return Tensor("BF16" if dtype == MISA_BF16 else "F8_E4M3", values).values()

    def arange(self, count: int) -> np.ndarray:
        return np.arange(count)

    def is_tensor(self, value: Any) -> bool:
        return isinstance(value, np.ndarray)

    def is_f32(self, value: np.ndarray) -> bool:
        return value.dtype == np.float32

    def is_here(self, value: np.ndarray) -> bool:
        return True

    def pointer(self, value: np.ndarray) -> int:
        return value.ctypes.data

    def strides(self, value: np.ndarray) -> tuple[int, ...]:
        """In bytes."""
        return value.strides

    def copy(self, to: np.ndarray, value: np.ndarray) -> None:
        np.copyto(to, value, casting="unsafe")


class _Managed(ctypes.Structure):
    """DLPack's DLManagedTensor."""

    _fields_ = [("tensor", DlTensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


_alive: dict[int, Any] = {}  # what tensors of torch refer to, by its address


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def _forget(address: int) -> None:
    _alive.pop(address, None)


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p] * 3
_DLTENSOR = ctypes.create_string_buffer(b"dltensor")  # a capsule keeps the pointer to its name


class TorchViews:
    """Tensors of torch on the host or on a device, made by DLPack."""

    # DLPack's code, bits of an element. FP8 goes as bytes, which every version of torch takes.
    _CODES = {MISA_F32: (2, 32), MISA_BF16: (4, 16), MISA_E4M3: (1, 8), I32: (0, 32)}

    def __init__(self, device_type: int, device: int) -> None:
        import torch

        self.module: Any = torch
        self.device_type, self.index = device_type, device
        self.device = torch.device("cuda", device) if device_type == MISA_CUDA else torch.device("cpu")

    def view(self, pointer: int, dtype: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
        """[shape] at `pointer`; strides in bytes."""
        extents = ctypes.c_int64 * len(shape)
        shape_array = extents(*shape)
        strides_array = extents(*(stride // SIZES[dtype] for stride in strides))
        code, bits = self._CODES[dtype]
        tensor = DlTensor(
            data=pointer,
            device_type=self.device_type,
            device_id=self.index,
            ndim=len(shape),
            code=code,
            bits=bits,
            lanes=1,
            shape=shape_array,
            strides=strides_array,
        )
        managed = _Managed(tensor=tensor, deleter=ctypes.cast(_forget, ctypes.c_void_p))
        address = ctypes.addressof(managed)
        _alive[address] = (managed, shape_array, strides_array)
        made = self.module.from_dlpack(_new_capsule(address, ctypes.addressof(_DLTENSOR), None))
        return made.view(self.module.float8_e4m3fn) if dtype == MISA_E4M3 else made

    def numbers(self, values: Any, dtype: int) -> Any:
        """As float32, exactly."""
        return values.float()

    def arange(self, count: int) -> Any:
        return self.module.arange(count, device=self.device)

    def is_tensor(self, value: Any) -> bool:
        return isinstance(value, self.module.Tensor)

    def is_f32(self, value: Any) -> bool:
        return bool(value.dtype == self.module.float32)

    def is_here(self, value: Any) -> bool:
        return bool(value.device == self.device)

    def pointer(self, value: Any) -> int:
        return int(value.data_ptr())

    def strides(self, value: Any) -> tuple[int, ...]:
        """In bytes."""
        return tuple(stride * value.element_size() for stride in value.stride())

    def copy(self, to: Any, value: Any) -> None:
        to.copy_(value)


def views_of(device_type: int, device: int) -> NumpyViews | TorchViews:
    """Torch's where the process has imported torch or memory is on a GPU, else NumPy's. ImportError without torch."""
    if device_type == MISA_CPU and "torch" not in sys.modules:
        return NumpyViews()
    return TorchViews(device_type, device)
