"""Arrays with the dtypes of safetensors. NumPy has no FP8 and no bf16, so their bits carry a tag."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import TraceError

# The dtype in which NumPy holds each one. The first six hold bits, not numbers; a byte of F4 holds two.
STORAGE: dict[str, np.dtype] = {
    "F4": np.dtype("u1"),
    "F8_E4M3": np.dtype("u1"),
    "F8_E4M3FNUZ": np.dtype("u1"),
    "F8_E5M2": np.dtype("u1"),
    "F8_E8M0": np.dtype("u1"),
    "BF16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I8": np.dtype("i1"),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
    "U16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
    "BOOL": np.dtype("?"),
}
_TAGGED = ("F4", "F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E8M0", "BF16")
_OF_NUMPY = {dtype: name for name, dtype in STORAGE.items() if name not in _TAGGED}
# Spellings of torch and of ml_dtypes.
_OF_NAME = {
    "float4_e2m1fn_x2": "F4",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0",
    "bfloat16": "BF16",
}


def _table_e4m3() -> np.ndarray:
    bits = np.arange(256)
    exponent, mantissa = bits >> 3 & 15, bits & 7
    value = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    value[bits & 127 == 127] = np.nan
    return np.where(bits >= 128, -value, value).astype(np.float32)


def _table_e8m0() -> np.ndarray:
    value = 2.0 ** (np.arange(256) - 127.0)
    value[255] = np.nan
    return value.astype(np.float32)


_E4M3, _E8M0 = _table_e4m3(), _table_e8m0()
_E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


class Tensor:
    """An array and the dtype of its elements, as safetensors spells it.

    `data` holds the bits: uint8 for F8_E4M3 and F8_E8M0, uint16 for BF16, NumPy's own dtype for all others. F4 (e2m1)
    is uint8 [..., n / 2], the first number of a byte in its lower four bits; `shape` counts its numbers.
    np.asarray(tensor) and values() give numbers; raw bits are in `data`.
    """

    __slots__ = ("dtype", "data")

    def __init__(self, dtype: str, data: Any) -> None:
        array = np.asarray(data)
        if dtype not in STORAGE:
            raise TraceError("MP-E130", f"unknown dtype '{dtype}'", "a tensor", "one of " + ", ".join(STORAGE))
        storage = STORAGE[dtype]
        bits = dtype in _TAGGED and array.dtype.kind in "iu" and array.dtype.itemsize == storage.itemsize
        if array.dtype != storage and not bits:
            raise TraceError(
                "MP-E206",
                f"{dtype} is held in {storage}, not in {array.dtype}",
                "a tensor tagged " + dtype,
                "misa_trace.to_e4m3 or misa_trace.to_bf16 for numbers, the raw bits otherwise",
            )
        self.dtype = dtype
        self.data = np.ascontiguousarray(array).view(storage).reshape(array.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        shape = self.data.shape
        return (*shape[:-1], 2 * shape[-1]) if self.dtype == "F4" and shape else shape

    @property
    def nbytes(self) -> int:
        return int(self.data.nbytes)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> Tensor:
        return Tensor(self.dtype, self.data[index])

    def values(self) -> np.ndarray:
        """The numbers: float32 for FP4, FP8 and bf16, the array itself for all others. Exact."""
        if self.dtype == "F4":
            return _E2M1[np.stack([self.data & 15, self.data >> 4], axis=-1)].reshape(self.shape)
        if self.dtype == "F8_E4M3":
            return _E4M3[self.data]
        if self.dtype == "F8_E8M0":
            return _E8M0[self.data]
        if self.dtype == "BF16":
            return (self.data.astype(np.uint32) << 16).view(np.float32)
        if self.dtype in _TAGGED:
            raise TraceError("MP-E206", f"{self.dtype} is not read as numbers", "a tensor", "F8_E4M3 or BF16")
        return self.data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self.values()
        return values if dtype is None else values.astype(dtype)

    def reshape(self, *shape: int) -> Tensor:
        if self.dtype == "F4" and shape[-1] > 0:
            shape = (*shape[:-1], shape[-1] // 2)
        return Tensor(self.dtype, self.data.reshape(*shape))

    def torch(self) -> Any:
        """A torch tensor of the same bits, with torch's own FP8 and bf16."""
        import torch

        spelled = {name: spelling for spelling, name in _OF_NAME.items()}.get(self.dtype)
        if spelled is None:
            return torch.from_numpy(self.data.copy())
        bits = self.data.view("i2" if self.dtype == "BF16" else "u1").copy()
        return torch.from_numpy(bits).view(getattr(torch, spelled))

    def __repr__(self) -> str:
        return f"Tensor({self.dtype} {list(self.shape)})"


def e4m3(bits: Any) -> Tensor:
    """Tags bits (uint8 or int8) as FP8 e4m3fn: bias 7, largest 448, 0x7F and 0xFF are NaN."""
    return Tensor("F8_E4M3", bits)


def bf16(bits: Any) -> Tensor:
    """Tags bits (uint16 or int16) as bfloat16: the upper half of a float32."""
    return Tensor("BF16", bits)


def f4(bits: Any) -> Tensor:
    """Tags bytes (uint8 or int8) as FP4 e2m1, two numbers to a byte, the first in the lower four bits."""
    return Tensor("F4", bits)


def to_mxfp4(numbers: Any) -> tuple[Tensor, Tensor]:
    """Rounds numbers [..., D] to MXFP4: F4 numbers, and UE8M0 scales as words of four bytes, I32 [..., ceil(D / 128)].

    The scale of every 32 numbers is 2^ceil(log2(largest / 6)); numbers are rounded to nearest, ties to even. D is a
    multiple of 32.
    """
    values = np.ascontiguousarray(numbers, dtype=np.float32)
    blocks = values.reshape(*values.shape[:-1], -1, 32)
    largest = np.maximum(np.abs(blocks).max(axis=-1), np.float32(1e-4)) / np.float32(6)
    mantissa, exponent = np.frexp(largest)
    exponent = np.where(mantissa == 0.5, exponent - 1, exponent)
    scaled = np.abs(np.ldexp(blocks, -exponent[..., None]))
    code = np.zeros(scaled.shape, np.uint8)
    for number, halfway in enumerate((0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)):
        code += (scaled > halfway if number % 2 == 0 else scaled >= halfway).astype(np.uint8)
    code |= np.signbit(blocks).astype(np.uint8) << 3
    code = code.reshape(values.shape)
    scales = np.full((*values.shape[:-1], -(-values.shape[-1] // 128) * 4), 127, np.uint8)
    scales[..., : exponent.shape[-1]] = exponent + 127
    return f4(code[..., 0::2] | code[..., 1::2] << 4), Tensor("I32", scales.view("<i4"))


def to_int8(numbers: Any) -> tuple[Tensor, np.ndarray]:
    """Rounds vectors [..., D] to INT8 with a float32 scale each, largest / 127: numbers = values * scales[..., None]."""
    values = np.asarray(numbers, dtype=np.float32)
    scales = np.maximum(np.abs(values).max(axis=-1), np.float32(1e-4)) / np.float32(127)
    return Tensor("I8", np.clip(np.rint(values / scales[..., None]), -127, 127).astype(np.int8)), scales


def to_e4m3(numbers: Any) -> Tensor:
    """Rounds numbers to FP8 e4m3fn, to nearest with ties to even; beyond 448 they become 448, as stacks clamp them.

    NaN becomes 0x7F.
    """
    values = np.asarray(numbers, dtype=np.float64)
    magnitude = np.minimum(np.abs(values), 448.0)
    exponent = np.maximum(np.floor(np.log2(np.maximum(magnitude, 2.0**-20))), -6)
    units = np.rint(magnitude / 2.0 ** (exponent - 3))  # 8 to 16 where normal, below 8 where not
    code = np.where(units < 8, units, (exponent + 6) * 8 + units)
    code = np.where(np.isnan(values), 0x7F, code).astype(np.uint8)
    return e4m3(code | (np.signbit(values).astype(np.uint8) << 7))


def to_bf16(numbers: Any) -> Tensor:
    """Rounds numbers to bfloat16, to nearest with ties to even. NaN stays NaN."""
    values = np.ascontiguousarray(numbers, dtype=np.float32)
    bits = values.view(np.uint32).reshape(values.shape)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16
    return bf16(np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype(np.uint16))


def tensor_of(value: Any, name: str = "a tensor") -> Tensor:
    """A Tensor of an array of NumPy (or ml_dtypes), of a torch tensor on any device, of a Tensor or of lists."""
    if isinstance(value, Tensor):
        return value
    kind = type(value)
    if kind.__module__.split(".")[0] == "torch" or (hasattr(value, "detach") and hasattr(value, "cpu")):
        return _of_torch(value, name)
    array = np.asarray(value)
    tag = _OF_NAME.get(array.dtype.name)
    if tag is not None:
        return Tensor(tag, array.view(STORAGE[tag]))
    if array.size == 0 and not isinstance(value, np.ndarray):
        array = array.astype(np.int32)
    elif array.dtype == np.float64 and not hasattr(value, "dtype"):
        array = array.astype(np.float32)  # Python's numbers say nothing about their dtype
    known = _OF_NUMPY.get(array.dtype.newbyteorder("<"))
    if known is None:
        raise TraceError(
            "MP-E206",
            f"the dtype {array.dtype} is not one that a trace holds",
            f"tensor '{name}'",
            "float32 or int32, or bits tagged by misa_trace.e4m3 or misa_trace.bf16",
        )
    return Tensor(known, array.astype(STORAGE[known], copy=False))


def _of_torch(value: Any, name: str) -> Tensor:
    import torch

    tensor = value.detach().cpu().contiguous()
    spelled = str(tensor.dtype).split(".")[-1]
    tag = _OF_NAME.get(spelled)
    if tag is None:
        return tensor_of(tensor.numpy(), name)
    bits = torch.int16 if tag == "BF16" else torch.uint8
    return Tensor(tag, tensor.view(bits).numpy())
