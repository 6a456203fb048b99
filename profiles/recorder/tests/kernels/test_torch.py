"""misa.host with functions in torch and in Triton, whose interpreter runs a kernel on the CPU."""

import os
import pathlib
import re
import subprocess
import sys

import drawn
import misa_trace as m
import numpy as np
import pytest
from misa import _abi
from record.wheels import needs

torch = needs("torch")

from .driver import assert_scores, traces  # noqa: E402

HERE = pathlib.Path(__file__).parent
EXAMPLES = HERE.parents[2] / "kernels"
NAMES = sorted(traces(drawn))
DSA = """
import torch
def score(task):
    q, slots = task.queries.numbers(), task.column_slots()
    keys = task.keys.numbers().reshape(-1, task.keys.dim)[slots.clip(0)]
    scores = torch.einsum('mhc,mh->mc', torch.einsum('mhd,mcd->mhc', q, keys).relu(), task.queries.weights)
    if task.keys.scales is not None:
        scores = scores * task.keys.scales.reshape(-1)[slots.clip(0)]
    return scores.masked_fill(slots < 0, float('-inf'))
def select(task):
    return task.logits.topk(task.k).indices
"""


@pytest.mark.parametrize("name", NAMES)
def test_scores_in_torch_are_the_formula(name, plugin):
    driver = plugin(DSA)
    assert_scores(driver, traces(drawn)[name])


def test_the_example_of_the_page_is_the_formula(plugin):
    page = (HERE.parents[3] / "docs/own-kernel.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (text,) = (block for block in blocks if "def score(task)" in block)
    for trace in traces(drawn).values():
        assert_scores(plugin(text), trace)


def test_tensors_are_the_memory_of_the_task(plugin):
    driver = plugin("import torch\ndef score(task):\n"
                    " assert task.queries.values.dtype == torch.float8_e4m3fn\n"
                    " assert task.keys.values.dtype == torch.float8_e4m3fn\n"
                    " assert task.keys.scales.dtype == task.queries.weights.dtype == torch.float32\n"
                    " assert task.keys.block_table.dtype == torch.int32\n"
                    " task.logits[:] = task.queries.weights.data_ptr() % 1024\n")
    trace = traces(drawn)["paged-e4m3"]
    task = driver.score_task(trace)
    status, logits = driver.score(task)
    assert status == _abi.MISA_OK, driver.error()
    assert (logits == task.queries.weights % 1024).all()


def test_nothing_is_kept_of_tensors_that_are_gone(plugin):
    from misa import _views

    driver = plugin(DSA)
    trace = traces(drawn)["contiguous-e4m3"]
    driver.score(driver.score_task(trace))
    before = len(_views._alive)
    for _ in range(20):
        driver.score(driver.score_task(trace))
    assert len(_views._alive) <= before


def test_a_selection_in_64_bits_becomes_one_of_32(plugin):
    driver = plugin(DSA)
    trace = traces(drawn)["contiguous-f32"]
    scores = np.random.default_rng(3).normal(size=(trace.rows, 9))
    status, tokens = driver.select(trace, scores, 4)
    assert status == _abi.MISA_OK, driver.error()
    np.testing.assert_array_equal(tokens, np.argsort(-scores)[:, :4])


def test_the_triton_example_scores_by_the_formula():
    """In a process of its own: Triton interprets kernels where the variable is set before it is imported."""
    needs("triton")
    done = subprocess.run([sys.executable, "-m", "kernels.triton_scores"], cwd=HERE.parent, check=False, text=True,
                          stderr=subprocess.PIPE, env={**os.environ, "TRITON_INTERPRET": "1",
                                                       "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE.parents[1])])})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["contiguous-e4m3", "paged-bf16"])
def test_the_torch_example_selects_what_the_formula_selects(name, tmp_path):
    trace = traces(drawn)[name]
    m.save_trace(tmp_path / "trace", trace)
    subprocess.run([sys.executable, EXAMPLES / "dsa_torch.py", tmp_path / "trace", tmp_path / "chosen"], check=True,
                   env={**os.environ, "PYTHONPATH": str(HERE.parents[1])})
    np.testing.assert_array_equal(m.read_selection(tmp_path / "chosen").topk.data, trace.select())


@pytest.mark.parametrize("backend,more", [
    ("plugin:{folder}/mine.py", {}),
    ("plugin:{examples}/score_triton.py", {"TRITON_INTERPRET": "1"}),
    ("exec:'{python}' '{examples}/dsa_torch.py' {{trace}} {{selection}}", {}),
])
def test_the_program_judges_kernels_in_torch(backend, more, program, tmp_path):
    (tmp_path / "mine.py").write_text("name, arithmetic, any_order = 'torch-dsa', 'f32', True\n" + DSA, encoding="utf-8")
    backend = backend.format(folder=tmp_path, examples=EXAMPLES, python=sys.executable)
    done = subprocess.run([program, "compare", "--backend", backend, "--model", "tiny", "--workload", "ci", "--rows", "4",
                           "--indexer", "dsa"], check=False, text=True, capture_output=True,
                          env={**os.environ, **more, "MISA_PYTHON": sys.executable, "PYTHONPATH": str(HERE.parents[1])})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed: 1 of 1 case" in done.stdout
