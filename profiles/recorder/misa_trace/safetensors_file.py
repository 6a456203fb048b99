"""Reads and writes safetensors files: a length, a JSON object and the bytes. NumPy is all it needs."""

from __future__ import annotations

import json
import os
import pathlib
import secrets
import struct
from collections.abc import Mapping
from typing import Any, NoReturn, Union

import numpy as np

from .errors import TraceError
from .tensors import STORAGE, Tensor

Path = Union[str, "os.PathLike[str]"]
_MOST_HEADER = 25_000_000


def _refuse(id: str, what: str, where: str, how: str) -> NoReturn:
    raise TraceError(id, what, where, how)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"the key '{key}' appears twice")
        seen[key] = value
    return seen


def _read_header(data: Any, size: int, path: str) -> tuple[dict[str, Any], int]:
    if size < 10:
        _refuse("MP-E110", f"the file has {size} bytes, a safetensors file at least 10", path, "the whole file")
    (length,) = struct.unpack("<Q", data.read(8))
    if not 2 <= length <= _MOST_HEADER:
        _refuse("MP-E110", f"the header's length is {length}", path, "is this a safetensors file?")
    if length > size - 8:
        _refuse("MP-E113", f"the header has {length} bytes, the file ends before", path, "the whole file")
    text = data.read(length)
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
    except ValueError as error:
        raise TraceError("MP-E116", f"the header is not JSON: {error}", path, "a file of another writer") from error
    if not isinstance(header, dict):
        _refuse("MP-E110", "the header is not an object", path, "is this a safetensors file?")
    return header, length


def read_file(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of a safetensors file. TraceError where it is none, or is cut."""
    where = os.fspath(path)
    size = os.path.getsize(where)
    tensors: dict[str, Tensor] = {}
    with open(where, "rb") as file:
        header, length = _read_header(file, size, where)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            _refuse("MP-E124", "__metadata__ must be an object of strings", where, "str() on the values when writing")
        covered = 0
        for name, begin, end, dtype, shape in _entries(header, where):
            place = f"{where}, tensor '{name}'"
            if begin != covered:
                _refuse(
                    "MP-E139" if begin < covered else "MP-E116",
                    f"the tensor begins at data byte {begin}, not at {covered}",
                    place,
                    "tensors one after the other, without holes",
                )
            covered = end
            if 8 + length + end > size:
                _refuse("MP-E113", "the tensor ends after the file", place, "the whole file: it is cut short")
            file.seek(8 + length + begin)
            held = (*shape[:-1], shape[-1] // 2) if dtype == "F4" else shape
            array = np.fromfile(file, dtype=STORAGE[dtype], count=int(np.prod(held, dtype=np.int64)))
            tensors[name] = Tensor(dtype, array.reshape(held))
        if 8 + length + covered != size:
            _refuse("MP-E116", "bytes follow the last tensor", where, "a file without bytes after its last tensor")
    return metadata, tensors


def _entries(header: Mapping[str, Any], where: str) -> list[tuple[str, int, int, str, tuple[int, ...]]]:
    entries = []
    for name, entry in header.items():
        place = f"{where}, tensor '{name}'"
        try:
            dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            whole = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
        except (TypeError, KeyError, ValueError):
            whole = False
        if not whole:
            _refuse("MP-E116", "the entry must have dtype, shape and data_offsets", place, "a file of another writer")
        if dtype not in STORAGE:
            _refuse("MP-E130", f"unknown dtype '{dtype}'", place, "one of " + ", ".join(STORAGE))
        bits = 4 if dtype == "F4" else 8 * STORAGE[dtype].itemsize
        for extent in shape:
            bits *= extent
        if bits != 8 * (end - begin) or (dtype == "F4" and (not shape or shape[-1] % 2 != 0)):
            _refuse(
                "MP-E116",
                f"shape {list(shape)} of {dtype} does not take {end - begin} bytes",
                place,
                "a file of another writer",
            )
        entries.append((name, begin, end, dtype, shape))
    return sorted(entries, key=lambda entry: (entry[1], entry[2], entry[0]))


def _width(tensor: Tensor) -> float:
    """Bytes of an element."""
    return 0.5 if tensor.dtype == "F4" else STORAGE[tensor.dtype].itemsize


def write_file(path: Path, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """Writes a safetensors file under a temporary name and renames it: `path` is whole or as before.

    The order is that of misa-prof: widest elements first, then names, so that the same content gives the same bytes.
    """
    target = pathlib.Path(path)
    order = sorted(tensors, key=lambda name: (-_width(tensors[name]), name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    offset = 0
    for name in order:
        tensor = tensors[name]
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    temporary = f"{target}.{secrets.token_hex(4)}.tmp"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for name in order:
                tensors[name].data.tofile(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, str(target))
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
