"""The kernel of score_triton.py on the CPU, by Triton's interpreter: run by test_torch.py."""

import ctypes
import pathlib

import drawn
from misa import _abi

from .driver import Driver, assert_scores, traces

driver = Driver(pathlib.Path(__file__).parents[3] / "kernels/score_triton.py")
for name, trace in traces(drawn).items():
    task = driver.score_task(trace)
    accepted = driver.table.accepts(None, _abi.MISA_SCORE, ctypes.addressof(task))
    assert bool(accepted) == (name in ("contiguous-e4m3", "contiguous-bf16", "paged-e4m3")), name  # one dtype, not f32
    if accepted and not name.endswith("bf16"):  # the interpreter multiplies the bits of bf16 as integers
        assert_scores(driver, trace)
