#!/usr/bin/env python3
"""Draws the pictures of README.md and docs/tutorial.md, docs/pictures/*.svg, from the results beside them.

usage: scripts/pictures.py BINARY             draws
       scripts/pictures.py BINARY --measure [RESULT.json...]
                                              measures anew first: minutes; nothing else may run on the machine
       scripts/pictures.py BINARY --check     draws nothing; exit status 1 if a picture is not that of its result

docs/pictures/README.md says how the results were made.
"""
import json
import os
import pathlib
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "docs" / "pictures"
# Picture -> (result, drawing).
PICTURES = {
    "cost.svg": ("sweep.json", "cost-64k"),
    "speed.svg": ("sweep.json", "speed"),
    "needles.svg": ("niah.json", "needles-misa"),
    "needles-qnorm.svg": ("niah.json", "needles-misa-qnorm-h-1"),
    "rows.svg": ("trace.json", "rows"),
}
# Result -> the command that makes it.
COMMANDS = {
    "sweep.json": ["sweep", "--context", "4k:64k:*2", "--rows", "32", "--indexer",
                   "dsa,misa,misa-dagger,hisa,misa-lr"],
    "niah.json": ["niah", "--context", "4k:128k:*2", "--seeds", "1", "--indexer",
                  "misa,misa:router=qnorm,active-heads=1"],
    "trace.json": ["profile", "--indexer", "misa,misa-dagger,misa-lr"],
}


def small(value, left_out):
    """A result without what no picture of it shows and what takes most of it."""
    if isinstance(value, dict):
        return {key: [] if key in left_out else small(one, left_out) for key, one in value.items()}
    return [small(one, left_out) for one in value] if isinstance(value, list) else value


def keep(name):
    """Makes a result small, and has it name the command without the place where it was written."""
    rows = any(drawing == "rows" for result, drawing in PICTURES.values() if result == name)
    result = small(json.loads((FOLDER / name).read_text()), ("raw",) if rows else ("raw", "per_row"))
    result["command_line"] = ["misa-prof", *COMMANDS[name]]
    if trace := result.get("workload", {}).get("trace_path"):
        result["workload"]["trace_path"] = os.path.relpath(trace, FOLDER.parents[1])
    (FOLDER / name).write_text(json.dumps(result, ensure_ascii=False, separators=(",", ":")) + "\n")


def measure(program, results):
    for name, words in COMMANDS.items():
        if not results or name in results:
            subprocess.run([program, *words, "-o", f"json:{FOLDER / name}"], check=True)
            keep(name)


def drawn(program, picture):
    result, figure = PICTURES[picture]
    return subprocess.run([program, "report", FOLDER / result, "--figure", figure, "-o", "-"], check=True,
                          capture_output=True, text=True).stdout


def main():
    program = sys.argv[1]
    if "--measure" in sys.argv[2:]:
        measure(program, [word for word in sys.argv[3:] if word.endswith(".json")])
    changed = [name for name in PICTURES
               if not (FOLDER / name).exists() or (FOLDER / name).read_text() != drawn(program, name)]
    if "--check" in sys.argv[2:]:
        for name in changed:
            print(f"docs/pictures/{name} is not that of its result: scripts/pictures.py draws it", file=sys.stderr)
        sys.exit(1 if changed else 0)
    for name in changed:
        (FOLDER / name).write_text(drawn(program, name))
        print(f"docs/pictures/{name}")


if __name__ == "__main__":
    main()
