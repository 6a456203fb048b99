#!/usr/bin/env python3
"""A sweep measures every case once, says from which length an indexer pays, and can be gone on with.

usage: sweep_test.py BINARY [EMULATOR...]  [-- unittest arguments]
"""
import csv
import io
import signal
import subprocess
import time

from program import PROGRAM, ROOT, Cli, main, misa, needs_jsonschema, strict_json

# With so little memory no peaks are measured, which takes longer than such a sweep.
SMALL = ["--model", "tiny", "--workload", "ci", "--rows", "4", "--budget", "0", "--samples", "1", "--warm-up", "0",
         "--max-memory", "48MiB"]
LENGTHS = ["--context", "512,1k"]


def lines(path):
    return [strict_json(line) for line in path.read_text().splitlines()]


def keys(cases):
    return sorted(case["key"] for case in cases)


class Sweeps(Cli):
    def sweeps(self, *words):
        result = misa("sweep", *SMALL, *words)
        self.assertEqual(result.returncode, 0, f"{words}: {result.stderr}")
        return result.stdout

    def sweep(self, *words):
        return strict_json(self.sweeps(*words, "--format", "json"))

    def plan(self, *words):
        return self.sweeps(*words, "--dry-run")


class Cases(Sweeps):
    def test_axes_that_do_not_affect_an_indexer_make_no_further_case_of_it(self):
        document = self.sweep(*LENGTHS, "--indexer", "dsa,misa,hisa", "--active-heads", "2,4")
        names = [case["name"] for case in document["cases"]]
        self.assertEqual(names, ["dsa", "misa h 2", "misa h 4", "hisa"] * 2)
        self.assertEqual([case["points"] for case in document["cases"]], [2, 1, 1, 2] * 2)
        self.assertEqual([case["group"] for case in document["cases"]], [0] * 4 + [1] * 4)
        self.assertNotIn("active-heads", document["cases"][3]["axes"])
        self.assertEqual(document["cases"][2]["axes"]["active-heads"], 4)
        self.assertEqual(document["cases"][2]["case"]["parameters"]["active_heads"], 4)
        self.assertEqual([axis["values"] for axis in document["axes"] if axis["name"] == "context"], [[512, 1024]])
        self.assertTrue(document["complete"])

    def test_dsa_is_measured_though_nobody_asks_for_it(self):
        document = self.sweep("--context", "512", "--indexer", "misa")
        self.assertEqual([(case["name"], case["points"]) for case in document["cases"]], [("dsa", 0), ("misa", 1)])
        self.assertIsNotNone(document["cases"][1]["case"]["speedup_over_dsa"])

    def test_zipped_axes_walk_together(self):
        document = self.sweep(*LENGTHS, "--indexer", "misa-dagger", "--candidates", "256,512", "--zip",
                              "context,candidates")
        daggers = [case for case in document["cases"] if case["name"] != "dsa"]
        self.assertEqual([(case["axes"]["context"], case["axes"]["candidates"]) for case in daggers],
                         [(512, 256), (1024, 512)])
        self.assertEqual(len({case["series"] for case in daggers}), 1)
        self.assertEqual(len(document["crossovers"][0]["ratios"]), 2)

    def test_a_sweep_of_one_case_gives_what_profile_gives(self):
        case = self.sweep("--context", "512", "--indexer", "misa")["cases"][1]["case"]
        alone = strict_json(self.succeeds("profile", "--model", "tiny", "--workload", "ci", "--rows", "4", "--context",
                                          "512", "--indexer", "dsa,misa", "--samples", "1", "--format", "json"))
        self.assertEqual(case["quality"], alone["cases"][1]["quality"])
        self.assertEqual(list(case), list(alone["cases"][1]))

    def test_numbers_that_contradict_each_other_are_skipped(self):
        document = self.sweep("--context", "512", "--indexer", "misa-dagger", "--candidates", "16,256")
        self.assertEqual([case["axes"].get("candidates") for case in document["cases"]], [None, 256])
        self.assertIn("fewer than", document["skipped"][0]["reason"])
        self.assertIn("MP-E028", misa("sweep", *SMALL, "--indexer", "misa-dagger", "--candidates", "16").stderr)

    def test_recorded_workloads_are_an_axis(self):
        for name in ("a", "b"):
            self.succeeds("generate", "--model", "tiny", "--workload", "ci", "--seed", ord(name), "-o",
                          self.folder / f"{name}.safetensors")
        document = strict_json(self.succeeds(
            "sweep", *SMALL[4:], "--trace", f"{self.folder / 'a.safetensors'},{self.folder / 'b.safetensors'}",
            "--format", "json", "--indexer", "misa"))
        self.assertEqual(len(document["cases"]), 4)
        self.assertEqual(document["cases"][0]["axes"]["context"], 1024)
        self.assertEqual(len(document["inputs"]), 2)


class Plans(Sweeps):
    def test_a_dry_run_counts_cases_and_estimates_memory_and_time(self):
        text = self.plan(*LENGTHS, "--indexer", "dsa,misa,hisa", "--active-heads", "2,4")
        self.assertIn("8 cases in 2 groups: 12 combinations", text)
        self.assertIn("4 differ from another in nothing that affects their indexer", text)
        self.assertRegex(text, r"memory: [\d.]+ [KM]iB for the largest group")
        self.assertRegex(text, r"time: about \d+ s")

    def test_wrong_axes_are_usage_errors(self):
        for words, message in ((["--context", "4k:128k"], "MP-E550"), (["--indexer", "missa"], "MP-E010"),
                               (["--router", "pooled,pooled"], "MP-E461"), (["--router", "poled"], "try: pooled"),
                               (["--model", "tiny,"], "MP-E460"), (["--zip", "context,rowz"], "MP-E462.*try: rows"),
                               (["--zip", "context,rows", "--context", "512,1k"], "MP-E463"),
                               (["--shard", "3/2"], "MP-E465"), (["--backend", "plugin:x.so"], "MP-E466"),
                               (["--resume"], "MP-E467"), (["--trace", "a", "--context", "1k"], "MP-E017"),
                               (["--context", "1k:1000k:+1k", "--seed", "1", "--active-heads", "1:128:+1"], "MP-E464")):
            self.fails(2, message, "sweep", *(SMALL[4:] if "--model" in words or "--trace" in words else SMALL), *words)


    def test_an_option_that_changes_no_case_is_said_to_do_nothing(self):
        document = self.sweep("--context", "512", "--candidates", "256", "--warm")
        told = [warning["text"] for warning in document["warnings"] if warning["id"] == "MP-W033"]
        self.assertEqual([text.split()[0] for text in told], ["--candidates", "--warm"])
        self.assertEqual(len(document["cases"]), 2)


class Files(Sweeps):
    def test_every_format_has_every_case(self):
        outputs = [self.folder / f"s.{ending}" for ending in ("json", "jsonl", "csv", "md", "txt", "html")]
        self.sweeps(*LENGTHS, *(word for path in outputs for word in ("-o", path)))
        document = strict_json(outputs[0].read_text())
        header, *cases, footer = lines(outputs[1])
        self.assertEqual((header["record"], footer["record"], footer["cases"]), ("header", "footer", 4))
        self.assertEqual(keys(cases), keys(document["cases"]))
        self.assertEqual(footer["crossovers"], document["crossovers"])
        self.assertEqual(footer["fronts"], document["fronts"])
        rows = list(csv.DictReader(io.StringIO(outputs[2].read_text())))
        self.assertEqual(sorted(row["key"] for row in rows), keys(cases))
        self.assertIn("<!doctype html>", outputs[5].read_text().lower())
        for path in outputs[3:5]:
            self.assertIn("against dsa", path.read_text())
        checked = subprocess.run([needs_jsonschema(self), ROOT / "scripts/check_json.py", *outputs[:2]], text=True,
                                 stderr=subprocess.PIPE, check=False)
        self.assertEqual(checked.returncode, 0, checked.stderr)

    def started(self, *words):
        return subprocess.Popen([*PROGRAM, "sweep", *SMALL, *map(str, words)], stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True)

    def until_there_are(self, cases, path, process):
        """Waits until the file has so many cases, while the process runs."""
        end = time.time() + 60
        while time.time() < end and process.poll() is None:
            if path.exists() and path.read_text().count('{"record":"case"') >= cases:
                return
            time.sleep(0.002)
        self.fail(f"{path} never had {cases} cases, or the sweep was over: {process.poll()}")

    def test_a_killed_sweep_goes_on_and_ends_with_the_same_cases(self):
        path, words = self.folder / "s.jsonl", ["--context", "512:2k:+256", "--indexer", "misa,hisa"]
        process = self.started(*words, "-o", path)
        self.until_there_are(3, path, process)
        process.kill()
        process.communicate()
        before = lines(path)
        self.assertNotEqual(before[-1]["record"], "footer", "it was over before it was killed")
        kept = {record["key"]: record for record in before[1:]}
        # A line that was being written when the process died, and a group of which a case is missing.
        whole = before[1:1 + 3 * ((len(before) - 1) // 3)]
        text = path.read_text()
        path.write_text(text + '{"record":"case","key":"cut o')
        self.fails(2, "MP-E469.*--resume", "sweep", *SMALL, *words, "-o", path)
        self.sweeps(*words, "-o", path, "--resume")
        after = lines(path)
        planned = [key for group in after[0]["planned"] for key in group]
        self.assertEqual(keys(after[1:-1]), sorted(planned))
        self.assertEqual((after[-1]["record"], after[-1]["complete"]), ("footer", True))
        for record in after[1:-1]:
            if record["key"] in {one["key"] for one in whole}:
                self.assertEqual(record, kept[record["key"]])
        # Nothing is left to do: the same file again.
        self.sweeps(*words, "-o", path, "--resume")
        self.assertEqual([line for line in lines(path) if line["record"] == "case"], after[1:-1])

    def test_a_group_that_is_not_whole_is_measured_again(self):
        path = self.folder / "s.jsonl"
        self.sweeps(*LENGTHS, "-o", path)
        text = path.read_text().splitlines(keepends=True)
        path.write_text("".join(text[:4]))  # header, a group of two, one of the next
        self.sweeps(*LENGTHS, "-o", path, "--resume")
        after = path.read_text().splitlines(keepends=True)
        self.assertEqual(after[:3], text[:3])
        self.assertNotEqual(after[3], text[3])
        self.assertEqual(keys(map(strict_json, after[1:-1])), keys(map(strict_json, text[1:-1])))

    def test_only_the_same_sweep_can_be_gone_on_with(self):
        path = self.folder / "s.jsonl"
        self.sweeps(*LENGTHS, "-o", path, "--resume")  # there is none yet: it begins
        for words, key in ((["--context", "512,2k"], "axes"), ([*LENGTHS, "--seed", "2"], "options"),
                           ([*LENGTHS, "--shard", "1/2"], "shard")):
            self.fails(3, f"MP-E468.*'{key}' differs", "sweep", *SMALL, *words, "-o", path, "--resume")
        header = path.read_text().splitlines(keepends=True)
        path.write_text(header[0].replace('"name":"misa-prof","version":"', '"name":"misa-prof","version":"9') +
                        "".join(header[1:]))
        self.fails(3, "MP-E468.*'tool' differs", "sweep", *SMALL, *LENGTHS, "-o", path, "--resume")
        path.write_text(header[0] + '{"record":\n' + "".join(header[1:]))
        self.fails(3, "MP-E485.*line 2", "sweep", *SMALL, *LENGTHS, "-o", path, "--resume")

    def test_ctrl_c_leaves_a_valid_file_and_says_how_to_go_on(self):
        path = self.folder / "s.jsonl"
        process = self.started("--context", "512:2k:+64", "-o", path)
        self.until_there_are(2, path, process)
        process.send_signal(signal.SIGINT)
        told = process.communicate()[1]
        self.assertEqual(process.returncode, -signal.SIGINT, told)
        self.assertRegex(told, r"to go on: misa-prof sweep .*--resume")
        self.assertEqual((lines(path)[-1]["record"], lines(path)[-1]["complete"]), ("footer", False))
        self.sweeps("--context", "512:2k:+64", "-o", path, "--resume")
        self.assertTrue(lines(path)[-1]["complete"])


class Parts(Sweeps):
    def setUp(self):
        super().setUp()
        self.axes = [*LENGTHS, "--indexer", "misa,hisa"]
        self.paths = [self.folder / f"part{i}.jsonl" for i in (1, 2)]
        running = [subprocess.Popen([*PROGRAM, "sweep", *SMALL, *self.axes, "--shard", f"{i}/2", "-o", path],
                                    stderr=subprocess.PIPE, text=True) for i, path in enumerate(self.paths, 1)]
        for process in running:
            self.assertEqual(process.communicate()[1].count("error"), 0)
            self.assertEqual(process.returncode, 0)

    def test_two_processes_measure_what_one_would(self):
        merged = strict_json(self.succeeds("merge", *self.paths, "--format", "json"))
        alone = self.sweep(*self.axes)
        self.assertEqual([case["key"] for case in merged["cases"]], [case["key"] for case in alone["cases"]])
        self.assertEqual(list(merged), [key for key in alone if key != "timing"])
        self.assertEqual([list(one) for one in merged["crossovers"]], [list(one) for one in alone["crossovers"]])
        self.assertTrue(merged["complete"])
        first, second = ({case["key"] for case in lines(path) if case["record"] == "case"} for path in self.paths)
        self.assertFalse(first & second)
        # A part alone draws no conclusion over lengths.
        self.assertEqual(lines(self.paths[0])[-1]["crossovers"], [])
        # Merging is the same in any order, of the result too.
        self.succeeds("merge", *reversed(self.paths), "-o", self.folder / "all.json")
        again = strict_json(self.succeeds("merge", self.folder / "all.json", self.paths[0], "--format", "json"))
        self.assertEqual(again["cases"], merged["cases"])
        self.assertEqual(again["crossovers"], merged["crossovers"])

    def test_parts_that_do_not_fit_are_refused(self):
        self.fails(2, "MP-E470", "merge")
        self.fails(3, "MP-E473.*3 cases are missing", "merge", self.paths[0])
        partial = strict_json(self.succeeds("merge", self.paths[0], "--allow-missing", "--format", "json"))
        self.assertFalse(partial["complete"])
        self.assertEqual(len(partial["cases"]), 3)
        self.fails(2, "MP-E025", "merge", *self.paths, "-o", self.paths[0])
        text = self.paths[1].read_text()
        other = self.folder / "other.jsonl"
        other.write_text(text.replace('"seed":"1"', '"seed":"2"'))
        self.fails(3, "MP-E471.*'options' differs", "merge", self.paths[0], other)
        other.write_text(text.replace('"samples":1,"raw":[', '"samples":1,"raw":[1'))
        self.fails(3, "MP-E472", "merge", *self.paths, other)


if __name__ == "__main__":
    main()
