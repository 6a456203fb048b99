"""libmisa_kernels.so: where it is, and its table of kernels for a device."""

from __future__ import annotations

import ctypes
import os
import pathlib
from typing import Any

from misa_trace.errors import ProgramError
from misa_trace.program import find_program

from . import _abi

_HERE = pathlib.Path(__file__).resolve().parent
_NAME = "libmisa_kernels.so"


class Table:
    """The kernels for one device. What they refuse becomes an exception with their words."""

    def __init__(self, table: Any, device: str) -> None:
        self.device = device
        self.self, self.accepts, self.plan, self.run = table.self, table.accepts, table.plan, table.run
        self.release, self.error = table.release, table.error
        self.name, self.description = table.name.decode(), table.description.decode()

    def refused(self, status: int) -> Exception:
        """ValueError where the call contradicts itself, NotImplementedError where there is no kernel for it, else
        RuntimeError."""
        kind = {_abi.MISA_INVALID: ValueError, _abi.MISA_UNSUPPORTED: NotImplementedError}.get(status, RuntimeError)
        return kind(ctypes.string_at(self.error(self.self)).decode("utf-8", "replace"))


def _places() -> list[str]:
    stated = os.environ.get("MISA_KERNELS_LIBRARY")
    if stated:
        return [stated]
    builds = [_HERE.parents[2] / "build" / preset / "backends" for preset in ("release", "cuda", "dev")]
    return [str(path / _NAME) for path in (_HERE, *builds, *_installed()) if (path / _NAME).is_file()] + [_NAME]


def _installed() -> list[pathlib.Path]:
    """Where an installation of the program has its libraries."""
    try:
        prefix = pathlib.Path(find_program()).resolve().parents[1]
    except ProgramError:
        return []
    return [prefix / "lib", *sorted(prefix.glob("lib*/*-linux-gnu"))]


_library: Any = None
_tables: dict[tuple[int, int], Table] = {}


def table_of(device_type: int, device: int) -> Table:
    """The kernels for a device: of MISA_KERNELS_LIBRARY, else of the library beside this package, in the build tree
    that it belongs to, beside the installed program, or where the system's loader finds it."""
    global _library
    if (device_type, device) in _tables:
        return _tables[device_type, device]
    if _library is None:
        place = _places()[0]
        try:
            _library = ctypes.CDLL(place)
        except OSError as problem:
            raise RuntimeError(
                f"{place} cannot be loaded: {problem}; try: MISA_KERNELS_LIBRARY=PATH of {_NAME}, which a build of "
                "misa-prof has in its folder backends"
            ) from None
        _library.misa_kernels.restype = ctypes.c_void_p
    where = "the CPU" if device_type == _abi.MISA_CPU else f"CUDA device {device}"
    found = _library.misa_kernels(_abi.MISA_KERNEL_VERSION, device_type, device)
    if not found:
        raise RuntimeError(f"{_library._name} has no kernels for {where}; try: misa-prof list, which says why")
    table = _tables[device_type, device] = Table(_abi.misa_kernel_table.from_address(found), where)
    return table
