#!/usr/bin/env python3
"""A sweep measures every case once, says from which length an indexer pays, and can be gone on with.

usage: sweep_test.py BINARY [EMULATOR...]  [-- unittest arguments]
"""
import csv
import io
import subprocess

from program import ROOT, Cli, main, misa, needs_jsonschema, strict_json

SMALL = ["--model", "tiny", "--workload", "ci", "--rows", "4", "--budget", "0", "--samples", "1", "--warm-up", "0"]
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
            "--format", "json", "-o", self.folder / "out.json", "--indexer", "misa") or
            (self.folder / "out.json").read_text())
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


class Files(Sweeps):
    def test_every_format_has_every_case(self):
        outputs = [self.folder / f"s.{ending}" for ending in ("json", "jsonl", "csv", "md", "txt")]
        self.sweeps(*LENGTHS, *(word for path in outputs for word in ("-o", path)))
        document = strict_json(outputs[0].read_text())
        header, *cases, footer = lines(outputs[1])
        self.assertEqual((header["record"], footer["record"], footer["cases"]), ("header", "footer", 4))
        self.assertEqual(keys(cases), keys(document["cases"]))
        self.assertEqual(footer["crossovers"], document["crossovers"])
        self.assertEqual(footer["fronts"], document["fronts"])
        rows = list(csv.DictReader(io.StringIO(outputs[2].read_text())))
        self.assertEqual(sorted(row["key"] for row in rows), keys(cases))
        for path in outputs[3:]:
            self.assertIn("against dsa", path.read_text())
        checked = subprocess.run([needs_jsonschema(self), ROOT / "scripts/check_json.py", *outputs[:2]], text=True,
                                 stderr=subprocess.PIPE, check=False)
        self.assertEqual(checked.returncode, 0, checked.stderr)


if __name__ == "__main__":
    main()
