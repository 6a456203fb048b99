"""Fixtures: the recorder in this process, and drawn inputs of a serving stack."""

import pathlib
import sys

import pytest

import misa_trace
from misa_trace.record import hooks, imports, messages

STAND_INS = pathlib.Path(__file__).parent / "stand_ins"
STACKS = ("deep_gemm", "vllm", "sglang", "misa_stand_in")


def _purge():
    for name in list(sys.modules):
        if name.split(".")[0] in STACKS:
            del sys.modules[name]


@pytest.fixture
def recording(tmp_path, monkeypatch):
    """start(ROWS="8", ...) turns the recorder on; it returns a function that ends it and gives the traces by name."""

    def start(**variables):
        monkeypatch.setenv("MISA_TRACE_DIR", str(tmp_path / "traces"))
        for name, value in variables.items():
            monkeypatch.setenv("MISA_TRACE_" + name, value)
        assert hooks.install()

        def traces():
            if hooks.current() is not None:
                hooks.current().finish()
            files = sorted((tmp_path / "traces").glob("*"))
            return {file.name[: -len(".safetensors")]: misa_trace.read_trace(file) for file in files}

        return traces

    monkeypatch.syspath_prepend(str(STAND_INS))
    hooks.forget()
    yield start
    hooks.forget()
    imports.forget()
    messages.forget()
    _purge()
