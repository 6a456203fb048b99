"""docs/recording.md: its commands run as they stand, and its tables are complete."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

import misa_trace
from misa_trace.record.settings import VARIABLES

from .wheels import needs

ROOT = pathlib.Path(__file__).resolve().parents[4]
PAGE = (ROOT / "docs/recording.md").read_text(encoding="utf-8")
BUILD = "./scripts/install.sh && ./scripts/build.sh release"


def walk():
    """The commands of the first section."""
    section = re.search(r"^## From an empty clone\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL).group(1)
    return re.findall(r"^    (.+)$", section, re.MULTILINE)


@pytest.fixture
def clone(tmp_path, program):
    """A folder that looks like a clone after the build."""
    needs("torch")
    needs("transformers")
    (tmp_path / "build/release/cli").mkdir(parents=True)
    (tmp_path / "build/release/cli/misa-prof").symlink_to(program)
    shutil.copytree(ROOT / "profiles/recorder", tmp_path / "profiles/recorder",
                    ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    return tmp_path


def test_the_walk(clone):
    commands = walk()
    assert commands[0] == BUILD and len(commands) == 7
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MISA_TRACE_", "PYTHONPATH"))}
    environment.update(
        PATH=os.path.dirname(sys.executable) + os.pathsep + environment["PATH"], PYTHONWARNINGS="ignore",
        PYTHONPATH=str(clone / "site"), PIP_TARGET=str(clone / "site"), PIP_NO_DEPS="1", PIP_NO_BUILD_ISOLATION="0",
        PIP_NO_INDEX="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    printed = {}
    for command in commands[1:]:
        if command.startswith("export "):
            environment.update(word.split("=", 1) for word in shlex.split(command)[1:])
            continue
        done = subprocess.run(["bash", "-c", command], cwd=clone, env=environment, text=True, timeout=300,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        assert done.returncode == 0, command + ": " + done.stdout
        printed[shlex.split(command)[1]] = done.stdout
    assert (clone / "site/misa_trace/record").is_dir()
    assert "recorded topk" in printed["compare"] and "passed: 2 of 2 cases" in printed["compare"]
    assert "warning" not in printed["inspect"]
    assert misa_trace.read_trace(clone / "traces/layer1.decode.safetensors").rows == 16


def test_every_variable_has_a_row():
    table = re.findall(r"^\| `MISA_TRACE_([A-Z_]+)` \|", PAGE, re.MULTILINE)
    assert sorted(table) == sorted(VARIABLES)


def test_every_stack_has_a_command_that_turns_the_recorder_on():
    section = re.search(r"^## Your stack\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL).group(1)
    commands = re.findall(r"^    (\S.+)$", section.replace("\\\n       ", ""), re.MULTILINE)
    assert len(commands) == 4 and all(command.startswith("MISA_TRACE_DIR=") for command in commands)
