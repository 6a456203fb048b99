#!/usr/bin/env python3
"""Runs the tests of profiles/recorder with pytest, by the first Python that has pytest and NumPy.

usage: recorder_test.py BINARY [arguments of pytest]
"""

import os
import pathlib
import subprocess
import sys

PACKAGE = pathlib.Path(__file__).resolve().parents[2] / "profiles/recorder"


def has_both(python):
    return (
        subprocess.run([python, "-c", "import numpy, pytest"], stderr=subprocess.DEVNULL, check=False).returncode == 0
    )


def main():
    # Debian's packages belong to Debian's python3, which need not be the first on PATH.
    pythons = [path for path in (sys.executable, "/usr/bin/python3") if os.path.exists(path)]
    python = next(filter(has_both, pythons), None)
    if python is None:
        print("skipped: no python3 has both NumPy and pytest (Debian: python3-numpy, python3-pytest)", file=sys.stderr)
        sys.exit(1 if os.environ.get("MISA_NO_SKIPS") else 77)
    environment = {**os.environ, "MISA_PROF": os.path.abspath(sys.argv[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.exit(
        subprocess.run([python, "-m", "pytest", *sys.argv[2:]], cwd=PACKAGE, env=environment, check=False).returncode
    )


if __name__ == "__main__":
    main()
