"""python -m misa_trace.record SCRIPT [ARGUMENT...]: runs a script, or a module after -m, and records its indexers."""

from __future__ import annotations

import os
import runpy
import sys

from .hooks import current, install
from .messages import warn
from .settings import Settings, SettingsError

_USAGE = """usage: MISA_TRACE_DIR=FOLDER python -m misa_trace.record SCRIPT [ARGUMENT...]
       MISA_TRACE_DIR=FOLDER python -m misa_trace.record -m MODULE [ARGUMENT...]
"""


def main() -> int:
    words = sys.argv[1:]
    module = words[:1] == ["-m"]
    if len(words) < 1 + module or words[0] in ("-h", "--help"):
        print(_USAGE, end="", file=sys.stderr)
        return 0 if words[:1] in (["-h"], ["--help"]) else 2
    try:
        settings = Settings.of()
    except SettingsError as error:
        print("misa-trace: error: {}".format(error), file=sys.stderr)
        return 2
    if settings is None:
        print("misa-trace: error: MISA_TRACE_DIR is not set; try: MISA_TRACE_DIR=traces in front of the command",
              file=sys.stderr)
        return 2
    install()
    sys.argv = words[1:] if module else words
    try:
        if module:
            sys.path[0] = os.getcwd()
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = os.path.dirname(os.path.abspath(words[0]))
            runpy.run_path(words[0], run_name="__main__")
    finally:
        if current() is None:
            warn("no stack was imported that the recorder knows: transformers, vLLM, SGLang, DeepGEMM")
    return 0


if __name__ == "__main__":
    sys.exit(main())
