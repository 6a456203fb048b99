#!/usr/bin/env python3
"""Changes the source in one place at a time and checks that a test fails (docs/agreement.md tells what for).

usage: mutate.py [--only PATTERN] [--work DIR] [--list]

Works in a copy of the tree. Prints a line for each mutant; exit status 1 when one survives that is not marked
equivalent, 2 when the table does not fit the source.
"""

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ["test_core_compare", "test_core_indexer", "test_conformance", "test_agreement"]
CONFIGURE = ["cmake", "--preset", "dev", "-DMISA_WERROR=OFF", "-DMISA_BENCHMARKS=OFF"]
LEAST_TIMEOUT_SECONDS = 60
MEMORY_BYTES = 12 << 30


@dataclass
class Mutant:
    file: str
    old: str
    new: str
    meaning: str
    which: int = 1  # of the occurrences of `old`
    of: int = 1     # how many there must be
    equivalent: str = ""  # why it cannot change a result


SELECT, SCORE, ROUTE = "backends/cpu/select.cpp", "backends/cpu/score.cpp", "backends/cpu/route.cpp"
POOL, TILE, GEMM = "backends/cpu/pool.cpp", "backends/cpu/tile.hpp", "backends/cpu/gemm_onednn.cpp"
PLAN, BLOCKS = "core/indexer/plan.cpp", "core/indexer/blocks.cpp"
ROUTING, INPUTS = "core/indexer/routing.hpp", "core/indexer/inputs.hpp"
M = Mutant

MUTANTS = [
    # select
    M(SELECT, "ties-- > 0)) out[count++] = column", "ties-- >= 0)) out[count++] = column", "one tie too many"),
    M(SELECT, "scores[column] == kth &&", "scores[column] == kth && std::signbit(kth) == std::signbit(scores[column]) &&",
      "-0 is not 0"),
    M(SELECT, "i64 i = 0; count < k; ++i) {\n        const i32 column = scratch.passed[i];",
      "i64 i = 0; count < k; ++i) {\n        const i32 column = scratch.passed[above - 1 - i];", "ties to the higher column"),
    M(SELECT, "i64 ties = k - above, count", "i64 ties = k - above + 1, count", "a plateau gives one column too many"),
    M(SELECT, "scores[c] > threshold ||", "scores[c] >= threshold ||", "a plateau hides what lies above it"),
    M(SELECT, "return count == k;", "return true;", "a bound that is too high is believed"),
    M(SELECT, "ordered.begin() + (k - 1), ordered.end(), std::greater<>()", "ordered.begin() + (k - 1), ordered.end()",
      "the k-th lowest for the k-th highest"),
    M(SELECT, "return ordered[k - 1];", "return ordered[k];", "the score after the k-th"),
    M(SELECT, "for (; c < n; ++c) {\n    if (scores[c] > bound)", "for (; c < n - 1; ++c) {\n    if (scores[c] > bound)",
      "the last column is not looked at"),
    M(SELECT, "if (!std::isnan(scores[c]) || nans-- > 0)", "if (true)", "NaN before numbers"),
    M(SELECT, "i64 nans = k - (n -", "i64 nans = k + 1 - (n -", "one NaN too many"),
    M(SELECT, "std::fill(out + count, out + k, -1);", "std::fill(out + count, out + k, 0);", "wrong pad"),
    M(SELECT, "last - first, k, scratch, out);", "last - first, k - 1, scratch, out);", "k off by one"),
    M(SELECT, "task.force_ends && first < last", "task.force_ends && first > last", "ends are not forced"),
    M(SELECT, "scratch.forced[first] = scratch.forced[last - 1] = kInfinity", "scratch.forced[first] = kInfinity",
      "the last end is not forced"),
    M(SELECT, "while (first < last && token_of(first) < 0) ++first;", "", "columns before the window count"),
    M(SELECT, "while (last > 0 && token_of(last - 1) < 0) --last;", "", "columns behind the window count"),
    M(SELECT, "out[i] += static_cast<i32>(first);", "out[i] += 0;", "columns before the window are forgotten"),
    M(SELECT, "token_of(out[i]) - begin", "token_of(out[i])", "tokens from the start of the buffer"),
    M(SELECT, "task.windows.end[m] - begin, 0, last)", "task.windows.end[m] - begin - 1, 0, last)",
      "the window ends one token early"),
    # score
    M(SCORE, "return 0.0f > x ? 0.0f : x;", "return x;", "no relu"),
    M(SCORE, "return 0.0f > x ? 0.0f : x;", "return x > 0.0f ? x : 0.0f;", "relu makes NaN 0"),
    M(SCORE, "static_cast<float>(scale[c] * sum[c - block])", "static_cast<float>(sum[c - block])", "no key scale"),
    M(SCORE, "const double w = weight[h];", "const double w = weight[h] < 0 ? -weight[h] : weight[h];",
      "the sign of a weight is lost"),
    M(SCORE, "h < heads; ++h)", "h < heads - (heads > 1); ++h)", "the last head is dropped"),
    M(SCORE, "double sum[kBlock] = {};", "float sum[kBlock] = {};", "heads add up in f32"),
    M(SCORE, "task.windows.end[m] > first;", "task.windows.end[m] > first + 1;",
      "a window that ends one column into a tile loses it"),
    M(SCORE, "task.windows.begin[m] < last &&", "task.windows.begin[m] < last - 1 &&",
      "a window that begins at a tile's last column loses it"),
    M(SCORE, "group.end = std::max(group.end, end);", "group.end = end;", "rows must come in order of their ends"),
    M(SCORE, "group.begin = std::min(group.begin, begin);", "", "rows must come in order of their begins"),
    M(SCORE, "std::min<i64>(last, task.windows.end[m])", "last", "scores behind the window"),
    M(SCORE, "tile.products + i * heads * kTileColumns", "tile.products + i * kTileColumns", "another head's products"),
    M(SCORE, "load_queries(task.queries, m, used, tile);", "load_queries(task.queries, group.first, used, tile);",
      "another row's query"),
    M(SCORE, "for (; next < group.first + group.count && used", "for (; next < group.first + group.count - 1 && used",
      "the last row of a sequence is dropped"),
    M(SCORE, "task.windows.sequence[a] < task.windows.sequence[b]", "a < b", "rows are not sorted by sequence",
      equivalent="groups are then smaller, and their scores the same"),
    M(SCORE, "logits(m, c) = kNothing;", "", "an empty candidate keeps what stood there"),
    M(SCORE, "task.windows.sequence[m], token, tile.keys", "task.windows.sequence[0], token, tile.keys",
      "candidates of another sequence"),
    M(SCORE, "load_queries(task.queries, m, 0, tile);", "load_queries(task.queries, 0, 0, tile);",
      "candidates scored for another row"),
    M(SCORE, "logits(m, scored[i]) = sums[i];", "logits(m, first + i) = sums[i];", "packed columns are not spread again"),
    # route
    M(ROUTE, "task.tails.empty() ? 0 : 1", "0", "a row's last block is not its own"),
    M(ROUTE, "sum += relu(products[c]) *", "sum += products[c] *", "no relu in energies"),
    M(ROUTE, "relu(dot(task.queries, m, h, &task.tails(m, 0)))", "dot(task.queries, m, h, &task.tails(m, 0))",
      "no relu of the tail"),
    M(ROUTE, "* static_cast<double>(tile.scales[c]);", ";", "no key scale in energies"),
    M(ROUTE, "std::abs(static_cast<double>(task.queries.weights(m, h)))", "task.queries.weights(m, h)",
      "energies keep the sign of a weight"),
    M(ROUTE, "static_cast<double>(std::max<i64>(1, visible))", "1.0", "energies are sums, not means"),
    M(ROUTE, "std::fill(energy, energy + count * heads, 0.0);", "", "energies of the rows before are added"),
    M(ROUTE, "end = std::max(end, last_of(m));", "end = last_of(m);", "energies: rows in order of their ends"),
    M(ROUTE, "begin = std::min<i64>(begin, task.windows.begin[m]);", "", "energies: rows in order of their begins"),
    M(ROUTE, "task.windows.sequence[m], end - 1, tile.keys", "task.windows.sequence[m], task.windows.begin[m], tile.keys",
      "selfk looks at the first key"),
    M(ROUTE, "weight * relu(dot(task.queries, m, h, tile.keys)) * scale",
      "weight * relu(dot(task.queries, m, h, tile.keys))", "selfk: no key scale"),
    M(ROUTE, "weight * relu(dot(task.queries, m, h, tile.keys)) * scale",
      "weight * dot(task.queries, m, h, tile.keys) * scale", "selfk: no relu"),
    M(ROUTE, "energy[h] = std::abs(weight)", "energy[h] = weight", "gate: no abs"),
    M(ROUTE, "energy[h] = task.norms(m, h)", "energy[h] = task.norms(0, h)", "qnorm of another row"),
    M(ROUTE, "task.first_row + m, h)", "m, h)", "random heads depend on chunks"),
    M(ROUTE, "task.windows.sequence[m] == task.windows.sequence[m - 1]", "true", "rows of two sequences share a tile"),
    # pool
    M(POOL, "sum[d] += scale * key[d]", "sum[d] += key[d]", "no key scale in means"),
    M(POOL, "ranges.sequence[i] == ranges.sequence[i - 1] && ", "", "a range continues another sequence's sum"),
    M(POOL, "ranges.end[i] >= ranges.end[i - 1]", "true", "a shorter range continues a longer one's sum"),
    M(POOL, "ranges.end[i] - ranges.begin[i]));", "ranges.end[i] - ranges.begin[i] + 1));", "a mean of one too many"),
    M(POOL, "double sum[Tile::kMaxDepth] = {};", "float sum[Tile::kMaxDepth] = {};", "means add up in f32"),
    # tile and gemm
    M(TILE, "keys.scales(at.page, at.slot);", "keys.scales(at.page, 0);", "the scale of a page's first key"),
    M(TILE, "first + i, tile.keys + i * dim)", "first, tile.keys + i * dim)", "the first key of a tile, again and again"),
    M(TILE, "widen(&values(m, 0, 0), heads * dim,", "widen(&values(m, 0, 0), (heads - 1) * dim,",
      "the last head is not loaded"),
    M(GEMM, "kTileColumns, depth, 1.0f", "kTileColumns, depth - 1, 1.0f", "the last dimension is dropped"),
    # plan
    M(PLAN, "backend.select({scores, windows, {}, true, chosen});", "backend.select({scores, windows, {}, false, chosen});",
      "the plan does not force the end blocks"),
    M(PLAN, "options.first_row + first,", "options.first_row,", "random heads start again in every chunk"),
    M(PLAN, "options.first_row + first,", "first,", "random heads forget the problem's first row"),
    M(PLAN, "backend.score({queries, problem.keys, windows, seen.listed,",
      "backend.score({scoring, problem.keys, windows, seen.listed,", "the re-rank uses routed heads"),
    M(PLAN, "problem.norms.slice(first, count)", "problem.norms.slice(0, count)", "norms of the first chunk"),
    M(PLAN, "slice(head_blocks->windows(), first, count)", "slice(head_blocks->windows(), 0, count)",
      "head blocks of the first chunk"),
    M(PLAN, "head_blocks->tail_begin.view.slice(first, count)", "head_blocks->tail_begin.view.slice(0, count)",
      "tails of the first chunk"),
    M(PLAN, "slice(token_blocks->windows(), first, count)", "slice(token_blocks->windows(), 0, count)",
      "token blocks of the first chunk"),
    M(PLAN, "token_blocks->row_origin.view.slice(first, count)", "token_blocks->row_origin.view.slice(0, count)",
      "block origins of the first chunk"),
    M(PLAN, "follow.heads.slice(first, count)", "follow.heads.slice(0, count)", "followed heads of the first chunk"),
    M(PLAN, "follow.blocks.empty() ? chosen : follow.blocks.slice(first, count)", "chosen", "blocks are not followed"),
    M(PLAN, "follow.candidates.empty() ? kept : follow.candidates.slice(first, count)", "kept",
      "candidates are not followed"),
    # blocks
    M(BLOCKS, "(problem.begin[m] - region.begin) / block_size", "ceil_div(problem.begin[m] - region.begin, block_size)",
      "the first block is rounded up"),
    M(BLOCKS, "ceil_div(problem.end[m] - region.begin, block_size)", "(problem.end[m] - region.begin) / block_size",
      "the last block is rounded down"),
    M(BLOCKS, "std::min(token + block_size, region.end)", "token + block_size", "a block ends behind its region"),
    M(BLOCKS, "(reached - 1) * block_size", "reached * block_size", "the tail begins a block late"),
    M(BLOCKS, "region.begin + skipped * block_size", "region.begin", "blocks are counted from the region's begin"),
    M(BLOCKS, "std::max<i64>(region.end, problem.end[m])", "problem.end[m]", "layout: rows in order of their ends"),
    M(BLOCKS, "window == BlockWindow::upstream && !problem.shape.paged", "window == BlockWindow::upstream",
      "upstream blocks of paged keys are flat"),
    M(BLOCKS, "{problem.sequence[m], problem.begin[m]}", "{problem.sequence[m], 0}", "windows share blocks"),
    # routing, which all backends share
    M(ROUTING, "std::isnan(y) ? !std::isnan(x) : x > y", "std::isnan(y) ? !std::isnan(x) : x >= y",
      "heads: ties to the higher head"),
    M(ROUTING, "std::isnan(y) ? !std::isnan(x) : x > y", "std::isnan(x) ? !std::isnan(y) : x > y", "heads: NaN ranks highest"),
    M(ROUTING, "std::sort(order.begin(), order.end());", "", "heads are not in order"),
    M(ROUTING, "from(m, head, d)", "from(m, i, d)", "the first heads are gathered"),
    M(ROUTING, "d < from.shape[2]; ++d", "d < from.shape[2] - 1; ++d", "gathered heads lose their last dimension"),
    M(ROUTING, "task.queries.weights(m, head)", "task.queries.weights(m, i)", "weights of the first heads are gathered"),
    M(ROUTING, "kGolden * (static_cast<u64>(row) + 1)", "kGolden", "random heads are the same in every row"),
    M(ROUTING, "mix64(seed + kGolden", "mix64(kGolden", "random heads ignore the seed"),
    # inputs, which everything shares
    M(INPUTS, "token / page_size)", "(token + 1) / page_size)", "a page's last token is looked for in the next"),
    M(INPUTS, "token % page_size", "(token + 1) % page_size", "slots are off by one"),
    M(INPUTS, "keys.block_table(sequence, token", "keys.block_table(0, token", "the first sequence's pages"),
    M(INPUTS, "origin[m] + run * length", "run * length", "candidates forget their origin"),
    M(INPUTS, "run * length + column % length", "run * length", "the first token of a run, again and again"),
    M(INPUTS, "token < windows.end[m]", "token <= windows.end[m]", "the token behind the window is visible"),
    M(INPUTS, "queries.weights.slice(first, count)", "queries.weights.slice(0, count)", "weights of the first chunk"),
    M(INPUTS, "windows.end.slice(first, count)", "windows.end.slice(0, count)", "window ends of the first chunk"),
    # equivalent
    M(SELECT, "4.0 * std::sqrt(expected) + 8.0", "0.0", "the sample's bound is taken without room",
      equivalent="the bound is a hint: a row that it does not fit is searched again without one"),
    M(SELECT, "if (above > k) {", "if (above >= k) {", "exactly k columns above the bound are sorted too",
      equivalent="k of k are all of them"),
    M(SELECT, "c + kLanes <= n;", "c + kLanes < n;", "the last whole group goes through the loop for the rest",
      equivalent="both loops do the same"),
    M(SCORE, "if (!sees_tile(m)) continue;", "", "rows that do not see a tile take part in it",
      equivalent="no column lies in their part of the tile"),
    M(TILE, "std::fill(tile.queries + used * dim, tile.queries + rows * dim, 0.0f);", "", "a tile's spare rows hold anything",
      equivalent="products of spare rows are never read"),
]


def mutated(text, mutant):
    """`text` with the change, or None when the table does not fit it."""
    parts = text.split(mutant.old)
    if len(parts) != mutant.of + 1 or not 1 <= mutant.which <= mutant.of:
        return None
    at = mutant.which
    return mutant.old.join(parts[:at]) + mutant.new + mutant.old.join(parts[at:])


def find_misfits(mutants):
    return [m for m in mutants if mutated((ROOT / m.file).read_text(), m) is None]


class Work:
    def __init__(self, folder, jobs):
        self.source, self.jobs = folder / "source", jobs
        self.build = self.source / "build" / "dev"
        self.log = folder / "build.log"
        self.environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "MISA_RANDOM_CASES": "2000",
                            "CCACHE_BASEDIR": str(folder), "CCACHE_NOHASHDIR": "1"}
        if shutil.which("ccache"):
            self.environment.setdefault("CMAKE_CXX_COMPILER_LAUNCHER", "ccache")
        self.seconds = {}  # of each test, unmutated

    def command(self, arguments):
        with self.log.open("a") as log:
            return subprocess.run(arguments, cwd=self.source, env=self.environment, stdout=log, stderr=log).returncode

    def prepare(self):
        # An older copy keeps its build, and files that did not change keep their times.
        for top in ["CMakeLists.txt", "CMakePresets.json", "backends", "cli", "core", "docs", "profiles", "scripts", "tests"]:
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
        if self.command(CONFIGURE) != 0:
            sys.exit(f"mutate.py: cmake could not configure; see {self.log}")
        for test in TESTS:
            if not self.compile(test):
                sys.exit(f"mutate.py: {test} does not build unmutated; see {self.log}")
            start = time.monotonic()
            failure = self.run(test, 600)
            if failure:
                sys.exit(f"mutate.py: {test} fails unmutated: {failure}")
            self.seconds[test] = time.monotonic() - start

    def compile(self, test):
        return self.command(["cmake", "--build", str(self.build), "--target", test, "-j", str(self.jobs)]) == 0

    def run(self, test, timeout):
        """How the test failed; empty when it passed."""
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            done = subprocess.run([self.build / "tests" / test, "--abort-after=1"], cwd=self.source, timeout=timeout,
                                  env=self.environment, capture_output=True, text=True, errors="replace", preexec_fn=limit)
        except subprocess.TimeoutExpired:
            return "timeout"
        if done.returncode == 0:
            return ""
        name = re.search(r"TEST CASE:\s+(.*)", done.stdout)
        crash = "crash in " if done.returncode < 0 or "SIG" in done.stdout else ""
        return crash + (name.group(1) if name else f"exit status {done.returncode}")

    def judge(self, mutant):
        """('killed', by what), ('survived', '') or ('error', why)."""
        path = self.source / mutant.file
        original = path.read_text()
        path.write_text(mutated(original, mutant))
        try:
            for test in sorted(TESTS, key=self.seconds.get):
                if not self.compile(test):
                    return "error", f"does not compile; see {self.log}"
                failure = self.run(test, max(LEAST_TIMEOUT_SECONDS, 10 * self.seconds[test]))
                if failure:
                    return "killed", f"{test}: {failure}"
        finally:
            path.write_text(original)
        return "survived", ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the table and stop")
    parser.add_argument("--only", metavar="PATTERN", default="", help="mutants whose file or meaning match this regular expression")
    parser.add_argument("--work", metavar="DIR", type=Path, help="where to build; kept, so that the next run is fast")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    mutants = [m for m in MUTANTS if re.search(arguments.only, f"{m.file}: {m.meaning}")]
    misfits = find_misfits(mutants)
    for m in misfits:
        print(f"{m.file}: {m.meaning}: ERROR: needs {m.of} of {m.old!r}")
    if misfits:
        return 2
    if arguments.list:
        for m in mutants:
            print(f"{m.file}: {m.meaning}" + (f" (equivalent: {m.equivalent})" if m.equivalent else ""))
        return 0

    with tempfile.TemporaryDirectory(prefix="misa-mutate-") as temporary:
        folder = (arguments.work or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        work = Work(folder, arguments.jobs)
        work.prepare()
        counts = {"killed": 0, "survived": 0, "error": 0, "equivalent": 0}
        for m in mutants:
            outcome, by = work.judge(m)
            said = {"killed": f"killed by {by}", "survived": "SURVIVED", "error": f"ERROR: {by}"}[outcome]
            if m.equivalent and outcome == "survived":
                outcome, said = "equivalent", f"equivalent: {m.equivalent}"
            elif m.equivalent and outcome == "killed":
                outcome, said = "error", f"ERROR: marked equivalent, {said}"
            counts[outcome] += 1
            print(f"{m.file}: {m.meaning}: {said}", flush=True)
    print(f"{len(mutants) - counts['equivalent']} mutants, {counts['killed']} killed, {counts['survived']} survived"
          f" ({counts['equivalent']} equivalent ones not counted, {counts['error']} errors)")
    return 2 if counts["error"] else 1 if counts["survived"] else 0


if __name__ == "__main__":
    sys.exit(main())
