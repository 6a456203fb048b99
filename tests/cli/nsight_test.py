#!/usr/bin/env python3
"""Which ranges a profiler sees, and whether `misa-prof nsight` announces them.

usage: nsight_test.py BINARY [EMULATOR...]  [-- unittest arguments]

A library of ours stands in for the profiler: MISA_NVTX_RECORDER is its path, empty in a build without NVTX.
"""
import collections
import os
import re
import shlex
import unittest

from program import PROGRAM, Cli, main, misa, strict_json

RECORDER = os.environ.get("MISA_NVTX_RECORDER", "")
TINY = ["--model", "tiny", "--workload", "ci"]
# What the load of the machine changes in a result.
LOAD = re.compile(r"/(bound|roof_fraction_reason|ratio_reason|closure/reason|contention/reason)$|^/warnings/|^/complete$")
DOMAIN = "misa-prof"


def fields(value, path=""):
    """Every path in a JSON value: what it says, without times and what follows from them or from the machine's load."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * (not LOAD.search(path)) + [one for key, part in inner for one in fields(part, f"{path}/{key}")]


def few(*words):
    """--max-memory, so little for `words` that rows go through in several chunks."""
    refused = misa("nsight", *words, "--backend", "cpu", "--max-memory", "700000")
    return ["--max-memory", str(int(1.01 * int(re.search(r"needs (\d+) bytes", refused.stderr).group(1))))]


@unittest.skipUnless(RECORDER, "built without NVTX")
class Nsight(Cli):
    def record(self, *arguments, **options):
        """What a profiler is told while the program runs with `arguments`: lines of the recorder."""
        path = self.folder / "record"
        path.unlink(missing_ok=True)
        self.succeeds(*arguments, env={"NVTX_INJECTION64_PATH": RECORDER, "MISA_NVTX_RECORD": str(path)}, **options)
        return path.read_text().splitlines() if path.exists() else []

    def stacks(self, lines):
        """Every range, as the names from the outermost to itself, in the order they begin."""
        open_ranges, seen = [], []
        for line in lines:
            if line.startswith("push "):
                open_ranges.append(line.removeprefix(f"push {DOMAIN} "))
                seen.append(tuple(open_ranges))
            elif line.startswith("pop "):
                self.assertTrue(open_ranges, "a range ends that never began")
                open_ranges.pop()
        self.assertEqual(open_ranges, [], "a range does not end")
        return seen

    def announced(self, *arguments):
        """Of `misa-prof nsight`: {indexer: {stage range: times}}, {range: times that it says to expect}, command lines."""
        text = self.succeeds("nsight", *arguments)
        ranges = {}
        for name, listed in re.findall(r"^# ([\w-]+): (.*) \(\d+ of \d+ rows at a time\)$", text, re.M):
            ranges[name] = {word: int(n) for n, word in re.findall(r"(\d+) (stage\.[\w+]+)", listed)}
        expect = re.search(r"^# expect (.*)$", text, re.M).group(1)
        counts = {word: int(n) for n, word in re.findall(r"(\d+) ranges? ([\w.+]+)", expect)}
        return ranges, counts, [shlex.split(line) for line in text.splitlines() if not line.startswith("#")]

    def test_a_profiler_sees_one_domain_of_registered_names(self):
        lines = self.record("profile", *TINY, "--profile-once")
        self.assertEqual([line for line in lines if line.startswith("domain")], [f"domain {DOMAIN}"])
        registered = [line.removeprefix(f"string {DOMAIN} ") for line in lines if line.startswith("string")]
        self.assertEqual(len(registered), len(set(registered)), "a name is registered twice")
        pushed = {line.removeprefix(f"push {DOMAIN} ") for line in lines if line.startswith("push")}
        self.assertLessEqual(pushed, set(registered))
        self.assertLessEqual({"case dsa cpu tiny/ci", "warmup", "measure", "stage.score"}, pushed)

    def test_a_case_holds_warm_up_or_measure_and_only_measure_holds_stages(self):
        for extra in (["--profile-once"], ["--samples", "2"], ["--profile-once", "--warm-up", "0"]):
            for stack in self.stacks(self.record("profile", *TINY, *extra)):
                self.assertRegex("/".join(stack), r"\Acase [\w-]+ cpu tiny/ci(/warmup|/measure(/stage\.[a-z+]+)?)?\Z")

    def test_once_is_one_measured_run_of_each_indexer_after_its_first(self):
        for warm_up in (0, 1, 3):
            stacks = self.stacks(self.record("profile", *TINY, "--profile-once", "--warm-up", warm_up))
            runs = collections.Counter(stack for stack in stacks if len(stack) == 2)
            cases = {stack[0] for stack in stacks}
            self.assertEqual(len(cases), 4)
            for case in cases:
                self.assertEqual(runs[case, "measure"], 1)
                self.assertEqual(runs[case, "warmup"], 1 + warm_up)

    def test_the_announced_ranges_are_those_a_profiler_sees(self):
        chunked = 0
        pruned = ["--indexer", "misa-dagger,hisa"]
        for words in ([], few(*TINY), ["--indexer", "misa"], [*pruned, *few(*TINY, *pruned)], ["--router", "gate"],
                      ["--no-fusion"], ["--block-window", "upstream"]):
            words = [*TINY, *words]
            ranges, counts, _ = self.announced(*words, "--backend", "cpu")
            seen = collections.defaultdict(collections.Counter)
            stacks = self.stacks(self.record("profile", *words, "--profile-once"))
            for stack in stacks:
                if len(stack) == 3:
                    self.assertEqual(stack[1], "measure")
                    seen[stack[0].split()[1]][stack[2]] += 1
            self.assertEqual({name: dict(stages) for name, stages in seen.items()}, ranges, words)
            self.assertEqual(counts, {"measure": sum(stack[-1] == "measure" for stack in stacks)}, words)
            chunked += any(stages["stage.score"] > 1 for stages in ranges.values())
        self.assertGreater(chunked, 1, "no workload here went through in chunks")

    def test_the_count_of_a_stage_adds_up_over_the_indexers(self):
        for stage in ("pool", "score", "rerank"):
            ranges, counts, lines = self.announced(*TINY, *few(*TINY), "--stage", stage)
            total = sum(stages.get(f"stage.{stage}", 0) for stages in ranges.values())
            self.assertEqual(counts, {"measure": 4, f"stage.{stage}": total})
            self.assertEqual([line[0] for line in lines], ["nsys", "ncu"])
            self.assertEqual(lines[1][:4], ["ncu", "--nvtx", "--nvtx-include", f"{DOMAIN}@stage.{stage}/"])

    def test_the_commands_are_what_a_shell_reads_and_profile_takes(self):
        trace = self.folder / "it's a trace.safetensors"
        self.succeeds("generate", *TINY, "-o", trace)
        for words in ([*TINY, "--seed", "3"], ["--trace", trace, "--indexer", "dsa,hisa", "--no-fusion"]):
            _, counts, lines = self.announced(*words, "--backend", "cpu")
            self.assertEqual([line[0] for line in lines], ["nsys"])  # ncu has nothing to see on a CPU
            tool, program = lines[0][:lines[0].index("profile", 2) - 1], lines[0][lines[0].index("profile", 2):]
            self.assertIn(f"--nvtx-capture=measure@{DOMAIN}", tool)
            self.assertIn("--capture-range-end=none", tool)
            self.assertEqual(lines[0][len(tool)], PROGRAM[-1])
            report = strict_json(self.succeeds(*program, "--format", "json"))
            self.assertEqual(len(report["cases"]), counts["measure"])
            for case in report["cases"]:
                self.assertEqual(case["end_to_end_ns"]["samples"], 1)
                self.assertEqual({stage["time_ns"]["samples"] for stage in case["stages"]}, {1})
        _, _, lines = self.announced(*TINY, "--indexer", "misa", "--tool", "nsys")
        self.assertIn("--capture-range-end=stop", lines[0])
        self.assertIn("--backend cuda --profile-once", " ".join(lines[0]))
        self.assertEqual([line[0] for line in self.announced(*TINY, "--tool", "ncu")[2]], ["ncu"])

    def test_a_profiler_changes_nothing_that_is_printed(self):
        words = ["profile", *TINY, "--profile-once", "--format", "json", "--dump-selection"]
        environment = {"NVTX_INJECTION64_PATH": RECORDER, "MISA_NVTX_RECORD": str(self.folder / "record")}
        shown = strict_json(self.succeeds(*words, self.folder / "with.safetensors", env=environment))
        plain = strict_json(self.succeeds(*words, self.folder / "without.safetensors"))
        self.assertEqual(fields(shown), fields(plain))
        for name in ("dsa", "misa", "misa-dagger", "hisa"):
            self.assertEqual((self.folder / f"with.{name}.safetensors").read_bytes(),
                             (self.folder / f"without.{name}.safetensors").read_bytes())

    def test_what_cannot_be_profiled_is_refused(self):
        self.fails(2, "MP-E050.*no stage 'rerank': misa has pool, route, score, select", "nsight", *TINY, "--indexer",
                   "misa", "--stage", "rerank")
        self.fails(2, "MP-E050.*try: score", "nsight", *TINY, "--stage", "scores")
        self.fails(2, "MP-E052", "nsight", *TINY, "--tool", "nvprof")
        self.fails(2, "MP-E053.*cpu", "nsight", *TINY, "--tool", "ncu", "--backend", "cpu")
        self.fails(2, "MP-E012", "nsight", *TINY, "--backend", "cude")
        self.fails(2, "MP-E020", "nsight", *TINY, "--samples", "3")
        self.fails(10, "MP-E502|MP-E504", "nsight", *TINY, "--max-memory", "700000")


@unittest.skipIf(RECORDER, "built with NVTX")
class WithoutNvtx(Cli):
    def test_nsight_says_why_there_are_no_ranges(self):
        self.fails(4, "MP-E404.*NVTX", "nsight", *TINY)


class Once(Cli):
    def test_one_sample_excludes_a_number_of_samples(self):
        self.fails(2, "MP-E051", "profile", *TINY, "--profile-once", "--samples", "2")


if __name__ == "__main__":
    main()
