"""Traces and selections of misa-prof in Python: write, read, record, convert, and run the program on them."""

from .anonymise import anonymise
from .errors import ProgramError, TraceError
from .flashinfer import export_workload, from_physical, import_workload, physical
from .forms import contiguous, paged
from .program import find_program, run
from .safetensors_file import read_file, write_file
from .selection import Selection, read_selection, write_selection
from .slicing import slice_trace
from .tensors import Tensor, bf16, e4m3, f4, tensor_of, to_bf16, to_e4m3, to_int8, to_mxfp4
from .trace import (
    Trace,
    join_mxfp4_pages,
    join_pages,
    make_trace,
    read_trace,
    save_trace,
    split_mxfp4_pages,
    split_pages,
    write_trace,
)

__all__ = [
    "ProgramError",
    "Selection",
    "Tensor",
    "Trace",
    "TraceError",
    "anonymise",
    "bf16",
    "contiguous",
    "e4m3",
    "export_workload",
    "f4",
    "find_program",
    "from_physical",
    "import_workload",
    "join_mxfp4_pages",
    "join_pages",
    "make_trace",
    "paged",
    "physical",
    "read_file",
    "read_selection",
    "read_trace",
    "run",
    "save_trace",
    "slice_trace",
    "split_mxfp4_pages",
    "split_pages",
    "tensor_of",
    "to_bf16",
    "to_e4m3",
    "to_int8",
    "to_mxfp4",
    "write_file",
    "write_selection",
    "write_trace",
]
