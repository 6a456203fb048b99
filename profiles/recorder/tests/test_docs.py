"""The Python of docs/python.md runs as it stands, in order."""

import pathlib
import re
import shlex

import misa_trace
from conftest import ROOT
from misa_trace.__main__ import main


def test_the_code_of_the_page_runs(tmp_path, program, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MISA_PROF", program)
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert capsys.readouterr().out.startswith("500 ['dsa', 'misa']")
    for line in re.findall(r"^    python -m misa_trace (.*)$", page, re.MULTILINE):
        words = shlex.split(line)
        if "NAME" in line:
            words[1] = str(next(pathlib.Path("dataset/workloads/dsa_paged").iterdir()))
        assert main(words) == 0, line
    assert {path.stem for path in tmp_path.glob("*.safetensors")} >= {"part", "short", "pages", "given", "back"}


def test_the_page_names_every_function():
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    for name in misa_trace.__all__:
        assert re.search(r"\b" + name + r"\b", page), name + " is not in docs/python.md"
    assert pathlib.Path(misa_trace.__file__).with_name("py.typed").exists()
