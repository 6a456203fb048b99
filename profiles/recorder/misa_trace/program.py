"""Runs the program misa-prof and gives its results as dictionaries."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import ProgramError

_JSON = ("profile", "compare", "explain", "inspect", "list")  # commands that have --format json
_OUTPUTS = ("--format", "-o", "--output", "--names")
_ERROR = re.compile(r"^misa-prof: error: (MP-E\d{3}): ", re.MULTILINE)


def _installed() -> str | None:
    """The program of the wheel that this package came with; None where the package came alone."""
    try:
        wheel = importlib.metadata.distribution("misa-prof")
    except importlib.metadata.PackageNotFoundError:
        return None
    here = pathlib.Path(__file__).resolve().parent
    if pathlib.Path(str(wheel.locate_file("misa_trace"))).resolve() != here:
        return None
    programs = [file for file in wheel.files or () if file.parts[-2:] == ("bin", "misa-prof")]
    return os.path.realpath(str(programs[0].locate())) if programs else None


def find_program(binary: str | os.PathLike[str] | None = None) -> str:
    """The path of misa-prof: `binary`, else MISA_PROF of the environment, else the one that was installed with this
    package, else the first on PATH."""
    stated = os.fspath(binary) if binary is not None else os.environ.get("MISA_PROF")
    wanted = stated or _installed() or "misa-prof"
    found = shutil.which(wanted)
    if found is None:
        raise ProgramError(
            [wanted],
            127,
            "",
            f"there is no program '{wanted}'; try: run(..., binary=PATH), MISA_PROF=PATH in "
            "the environment, or its folder on PATH",
        )
    return found


def words_of(command: Sequence[Any], options: Mapping[str, Any]) -> list[str]:
    """Words of a command line: top_k=64 is --top-k 64, True a flag alone, a list comma-separated, None left out."""
    words = [os.fspath(word) if hasattr(word, "__fspath__") else str(word) for word in command]
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            words.append(option)
        elif isinstance(value, (list, tuple)):
            words += [option, ",".join(str(part) for part in value)]
        else:
            words += [option, str(value)]
    return words


def run(
    *command: Any,
    binary: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Runs misa-prof and returns what it reports: run("profile", trace="layer3.safetensors", indexer=["dsa", "misa"]).

    profile, compare, explain, inspect and list are asked for JSON and give its object; of other commands, and where the
    caller asks for another output, the result is {"text": standard output}. ProgramError with the program's message,
    its id, its exit status, and what it reported all the same, where it does not end with 0. subprocess.TimeoutExpired
    after `timeout` seconds.
    """
    words = words_of(command, options)
    wants_json = (
        bool(words)
        and words[0] in _JSON
        and not any(word == output or word.startswith(output + "=") for word in words for output in _OUTPUTS)
    )
    if wants_json:
        words += ["--format", "json"]
    line = [find_program(binary), *words]
    done = subprocess.run(
        line,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
        env=None if env is None else {**os.environ, **env},
        check=False,
    )
    output, messages = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    result: dict[str, Any] | None = {"text": output}
    if wants_json:
        try:
            result = json.loads(output)
        except ValueError:
            result = None
    if done.returncode != 0 or result is None:
        found = _ERROR.search(messages)
        raise ProgramError(line, done.returncode, found.group(1) if found else "", messages.strip(), result)
    return result
