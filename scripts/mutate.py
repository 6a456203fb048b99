#!/usr/bin/env python3
"""Changes the source in one place at a time and checks that a test fails (docs/agreement.md tells what for).

usage: mutate.py [--only PATTERN] [--work DIR] [--resume FILE] [--jobs N] [--list]

The changes are those of scripts/mutants.py. They are made in a copy of the tree, and only the tests that TESTS names for
the changed file are built and run, in that order, until one fails. Prints a line for each mutant; exit status 1 when
one survives that is not marked equivalent, 2 when the table does not fit the source.
"""

import argparse
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.dont_write_bytecode = True  # no __pycache__ beside the sources
from mutants import MUTANTS  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
COPIED = ["CMakeLists.txt", "CMakePresets.json", "backends", "cli", "core", "docs", "profiles", "scripts", "tests"]
CONFIGURE = ["cmake", "--preset", "dev", "-DMISA_WERROR=OFF", "-DMISA_BENCHMARKS=OFF"]
LEAST_TIMEOUT_SECONDS = 60
MEMORY_BYTES = 12 << 30

# What is run for a changed file, by the beginning of its path; the fastest tests first.
TESTS = [
    ("backends/plugin/", ["test_plugin"]),
    ("core/", ["test_agreement", "test_core_indexer", "test_conformance", "test_core_agreement"]),
    ("core/workload/placement", ["test_core_workload", "tests/reference/reference_test.py", "test_core_indexer"]),
    ("core/indexer/linear_head", ["test_agreement", "test_core_indexer", "tests/reference/reference_test.py"]),
    ("core/measure/", ["test_core_measure"]),
    ("core/quality/", ["test_core_quality"]),
    ("core/platform/child", ["test_core_platform"]),
    ("core/agreement/", ["test_core_agreement", "test_agreement"]),
    ("core/experiment/recorded", ["test_core_experiment", "tests/cli/selection_test.py", "tests/cli/trace_test.py"]),
    ("core/selection/id_kind", ["test_core_experiment", "tests/cli/selection_test.py"]),
    ("backends/", ["test_agreement", "test_conformance", "test_core_indexer", "test_core_agreement"]),
]


def tests_of(file):
    """Those of the longest beginning of `file`."""
    return max((entry for entry in TESTS if file.startswith(entry[0])), key=lambda entry: len(entry[0]))[1]


@dataclass
class Mutant:
    file: str
    change: str           # as scripts/mutants.py writes it
    meaning: str
    equivalent: str = ""  # why it cannot change a result


def pattern_of(text):
    return r"\s*".join(re.escape(part) for part in re.findall(r"\w+|[^\w\s]", text))


def mutated(text, mutant):
    """`text` with the change. ValueError: the table does not fit it."""
    after, _, change = mutant.change.rpartition(" ... ")
    old = re.sub(r"\[-(.*?)-\]", r"\1", re.sub(r"\{\+.*?\+\}", "", change))
    new = re.sub(r"\{\+(.*?)\+\}", r"\1", re.sub(r"\[-.*?-\]", "", change))
    anchor = re.search(pattern_of(after), text)
    if not anchor:
        raise ValueError(f"there is no {after!r}")
    found = list(re.compile(pattern_of(old)).finditer(text, anchor.end()))
    if not found or (len(found) > 1 and not after):
        raise ValueError(f"{len(found)} of {old!r}; there must be one, or one after a text before ' ... '")
    changed = text[: found[0].start()] + new + text[found[0].end():]
    if changed == text:
        raise ValueError(f"{old!r} is changed to itself")
    return changed


def misfits(mutants):
    """Lines that say which mutants do not fit the source, or cannot be told apart."""
    lines = []
    for mutant in mutants:
        try:
            mutated((ROOT / mutant.file).read_text(), mutant)
        except (ValueError, OSError) as error:
            lines.append(f"{mutant.file}: {mutant.meaning}: ERROR: {error}")
    for name, count in Counter(f"{m.file}: {m.meaning}" for m in mutants).items():
        if count > 1:
            lines.append(f"{name}: ERROR: {count} mutants are called this")
    return lines


class Work:
    """A copy of the tree in which mutants are built and judged."""

    def __init__(self, folder, jobs):
        self.source, self.jobs = folder / "source", jobs
        self.build = self.source / "build" / "dev"
        self.log = folder / "build.log"
        self.environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "MISA_RANDOM_CASES": "300",
                            "CCACHE_BASEDIR": str(folder), "CCACHE_NOHASHDIR": "1"}
        if shutil.which("ccache"):
            self.environment.setdefault("CMAKE_CXX_COMPILER_LAUNCHER", "ccache")
        self.seconds = {}  # of each test, unmutated

    def command(self, arguments):
        with self.log.open("a") as log:
            return subprocess.run(arguments, cwd=self.source, env=self.environment, stdout=log, stderr=log).returncode

    def copy_tree(self):
        # An older copy keeps its build, and files that did not change keep their times.
        for top in COPIED:
            files = [ROOT / top] if (ROOT / top).is_file() else [p for p in (ROOT / top).rglob("*") if p.is_file()]
            wanted = {self.source / f.relative_to(ROOT) for f in files}
            for old in (self.source / top).rglob("*") if (self.source / top).is_dir() else []:
                if old.is_file() and old not in wanted:
                    old.unlink()
            for file in files:
                target = self.source / file.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists() or target.read_bytes() != file.read_bytes():
                    shutil.copy(file, target)

    def prepare(self, tests):
        self.copy_tree()
        if self.command(CONFIGURE) != 0:
            sys.exit(f"mutate.py: cmake could not configure; see {self.log}")
        for test in tests:
            if not self.compile(test):
                sys.exit(f"mutate.py: {test} does not build unmutated; see {self.log}")
            start = time.monotonic()
            failure = self.run(test, 600)
            if failure:
                sys.exit(f"mutate.py: {test} fails unmutated: {failure}")
            self.seconds[test] = time.monotonic() - start

    def compile(self, test):
        target = "misa-prof" if test.endswith(".py") else test
        return self.command(["cmake", "--build", str(self.build), "--target", target, "-j", str(self.jobs)]) == 0

    def run(self, test, timeout):
        """How the test failed; empty when it passed."""
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if test.endswith(".py"):
            command = ["/usr/bin/python3", self.source / test, self.build / "cli" / "misa-prof", "--", "--failfast"]
        else:
            command = [self.build / "tests" / test, "--abort-after=1"]
        try:
            done = subprocess.run(command, cwd=self.source, timeout=timeout, env=self.environment, capture_output=True,
                                  text=True, errors="replace", preexec_fn=limit)
        except subprocess.TimeoutExpired:
            return "timeout"
        if done.returncode == 0:
            return ""
        name = re.search(r"TEST CASE:\s+(.*)", done.stdout) or re.search(r"^(?:FAIL|ERROR): (\w+)", done.stderr, re.M)
        crash = "crash in " if done.returncode < 0 or "SIG" in done.stdout else ""
        return crash + (name.group(1) if name else f"exit status {done.returncode}")

    def judge(self, mutant):
        """('killed', by what), ('survived', '') or ('error', why)."""
        path = self.source / mutant.file
        original = path.read_text()
        path.write_text(mutated(original, mutant))
        try:
            for test in tests_of(mutant.file):
                if not self.compile(test):
                    return "error", f"does not compile; see {self.log}"
                failure = self.run(test, max(LEAST_TIMEOUT_SECONDS, 10 * self.seconds[test]))
                if failure:
                    return "killed", f"{test}: {failure}"
        finally:
            path.write_text(original)
        return "survived", ""


class Record:
    """What was judged already, a line of JSON each. What was killed is not judged again while its file is the same."""

    def __init__(self, path, mutants):
        self.path, self.killed = path, {}
        # Taken now: the tree may change while its copy is judged.
        self.keys = {id(m): self.key_of(m) for m in mutants}
        if path and path.exists():
            for line in path.read_text().splitlines():
                one = json.loads(line)
                if one["outcome"] == "killed":
                    self.killed[one["key"]] = one["by"]

    @staticmethod
    def key_of(mutant):
        changed = mutated((ROOT / mutant.file).read_text(), mutant)
        return hashlib.sha256(f"{mutant.file}\n{changed}".encode()).hexdigest()[:16]

    def by(self, mutant):
        """What killed it, or None."""
        return self.killed.get(self.keys[id(mutant)])

    def add(self, mutant, outcome, by):
        if self.path:
            line = {"key": self.keys[id(mutant)], "file": mutant.file, "meaning": mutant.meaning, "outcome": outcome}
            with self.path.open("a") as out:
                out.write(json.dumps({**line, "by": by}) + "\n")


def report(mutant, outcome, by):
    """Prints what became of the mutant; returns what it counts as."""
    said = {"killed": f"killed by {by}", "survived": "SURVIVED", "error": f"ERROR: {by}"}[outcome]
    if mutant.equivalent and outcome == "survived":
        outcome, said = "equivalent", f"equivalent: {mutant.equivalent}"
    elif mutant.equivalent and outcome == "killed":
        outcome, said = "error", f"ERROR: marked equivalent, {said}"
    print(f"{mutant.file}: {mutant.meaning}: {said}", flush=True)
    return outcome


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="check that the table fits the source, print it and stop")
    parser.add_argument("--only", metavar="PATTERN", default="",
                        help="mutants whose file or meaning match this regular expression")
    parser.add_argument("--work", metavar="DIR", type=Path, help="where to build; kept, so that the next run is fast")
    parser.add_argument("--resume", metavar="FILE", type=Path,
                        help="append what is judged to this file, and judge no mutant again that it says was killed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    mutants = [m for file, changes in MUTANTS.items() for m in (Mutant(file, *change) for change in changes)
               if re.search(arguments.only, f"{m.file}: {m.meaning}")]
    wrong = misfits(mutants)
    if wrong:
        print("\n".join(wrong))
        return 2
    if not mutants:
        print(f"mutate.py: no mutant matches {arguments.only!r}")
        return 2
    if arguments.list:
        for m in mutants:
            print(f"{m.file}: {m.meaning}" + (f" (equivalent: {m.equivalent})" if m.equivalent else ""))
        equivalent, files = sum(bool(m.equivalent) for m in mutants), len({m.file for m in mutants})
        print(f"{len(mutants) - equivalent} mutants in {files} files, and {equivalent} equivalent ones")
        return 0

    record = Record(arguments.resume, mutants)
    due = [m for m in mutants if not record.by(m)]
    counts = Counter()
    with tempfile.TemporaryDirectory(prefix="misa-mutate-") as temporary:
        folder = (arguments.work or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        work = Work(folder, arguments.jobs)
        if due:
            work.prepare(list(dict.fromkeys(test for m in due for test in tests_of(m.file))))
        for m in mutants:
            if m in due:
                outcome, by = work.judge(m)
                record.add(m, outcome, by)
            else:
                outcome, by = "killed", record.by(m)
            counts[report(m, outcome, by)] += 1
    print(f"{len(mutants) - counts['equivalent']} mutants, {counts['killed']} killed, {counts['survived']} survived"
          f" ({counts['equivalent']} equivalent ones not counted, {counts['error']} errors)")
    return 2 if counts["error"] else 1 if counts["survived"] else 0


if __name__ == "__main__":
    sys.exit(main())
