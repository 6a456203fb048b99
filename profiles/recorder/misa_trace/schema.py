"""What a trace holds: the tables of docs/traces.md, and how other dtypes and shapes become those of the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from .errors import TraceError
from .tensors import Tensor

FORMAT = "misa-trace/1"
MAX_INDEX = 2**31 - 1
MAX_HEADS = 128
HEAD_DIMS = (32, 64, 128, 256)
SCALE_BYTES = 4
PROVENANCES = ("real-checkpoint", "small-trained", "random-init", "synthetic")
ARITHMETICS = (
    "f64",
    "f32-dot",
    "bf16-dot",
    "f32",
    "bf16",
    "bf16-result",
    "fp8-mma",
    "bf16-mma",
    "f32+bf16-result",
    "fp8-mma+bf16-result",
    "bf16-mma+bf16-result",
)
CONVERT = "convert the tensor before it is saved; docs/traces.md lists the dtypes"
RESHAPE = "reshape the tensor before it is saved; docs/traces.md lists the shapes"
WINDOW = "ks and ke as the kernel was given them: tokens of the key buffer, from 0"
AGAIN = "leave the row out, or record it again before the kernel's memory is used anew"

# A letter of a shape: its symbol in docs/traces.md, and what it counts.
AXES = {
    "Q": ("Q", "query rows"),
    "R": ("R", "rows"),
    "H": ("H", "heads"),
    "D": ("D", "numbers of a head"),
    "N": ("N", "keys"),
    "P": ("pages", "pages"),
    "T": ("page_size", "tokens per page"),
    "S": ("S", "bytes of a key and its scales"),
    "W": ("W", "words of four block scales"),
    "B": ("B", "sequences"),
    "C": ("pages per sequence", "pages per sequence"),
    "c": ("R", "candidates of a row"),
    "A": ("tokens", "tokens"),
    "k": ("k", "columns"),
    "n": ("n", "needles"),
}


@dataclass(frozen=True)
class Rule:
    axes: str
    dtypes: tuple[str, ...]


# MXFP4 is F4, or U8 and I8 of two numbers each where there are block scales.
_VALUES, _F32, _I32 = ("F8_E4M3", "BF16", "F32", "I8", "F4", "U8"), ("F32",), ("I32",)
_BLOCK_SCALES = ("I32", "F8_E8M0", "U8")
PAGES_DTYPE, INT8_PAGES = "k_pages_dtype", "I8"
BLOCK = 32  # numbers of MXFP4 that share a scale
# The order is that in which shapes are checked: the first tensor with an axis says how long it is.
RULES: dict[str, Rule] = {
    "q": Rule("QHD", _VALUES),
    "weights": Rule("QH", _F32),
    "q_scale": Rule("QH", _F32),
    "q_norm": Rule("QH", _F32),
    "k": Rule("ND", _VALUES),
    "k_scale": Rule("N", ("F32", "F8_E8M0")),
    "k_pages": Rule("PTS", ("U8", "BF16", "F32", "I8")),
    "q_block_scale": Rule("QHW", _BLOCK_SCALES),
    "k_block_scale": Rule("NW", _BLOCK_SCALES),
    "block_table": Rule("BC", _I32),
    "seq_lens": Rule("B", _I32),
    "q_pos": Rule("Q", _I32),
    "ks": Rule("Q", _I32),
    "ke": Rule("Q", _I32),
    "candidates": Rule("Qc", _I32),
    "attention_mass": Rule("RA", ("F16",)),
    "attention_mass_row": Rule("R", _I32),
    "topk": Rule("Rk", _I32),
    "topk_row": Rule("R", _I32),
    "needle": Rule("nk", _I32),
}


def block_scale_bytes(dim: int) -> int:
    """Bytes of the block scales of an MXFP4 vector: they fill words of four."""
    return -(-dim // (4 * BLOCK)) * 4


def refuse(id: str, what: str, where: str, how: str) -> NoReturn:
    raise TraceError(id, what, where, how)


def need(tensor: Tensor | None) -> Tensor:
    """A tensor that a checked trace or selection has."""
    if tensor is None:
        raise TraceError("MP-E205", "a tensor that this needs is missing", "the trace", "a trace of make_trace")
    return tensor


def at(name: str, row: int | None = None) -> str:
    return f"tensor '{name}'" if row is None else f"tensor '{name}', row {row}"


def shape_text(shape: Any) -> str:
    return "[{}]".format(", ".join(str(extent) for extent in shape))


def as_dtype(tensor: Tensor, dtypes: tuple[str, ...], name: str) -> Tensor:
    """The tensor in one of `dtypes`, exactly; a dtype that would lose something is refused.

    Integers of other widths become I32, floats of other widths F32, and pages in I8 or FP8 are bytes. Probabilities
    (attention_mass) alone are rounded, to F16.
    """
    if tensor.dtype in dtypes:
        return tensor
    if "FNUZ" in tensor.dtype:
        refuse(
            "MP-E207",
            "FNUZ codes mean half of what e4m3fn codes mean, and 0x80 is a NaN",
            at(name),
            "convert the values to e4m3fn (F8_E4M3) when recording",
        )
    integer = tensor.data.dtype.kind in "iu" and tensor.dtype[0] in "IU"
    if "I32" in dtypes and integer:
        lowest, highest = (int(tensor.data.min()), int(tensor.data.max())) if tensor.data.size else (0, 0)
        if lowest < -MAX_INDEX - 1 or highest > MAX_INDEX:
            refuse(
                "MP-E206",
                f"{tensor.dtype} holds {lowest if lowest < -MAX_INDEX - 1 else highest}, which I32 cannot",
                at(name),
                "ids and positions below 2^31",
            )
        return Tensor("I32", tensor.data.astype(np.int32))
    if "U8" in dtypes and tensor.dtype in ("I8", "F8_E4M3"):
        return Tensor("U8", tensor.data.view(np.uint8))
    floating = tensor.dtype in ("F16", "F32", "F64", "BF16")
    if "F16" in dtypes and floating:
        with np.errstate(over="ignore"):
            return Tensor("F16", tensor.values().astype(np.float16))
    if "F32" in dtypes and floating:
        values = tensor.values()
        with np.errstate(over="ignore"):
            single = values.astype(np.float32)
        if not np.array_equal(single.astype(values.dtype), values, equal_nan=True):
            refuse(
                "MP-E206",
                f"{tensor.dtype} holds numbers that F32 does not",
                at(name),
                "the dtype that the kernel was given, or .astype(numpy.float32)",
            )
        return Tensor("F32", single)
    how = CONVERT
    if "F8_E4M3" in dtypes and tensor.dtype in ("U8", "I8"):
        how = "misa_trace.e4m3(array), which says that the bytes are FP8 codes"
    if "BF16" in dtypes and tensor.dtype in ("U16", "I16"):
        how = "misa_trace.bf16(array), which says that they are the bits of bf16"
    refuse("MP-E206", "the dtype is {}, must be {}".format(tensor.dtype, " or ".join(dtypes)), at(name), how)


class Extents:
    """How long each axis is. The first tensor with an axis says so, later ones must agree; R and k belong to one tensor
    only."""

    def __init__(self) -> None:
        self.of: dict[str, int] = {}

    def expected(self, axes: str) -> list[int | None]:
        return [self.of.get(axis) if axis not in "Rk" else None for axis in axes]

    def fit(self, tensor: Tensor, axes: str) -> Tensor:
        """Drops dimensions of one entry that a shape does not have: a batch of one, [Q, H, 1], [pages, page, 1, D + 4].

        Another shape is left as it is, for check to refuse.
        """
        expected, shape = self.expected(axes), list(tensor.shape)
        if axes == "PTS" and len(shape) == 4 and shape[2] == 1:
            del shape[2]  # the one key head, also where there is one page
        while len(shape) > len(axes):
            fits = [
                i for i, extent in enumerate(shape) if extent == 1 and _may_be(shape[:i] + shape[i + 1 :], expected)
            ]
            if not fits:
                break
            del shape[fits[0]]
        return tensor.reshape(*shape) if tuple(shape) != tensor.shape else tensor

    def check(self, tensor: Tensor, name: str, axes: str) -> None:
        if len(tensor.shape) != len(axes):
            self._disagrees(tensor, name, axes)
        for axis, extent in zip(axes, tensor.shape):
            known = self.of.get(axis)
            if known is None or extent < 1:
                self._check_extent(axis, extent, name)
            if known is not None and known != extent:
                self._disagrees(tensor, name, axes)
            if axis not in "Rk":
                self.of.setdefault(axis, extent)

    def _check_extent(self, axis: str, extent: int, name: str) -> None:
        if axis == "H" and not 1 <= extent <= MAX_HEADS:
            refuse(
                "MP-E210",
                f"{extent} heads, must be 1 to {MAX_HEADS}",
                at(name),
                "q as [rows, heads, head dimension]",
            )
        if axis == "D" and extent not in HEAD_DIMS:
            refuse(
                "MP-E211",
                "head dimension {}, must be {}".format(extent, ", ".join(map(str, HEAD_DIMS))),
                at(name),
                "zeros after the numbers of q and k up to the next of these: they change no score",
            )
        expect_count(extent, AXES[axis][1], name)

    def _disagrees(self, tensor: Tensor, name: str, axes: str) -> None:
        letters = [AXES[axis][0] for axis in axes]
        numbers = [str(self.of.get(axis, letter)) for axis, letter in zip(axes, letters)]
        told = "" if numbers == letters else " = " + shape_text(numbers)
        refuse(
            "MP-E208",
            f"the shape is {shape_text(tensor.shape)}, must be {shape_text(letters)}{told}",
            at(name),
            RESHAPE,
        )


def _may_be(shape: list[int], expected: list[int | None]) -> bool:
    """Whether `shape` may still become `expected` by dropping further ones."""
    if len(shape) == len(expected):
        return all(want is None or want == extent for extent, want in zip(shape, expected))
    return any(extent == 1 and _may_be(shape[:i] + shape[i + 1 :], expected) for i, extent in enumerate(shape))


def expect_count(count: int, what: str, name: str) -> None:
    if not 1 <= count <= MAX_INDEX:
        refuse(
            "MP-E212",
            f"{count} {what}, must be 1 to {MAX_INDEX}",
            at(name),
            "a trace that has some" if count < 1 else "a shorter recording",
        )


def metadata_number(metadata: Mapping[str, str], key: str) -> int | None:
    """The positive decimal number of a key; None where the key is not there."""
    text = metadata.get(key)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= MAX_INDEX:
        refuse(
            "MP-E213",
            f"{key} must be a positive integer, not '{text}'",
            "metadata",
            "decimal digits, or no such key",
        )
    return int(text)


def metadata_of(given: Mapping[str, Any] | None) -> dict[str, str]:
    """Metadata as strings: numbers are written in decimal, True and False as true and false."""
    metadata: dict[str, str] = {}
    for key, value in (given or {}).items():
        if isinstance(value, bool):
            value = "true" if value else "false"
        if not isinstance(key, str) or not isinstance(value, (str, int, float)):
            refuse(
                "MP-E124",
                f"metadata holds strings, '{key}' is {type(value).__name__}",
                "metadata",
                "str() on the value",
            )
        metadata[key] = str(value)
        try:
            (key + metadata[key]).encode("utf-8")
        except UnicodeEncodeError:
            refuse(
                "MP-E116",
                f"{key!a} is not UTF-8 and cannot be written",
                "metadata",
                "text in UTF-8",
            )
    return metadata
