"""misa.host with functions in torch and in Triton, whose interpreter runs a kernel on the CPU."""

import functools
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

from .driver import Driver, assert_scores, traces  # noqa: E402

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


PEERS = HERE.parents[3] / "tests/bench/peers"


@pytest.mark.parametrize("peer", ["torch_eager", "torch_compiled"])
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("contiguous")])
def test_the_peers_of_the_cpu_backend_select_by_the_formula(peer, name, monkeypatch):
    """Up to the rounding of bf16, which they compute in unless the inputs are f32. Compiled by the backend that checks that
    a function is one graph, and takes no compiler."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    trace, k = traces(drawn)[name], 5
    status, tokens = Driver(PEERS / f"{peer}.py").index(trace, k)
    assert status == _abi.MISA_OK
    slack = 1e-5 if name.endswith("f32") else 0.05
    for row in range(trace.rows):
        scores = trace.scores(row)
        found = tokens[row][tokens[row] >= 0]
        assert len(found) == len(set(found)) == min(k, len(scores))
        best = np.sort(scores)[::-1][:k]
        np.testing.assert_allclose(np.sort(scores[found])[::-1], best, atol=slack * np.abs(best).max(), rtol=0)


def test_the_peers_of_the_cpu_backend_pass_compare_in_f32(program, tmp_path):
    (tmp_path / "peer.py").write_text("import sys\nsys.path.insert(0, %r)\nfrom torch_eager import *\narithmetic = 'f32'\n"
                                      % str(PEERS), encoding="utf-8")
    model = (EXAMPLES.parent / "models/tiny.toml").read_text(encoding="utf-8")
    (tmp_path / "f32.toml").write_text(re.sub('(?m)^key_dtype = .*', 'key_dtype = "f32"', model), encoding="utf-8")
    done = subprocess.run([program, "compare", "--backend", f"plugin:{tmp_path}/peer.py", "--model", tmp_path / "f32.toml",
                           "--workload", "prefill-8k", "--context", "2500", "--rows", "6", "--indexer", "dsa,misa",
                           "--active-heads", "3", "--block-size", "128"], check=False, text=True, capture_output=True,
                          env={**os.environ, "MISA_PYTHON": sys.executable, "PYTHONPATH": str(HERE.parents[1])})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed: 2 of 2 cases" in done.stdout


def test_the_table_of_the_peers_has_a_ratio_for_each_indexer(program):
    done = subprocess.run([sys.executable, PEERS / "cpu_peers.py", program, "--threads", "1", "--model", "tiny", "--workload",
                           "prefill-8k", "--rows", "4", "--peer", "torch_eager", "--samples", "6", "--budget", "60"],
                          check=False, text=True, capture_output=True, env={**os.environ, "MISA_PYTHON": sys.executable})
    assert done.returncode == 0, done.stdout + done.stderr
    for indexer in ("dsa", "misa"):
        row = re.search(rf"(?m)^{indexer} +torch_eager +([\d.]+) +([\d.]+) +([\d.]+)x +([\d.]+) to ([\d.]+) +6 ", done.stdout)
        assert row, done.stdout
        assert float(row[4]) <= float(row[3]) <= float(row[5])
    assert ", 1 threads; torch " in done.stdout


def test_our_kernels_take_no_more_threads_than_torch_was_given(program, tmp_path):
    """Even where they bring an OpenMP under another name, as in our wheel: that of torch serves both, whose symbols come
    first."""
    text = """
import os, torch, misa
torch.set_num_threads(1)
draw = torch.Generator().manual_seed(1)
q, keys = (torch.randn(shape, generator=draw) for shape in ((9, 8, 64), (3000, 64)))
before = len(os.listdir("/proc/self/task"))
misa.Indexer("misa", 8, 64, top_k=50, active_heads=4)(q, torch.ones(9, 8), keys, ([0] * 9, [3000] * 9))
after, maps = len(os.listdir("/proc/self/task")), open("/proc/self/maps").read()
print(after - before, len({line.split()[-1] for line in maps.splitlines() if "libgomp" in line}))
"""
    library = pathlib.Path(os.environ.get("MISA_KERNELS_LIBRARY") or
                           pathlib.Path(program).resolve().parents[1] / "backends/libmisa_kernels.so")
    listed = subprocess.run(["ldd", library], check=True, text=True, stdout=subprocess.PIPE).stdout
    found = re.search(r"libgomp\.so\.1 => (\S+)", listed)
    if not found:
        pytest.skip("the library has another OpenMP than GCC's")
    for path, name in ((pathlib.Path(found[1]), "libgomp.so.9"), (library, "libmisa_kernels.so")):
        (tmp_path / name).write_bytes(path.read_bytes().replace(b"libgomp.so.1", b"libgomp.so.9"))
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", text], check=False, text=True, capture_output=True,
                          env={**environment, "MISA_KERNELS_LIBRARY": str(tmp_path / "libmisa_kernels.so"), "LD_LIBRARY_PATH": str(tmp_path),
                               "PYTHONPATH": str(HERE.parents[1])})
    assert (done.returncode, done.stdout.split()) == (0, ["0", "2"]), done.stdout + done.stderr
