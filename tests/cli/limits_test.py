#!/usr/bin/env python3
"""Starts the real program and checks that its limits bind: memory, time, signals, and what a killed process leaves.

usage: limits_test.py BINARY [EMULATOR...]  [-- unittest arguments]
"""
import os
import re
import resource
import signal
import subprocess
import time

from program import FAST, PROGRAM, Cli, main, misa, strict_json, tensors
from trace_test import Problem, topk_part, write_trace

MIB = 1 << 20
LONG = ["--model", "deepseek-v3.2", "--workload", "prefill-128k"]  # 128K keys, 64 heads: a row takes 20 ms of a core


def measured(*arguments):
    """Exit status, largest resident memory in bytes, and standard error."""
    process = subprocess.Popen([*PROGRAM, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               text=True)
    errors = process.stderr.read()
    process.stderr.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * 1024, errors


class Memory(Cli):
    def setUp(self):
        super().setUp()
        if len(PROGRAM) > 1:
            self.skipTest("an emulator's memory is not the program's")
        if "-fsanitize" in self.succeeds("--version"):
            self.skipTest("a sanitizer's memory is not the program's")
        # The program itself, its libraries and threads: a workload of a few kilobytes.
        _, self.program, _ = measured("compare", "--model", "tiny", "--workload", "ci", "--rows", "1", "--indexer", "dsa")

    def resident(self, *arguments):
        status, resident, errors = measured(*arguments)
        return status, resident - self.program, errors

    def test_a_dry_run_of_compare_refuses_what_the_run_refuses(self):
        tiny = ["compare", "--model", "tiny", "--workload", "ci", "--rows", "4"]
        refused = 0
        for arguments in (["--indexer", "dsa"], ["--indexer", "misa", "--against-indexer", "dsa"],
                          ["--indexer", "hisa", "--poison-unseen"], ["--indexer", "dsa", "--write-golden", "goldens"]):
            limit = MIB // 4
            while True:
                dry = misa(*tiny, *arguments, "--max-memory", limit, "--dry-run", cwd=self.folder)
                run = misa(*tiny, *arguments, "--max-memory", limit, cwd=self.folder)
                self.assertEqual((dry.returncode, dry.stderr), (run.returncode, run.stderr), arguments)
                if run.returncode == 0:
                    break
                self.assertIn("MP-E502", run.stderr)
                refused += 1
                limit = int(re.search(r"needs (\d+) bytes", run.stderr).group(1))
        self.assertGreaterEqual(refused, 4)
        for arguments in (["--against", "cpu"], ["--against", "orcle"], ["--against", "nowhere"], ["--min-recall", "0.5"],
                          ["--indexer", "dsa", "--against-indexer", "dsa"], ["--against-indexer", "dsb"],
                          ["--inject", "swaped-token"], ["--against", "cpu", "--against-indexer", "dsa"]):
            run, dry = misa(*tiny, *arguments), misa(*tiny, *arguments, "--dry-run")
            self.assertIn(run.returncode, (2, 3), arguments)
            self.assertEqual((dry.returncode, dry.stderr), (run.returncode, run.stderr), arguments)

    def test_a_dry_run_of_profile_refuses_the_options_that_the_run_refuses(self):
        trace = self.folder / "w.safetensors"
        self.succeeds("generate", "--model", "tiny", "--workload", "ci", "-o", trace)
        for arguments in (["--profile-once", "--samples", "2"], ["--dump-selection", "x.bin"], ["-o", f"table:{trace}"],
                          ["--dump-selection", trace, "--indexer", "dsa"], ["-o", "a.json", "-o", "a.json"]):
            run = misa("profile", "--trace", trace, *arguments, cwd=self.folder)
            dry = misa("profile", "--trace", trace, *arguments, "--dry-run", cwd=self.folder)
            self.assertNotEqual(run.returncode, 0, arguments)
            self.assertEqual((dry.returncode, dry.stderr), (run.returncode, run.stderr), arguments)

    def test_a_dry_run_of_a_rating_plans_one_side_and_what_it_is_rated_against(self):
        shown = self.succeeds("compare", "--model", "tiny", "--workload", "ci", "--against-indexer", "dsa", "--dry-run")
        self.assertEqual(re.findall(r"(?m)^([a-z-]+): ", shown), ["misa", "misa-dagger", "hisa", "dsa"])
        self.assertNotIn("backend oracle", shown)

    def test_the_bytes_that_a_refusal_names_suffice_and_bound_what_is_resident(self):
        trace = self.folder / "long.safetensors"
        self.succeeds("generate", *LONG, "--rows", "4", "-o", trace)
        problem = Problem(31, 150, 3000)
        wide = write_trace(self.folder / "wide.safetensors", {},
                           problem.parts(topk=topk_part([range(2048)], 2048), topk_row=("I32", [1], bytes(4))))
        once = ["--samples", "1", "--warm-up", "0"]
        # What is recorded is any selection: its misses pass. It takes more than the indexer's few tokens.
        rated = ["compare", "--trace", wide, "--top-k", "8", "--max-miss", "4096", "--indexer", "hisa"]
        ids = self.folder / "ids.safetensors"
        selected = tensors(wide)
        write_trace(ids, {}, {name: selected[name] for name in ("topk", "topk_row")})
        for arguments in ([*rated, "--arithmetic", "f32"],
                          ["compare", "--trace", wide, "--selection", ids, "--max-miss", "4096", "--arithmetic", "f32"],
                          [*rated, "--against-indexer", "dsa"],
                          ["compare", *LONG, "--rows", "1", "--indexer", "dsa"],
                          ["compare", *LONG, "--rows", "1", "--indexer", "hisa", "--block-size", "1"],
                          ["compare", *LONG, "--rows", "1", "--indexer", "misa-dagger", "--candidates", "100000",
                           "--top-k", "100000"],
                          ["compare", *LONG, "--rows", "1", "--indexer", "misa-lr", "--sampled-keys", "30000"],
                          ["compare", "--trace", trace, "--rows", "1", "--indexer", "misa", "--poison-unseen"],
                          ["compare", *LONG, "--rows", "1", "--indexer", "hisa", "--against-indexer", "dsa"],
                          ["compare", *LONG, "--rows", "1", "--indexer", "dsa,hisa", "--top-k", "100000",
                           "--write-golden", self.folder / "goldens", "--force"],
                          ["profile", *LONG, "--rows", "1", *once],
                          ["profile", "--trace", trace, "--rows", "3", *once, "--indexer", "misa"],
                          ["generate", *LONG, "--rows", "1", "-o", self.folder / "again.safetensors"],
                          ["inspect", trace]):
            limit, refusals = MIB, 0
            while True:
                status, resident, errors = self.resident(*arguments, "--max-memory", limit)
                if status == 0:
                    break
                self.assertEqual(status, 10, f"{arguments}: {errors}")
                self.assertLess(resident, limit + 20 * MIB, f"{arguments}, refused: {errors}")
                needed = int(re.search(r"(?:needs|take) (?:at least )?(\d+) bytes", errors).group(1))
                self.assertGreater(needed, limit, f"{arguments}: {errors}")
                limit, refusals = needed, refusals + 1
            what = f"{arguments}: {resident / MIB:.1f} MiB resident, {limit / MIB:.1f} MiB named"
            self.assertGreater(refusals, 0, what)
            self.assertLess(refusals, 5, what)
            self.assertLessEqual(resident, limit + MIB, what)
            self.assertGreater(resident, limit / 8, what)  # a bound that says something
            self.assertEqual(self.resident(*arguments, "--max-memory", limit - 1)[0], 10, what)

    def test_a_block_larger_than_the_window_takes_the_window(self):
        for size in (67108864, 2147483647):
            for window in ("visible", "upstream"):
                status, resident, errors = self.resident(
                    "compare", "--model", "tiny", "--workload", "ci", "--indexer", "hisa", "--blocks", "2",
                    "--block-size", size, "--block-window", window, "--max-memory", "64MiB")
                self.assertEqual(status, 0, errors)
                self.assertLess(resident, 16 * MIB)

    def test_more_than_any_machine_has_is_refused_before_it_is_allocated(self):
        for extra in (["--indexer", "dsa", "--top-k", "2147483647"], ["--indexer", "misa-dagger", "--top-k", "2147483647", "--candidates",
                                                  "2147483647"]):
            for command in ("profile", "compare"):
                status, resident, errors = self.resident(command, *LONG, "--rows", "64", *extra, "--max-memory", "1GiB")
                self.assertEqual(status, 10, errors)
                self.assertRegex(errors, r"needs \d{12,} bytes.*the limit is 1073741824")
                self.assertLess(resident, 260 * MIB)  # roofs were measured before


class Budget(Cli):
    def test_a_budget_binds_from_the_first_run_on_and_with_samples_too(self):
        arguments = ["profile", *LONG, "--rows", "4", "--format", "json"]
        start = time.monotonic()
        one = strict_json(self.succeeds(*arguments, "--samples", "1", "--warm-up", "0"))
        least = time.monotonic() - start
        self.assertNotIn("MP-W051", [warning["id"] for warning in one["warnings"]])
        for extra, asked in ((["--budget", "0", "--samples", "40"], "40"), (["--budget", "0.1"], "6")):
            start = time.monotonic()
            report = strict_json(self.succeeds(*arguments, *extra))
            taken = time.monotonic() - start
            self.assertLess(taken, 3 * least + 3, "as long as one sample of each takes, and no warm-up")
            for case in report["cases"]:
                self.assertEqual(case["end_to_end_ns"]["samples"], 1)
                self.assertEqual({stage["time_ns"]["samples"] for stage in case["stages"]}, {1})
            [cut] = [warning for warning in report["warnings"] if warning["id"] == "MP-W051"]
            self.assertRegex(cut["text"], f"after 1 of {asked} samples")

    def test_samples_are_taken_when_the_budget_holds_them(self):
        report = strict_json(self.succeeds("profile", *FAST[:4], "--samples", "7", "--budget", "100", "--format", "json"))
        self.assertEqual({case["end_to_end_ns"]["samples"] for case in report["cases"]}, {7})
        self.assertNotIn("MP-W051", [warning["id"] for warning in report["warnings"]])

    def test_a_long_run_says_so_before_it_begins(self):
        process = subprocess.Popen([*PROGRAM, "profile", *FAST[:4], "--samples", "1000000", "--budget", "500"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stderr.close)
        start = time.monotonic()
        line = process.stderr.readline()
        self.assertRegex(line, r"\Amisa-prof: this takes about (\d+) s: the first of at most 8\d{6} runs took \S+ s\n\Z")
        self.assertGreater(int(re.search(r"about (\d+) s", line).group(1)), 5)
        self.assertLess(time.monotonic() - start, 60)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


class Signals(Cli):
    def interrupt(self, arguments, number, delay):
        """Seconds from the signal to the end, or None when it had ended before."""
        process = subprocess.Popen([*PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True)
        try:
            process.wait(timeout=delay)
        except subprocess.TimeoutExpired:
            pass
        ended = process.poll() is not None
        start = time.monotonic()
        process.send_signal(number)
        self.output, self.errors = process.communicate(timeout=300)
        taken = time.monotonic() - start
        self.status = process.returncode
        return None if ended else taken

    def test_every_command_ends_soon_wherever_the_signal_meets_it(self):
        big = self.folder / "big.safetensors"
        self.succeeds("generate", *LONG, "--rows", "64", "-o", big)
        times = {}
        for number, (name, arguments) in enumerate({
                "profile": ["profile", *LONG, "--rows", "512"],
                "profile, misa-lr": ["profile", *LONG, "--rows", "256", "--indexer", "misa-lr", "--sampled-keys", "20000"],
                "compare": ["compare", *LONG, "--rows", "256"],
                "compare, robust": ["compare", *LONG, "--rows", "4", "--indexer", "misa", "--robust"],
                "oracle": ["profile", *LONG, "--rows", "64", "--backend", "oracle"],
                "oracle, one row": ["profile", *LONG, "--rows", "1", "--backend", "oracle"],
                "generate": ["generate", *LONG, "--rows", "100000", "-o", self.folder / "new.safetensors"],
                "inspect": ["inspect", big],
                "selftest": ["selftest", "--seeds", "100000"],
        }.items()):
            for delay in (0.7, 2.5):
                sent = signal.SIGINT if (number + (delay > 1)) % 2 else signal.SIGTERM
                taken = self.interrupt(arguments, sent, delay)
                if taken is None:
                    continue
                times[name, delay] = taken
                self.assertEqual(self.status, -sent, f"{name} after {delay} s: {self.errors}")
                self.assertIn("interrupted", self.errors)
                self.assertLess(taken, 2 if len(PROGRAM) == 1 else 60, f"{name} after {delay} s")
        print("\n" + "\n".join(f"{taken:7.3f} s  {name}, after {delay} s" for (name, delay), taken in times.items()))
        self.assertGreater(len(times), 10)
        self.only_files("big.safetensors")

    def test_what_was_done_before_is_written_and_what_was_cut_short_is_not(self):
        path = self.folder / "report.json"
        self.interrupt(["profile", *LONG, "--rows", "64", "--samples", "1000", "--budget", "600", "--indexer",
                        "misa,dsa", "-o", path], signal.SIGINT, 5)
        report = strict_json(path.read_text())
        self.assertFalse(report["complete"])
        for case in report["cases"]:
            raw = (case["end_to_end_ns"] or {"raw": []})["raw"]
            if len(raw) > 2:  # a run that was cut short would be shorter than all others
                self.assertGreater(min(raw), 0.2 * sorted(raw)[len(raw) // 2])
        path.unlink()
        self.interrupt(["compare", *LONG, "--rows", "64", "-o", path], signal.SIGTERM, 3)
        report = strict_json(path.read_text())
        self.assertFalse(report["complete"])
        self.assertNotEqual(report["cases"][-1]["verdict"], "passed")
        self.assertEqual(report["cases"][-1]["explanation"], "interrupted")


class JsonLines(Cli):
    def test_a_killed_process_leaves_whole_lines(self):
        path = self.folder / "run.jsonl"
        path.write_text("an older result\n")
        with subprocess.Popen([*PROGRAM, "profile", *FAST[:4], "--samples", "1000000", "--budget", "600", "-o", path],
                              stderr=subprocess.PIPE, text=True) as process:
            process.stderr.readline()  # the estimate: the first run is over
            process.send_signal(signal.SIGKILL)
        text = path.read_text()
        self.assertTrue(text.endswith("\n"))
        records = [strict_json(line) for line in text.splitlines()]
        self.assertEqual(records[0]["record"], "header")
        self.assertNotIn("footer", [record["record"] for record in records])
        self.only_files("run.jsonl")

    def test_lines_come_as_they_are_known(self):
        with subprocess.Popen([*PROGRAM, "profile", *FAST[:4], "--samples", "1000000", "--budget", "600", "--format",
                               "jsonl"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            header = strict_json(process.stdout.readline())
            self.assertEqual(header["record"], "header")
            process.send_signal(signal.SIGINT)
            rest = [strict_json(line) for line in process.stdout.read().splitlines()]
        self.assertEqual([record["record"] for record in rest], ["case"] * 4 + ["footer"])
        self.assertFalse(rest[-1]["complete"])
        self.assertEqual(process.returncode, -signal.SIGINT)

    def test_streamed_and_whole_results_of_a_run_agree(self):
        self.succeeds("profile", *FAST, "-o", self.folder / "r.json", "-o", self.folder / "r.jsonl", "-o", "-")
        whole = strict_json((self.folder / "r.json").read_text())
        records = [strict_json(line) for line in (self.folder / "r.jsonl").read_text().splitlines()]
        self.assertEqual([record["record"] for record in records], ["header"] + ["case"] * 4 + ["footer"])
        self.assertEqual([record["case"] for record in records[1:-1]], whole["cases"])
        for key in ("workload", "warnings", "measurement", "complete"):
            self.assertEqual(records[-1][key], whole[key])
        self.assertTrue(whole["complete"])


    def test_a_disk_that_fills_up_leaves_whole_lines_too(self):
        whole = self.folder / "whole.jsonl"
        self.succeeds("profile", *FAST, "-o", whole)
        lines = whole.read_text().splitlines()
        middle = len(lines[0]) + 1 + len(lines[1]) // 2

        def nearly_full():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (middle, middle))

        cut = self.folder / "cut.jsonl"
        result = subprocess.run([*PROGRAM, "profile", *FAST, "-o", str(cut)], capture_output=True, text=True,
                                check=False, preexec_fn=nearly_full)
        self.assertEqual(result.returncode, 10, result.stderr)
        self.assertRegex(result.stderr, "MP-E106.*cut.jsonl; try: a larger limit of file sizes")
        self.assertTrue(cut.read_text().endswith("\n"))
        self.assertEqual([strict_json(line)["record"] for line in cut.read_text().splitlines()], ["header"])


class Overwriting(Cli):
    def test_a_folder_that_cannot_be_made_is_refused_before_anything_runs(self):
        file = self.folder / "file"
        file.write_text("")
        for option in ("--write-golden", "--bundle"):
            for where in (file, file / "under" / "it"):
                result = misa("compare", *LONG, option, where)  # a minute, if it ran
                self.assertEqual(result.returncode, 10)
                self.assertRegex(result.stderr, "MP-E605: the folder cannot be made: Not a directory; .*file.*; try: ")
                self.assertEqual(result.stdout, "")
        self.only_files("file")

    case = ["compare", "--model", "tiny", "--workload", "ci", "--indexer", "dsa,misa"]

    def contents(self):
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def test_goldens_and_bundles_overwrite_nothing_unless_forced(self):
        failing = [*self.case[:-1], "dsa", "--inject", "swapped-token"]
        for arguments, status in (([*self.case, "--write-golden", self.folder], 0), ([*failing, "--bundle", self.folder], 1)):
            self.assertEqual(misa(*arguments).returncode, status)
            before = self.contents()
            self.assertGreater(len(before), 1)
            self.fails(2, "MP-E640: '.*' is there already.*--force", *arguments)
            for name in sorted(before):  # any one of them
                for other in before:
                    if other != name:
                        (self.folder / other).unlink()
                (self.folder / name).write_bytes(b"mine")
                self.fails(2, f"MP-E640: '.*{re.escape(name)}'", *arguments)
                self.assertEqual(self.contents(), {name: b"mine"})
                self.assertEqual(misa(*arguments, "--force").returncode, status)
                self.assertEqual(set(self.contents()), set(before))
                self.assertNotEqual(self.contents()[name], b"mine")
            for path in self.folder.iterdir():
                path.unlink()


if __name__ == "__main__":
    main()
