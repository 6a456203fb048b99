"""misa._abi says what backends/plugin/misa_kernel.h says."""

import ctypes
import re

from conftest import ROOT
from misa import _abi

HEADER = re.sub(r"/\*.*?\*/", "", (ROOT / "backends/plugin/misa_kernel.h").read_text(encoding="utf-8"), flags=re.DOTALL)
NUMBERS = {
    "int32_t": ctypes.c_int32,
    "uint32_t": ctypes.c_uint32,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
}


def fields_of(body):
    """Name and type of each field of a struct's body; functions have the name of their field for a type."""
    for line in filter(None, (part.strip() for part in " ".join(body.split()).split(";"))):
        function = re.fullmatch(r".*?\(\*(\w+)\)\(.*\)", line)
        if function:
            yield function.group(1), function.group(1).upper()
            continue
        kind, names = re.fullmatch(r"(?:const )?(\w+) ?(.+)", line).groups()
        for name in names.split(","):
            pointer = "*" in name
            yield name.strip(" *"), "char*" if pointer and kind == "char" else "pointer" if pointer else kind


def type_of(kind):
    special = {"char*": ctypes.c_char_p, "pointer": ctypes.c_void_p, **NUMBERS}
    return special.get(kind) or getattr(_abi, kind)


def test_every_struct_has_the_fields_of_the_header_in_its_order():
    structs = re.findall(r"typedef struct (\w+) \{(.*?)\} \1;", HEADER, flags=re.DOTALL)
    assert len(structs) == 10
    for name, body in structs:
        assert getattr(_abi, name)._fields_ == [(field, type_of(kind)) for field, kind in fields_of(body)], name


def test_every_number_of_the_header_is_there():
    enumerated = re.findall(r"(MISA_\w+) = (\d+)", HEADER) + re.findall(r"#define (MISA_\w+) (\d+)", HEADER)
    assert len(enumerated) == 17
    for name, value in enumerated:
        assert getattr(_abi, name) == int(value), name


def test_functions_take_what_the_header_says():
    """Counted: a function that gains or loses a parameter is found."""
    for name, parameters in re.findall(r"\(\*(\w+)\)\((.*?)\)", HEADER):
        assert len(getattr(_abi, name.upper())._argtypes_) == len(parameters.split(",")), name
