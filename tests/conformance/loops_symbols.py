#!/usr/bin/env python3
"""Checks that an object of the cpu backend's loops defines no function that another file may define too.

usage: loops_symbols.py OBJECT...

The linker keeps one of the functions that several files define, and those of these objects may use instructions that
not every processor has.
"""
import subprocess
import sys

status = 0
for path in sys.argv[1:]:
    listed = subprocess.run(["nm", "--defined-only", "--demangle", path], capture_output=True, text=True, check=True).stdout
    symbols = [line.split(maxsplit=2) for line in listed.splitlines()]
    shared = [name for _, kind, name in symbols if kind not in "trdb" and "::kLoops" not in name]
    if shared or not any("::kLoops" in name for _, _, name in symbols):
        print(f"{path}: {', '.join(shared) or 'it defines no table of loops'}")
        status = 1
sys.exit(status)
