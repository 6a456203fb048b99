"""Workers: spawned ones, forked ones, and those that are killed."""

import importlib
import multiprocessing
import os
import signal
import sys
import time

import misa_trace
import pytest

from .conftest import STAND_INS
from .wheels import needs

torch = needs("torch")

from .stack_inputs import Drawn  # noqa: E402  pylint: disable=wrong-import-position


@pytest.fixture(autouse=True)
def one_thread():
    """Keeps torch from starting threads: a forked child has none of them and would wait for ever."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def prefill(layer_id, seed=1):
    """One call of one layer."""
    drawn = Drawn([8], seed)
    keys, scales, begins = drawn.gathered([8])
    ks, ke = drawn.windows(begins, [range(8)])
    q, weights = drawn.queries(8)
    importlib.import_module("deep_gemm").fp8_mqa_logits(q, (keys, scales), weights, ks, ke)


def spawned(layer_id):
    sys.path.insert(0, str(STAND_INS))
    from misa_trace.record import hooks

    hooks.install()
    prefill(layer_id)


def forked():
    prefill(2)
    from misa_trace.record import hooks

    hooks.current().finish()
    os._exit(0)


def files(folder):
    return sorted(file.name for file in folder.iterdir() if file.suffix == ".safetensors")


def test_a_spawned_worker_writes_at_its_end(tmp_path, monkeypatch):
    monkeypatch.setenv("MISA_TRACE_DIR", str(tmp_path))
    worker = multiprocessing.get_context("spawn").Process(target=spawned, args=(1,))
    worker.start()
    worker.join(120)
    assert worker.exitcode == 0
    assert files(tmp_path) == ["layer1.prefill.safetensors"]


def test_a_forked_worker_writes_at_its_end(recording, tmp_path):
    recording()
    prefill(1)
    worker = multiprocessing.get_context("fork").Process(target=prefill, args=(2,))
    worker.start()
    worker.join(120)
    assert worker.exitcode == 0
    assert files(tmp_path / "traces") == ["layer2.prefill.safetensors"]


def test_a_forked_child_has_files_of_its_own(recording, tmp_path):
    traces = recording()
    prefill(1)
    child = os.fork()
    if child == 0:
        forked()
    os.waitpid(child, 0)
    assert files(tmp_path / "traces") == ["layer2.prefill.safetensors"]
    assert sorted(traces()) == ["layer1.prefill", "layer2.prefill"]


def test_what_is_recorded_outlives_a_worker_that_is_killed(recording, tmp_path, monkeypatch):
    from misa_trace.record import recording as module

    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.2)
    recording()
    child = os.fork()
    if child == 0:
        prefill(3)
        time.sleep(60)
        os._exit(0)
    path = tmp_path / "traces/layer3.prefill.safetensors"
    for _ in range(300):
        if path.exists() and path.stat().st_size > 0:
            break
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert misa_trace.read_trace(path).rows == 8
