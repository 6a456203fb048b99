#!/usr/bin/env python3
"""Kernels of a user as a backend: the worked example and plug-ins that misbehave, through the program.

usage: plugin_test.py MISA_PROF [EMULATOR]
"""

import csv
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "profiles" / "kernels" / "dsa_cpu.c"
MISBEHAVING = ROOT / "tests" / "plugin" / "misbehaving.c"
SMALL = ["--model", "tiny", "--workload", "ci"]
PROGRAM = []


def compile_c(source, library):
    """A library from a C file, by the C compiler of the machine."""
    command = [os.environ.get("CC", "cc"), "-std=c99", "-O2", "-shared", "-fPIC", f"-I{ROOT}",
               f"-I{ROOT / 'backends' / 'plugin'}", source, "-o", library, "-lm"]
    subprocess.run(command, check=True)


def misa_prof(*arguments, misbehave="right", cwd=None):
    return subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=600, cwd=cwd,
                          env={**os.environ, "MISA_MISBEHAVE": misbehave, "MISA_PROF_PROFILES": str(ROOT / "profiles")})


class PluginTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.scratch.name)
        cls.library = cls.folder / "libmisbehaving.so"
        compile_c(MISBEHAVING, cls.library)
        cls.backend = ["--backend", f"plugin:{cls.library}"]

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def compare(self, misbehave, *arguments, indexer="dsa"):
        return misa_prof("compare", *SMALL, *self.backend, "--indexer", indexer, *arguments, misbehave=misbehave)

    def profile(self, misbehave, *arguments, indexer="dsa,misa"):
        done = misa_prof("profile", *SMALL, *self.backend, "--indexer", indexer, "--samples", "7", "-o", "json:-",
                         *arguments, misbehave=misbehave)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_the_command_in_the_example_builds_it_and_it_agrees_with_the_formulas(self):
        text = EXAMPLE.read_text(encoding="utf-8")
        command = re.search(r"^ \*\s+(cc .*)$", text, re.M).group(1)
        folder = self.folder / "example"
        (folder / "include").mkdir(parents=True)
        (folder / "include" / "misa_kernel.h").symlink_to(ROOT / "backends" / "plugin" / "misa_kernel.h")
        (folder / EXAMPLE.name).symlink_to(EXAMPLE)
        words = [os.environ.get("CC", "cc"), *command.split()[1:], "-Wall", "-Wextra", "-pedantic", "-Werror"]
        subprocess.run(words, check=True, cwd=folder)
        backend = ["--backend", "plugin:./libdsa_cpu.so"]
        for workload in ("ci", "decode-8k"):  # contiguous and paged keys
            done = misa_prof("compare", "--model", "tiny", "--workload", workload, *backend, "--indexer", "all",
                             "--format", "json", cwd=folder)
            self.assertEqual(done.returncode, 0, done.stderr)
            report = json.loads(done.stdout)
            self.assertEqual(report["side"]["arithmetic"], "f32-dot")
            self.assertEqual([case["verdict"] for case in report["cases"]], ["passed"] * 6)
        done = misa_prof("profile", *SMALL, *backend, "--indexer", "dsa,hisa", "--samples", "6", cwd=folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        for words in ("dsa on cpu", "dsa on plugin:dsa_cpu", "vs ours", "dsa_cpu:score", "dsa_cpu:select"):
            self.assertIn(words, done.stdout)

    def test_what_is_right_passes_in_every_form(self):
        for form in ("right", "select_only", "score_select", "index", "moved", "any_order"):
            with self.subTest(form):
                done = self.compare(form)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for form in ("right", "select_only", "score_select", "moved", "any_order", "route"):
            with self.subTest(form):
                done = self.compare(form, "--router", "gate", indexer="misa-dagger")
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_what_is_wrong_fails_with_what_is_wrong(self):
        for fault, words in (("wrong_ids", "misses"), ("duplicates", "1 violation"), ("out_of_range", "1 violation"),
                             ("unseen", "16 violations"), ("outside", "4 bytes beside allocations were overwritten"),
                             ("stale", "violations")):
            with self.subTest(fault):
                done = self.compare(fault)
                self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
                self.assertIn(words, done.stderr)

    def test_heads_that_there_are_not_are_named_before_they_are_gathered(self):
        done = self.compare("bad_heads", "--router", "gate", indexer="misa")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn("misbehaving:route kept head 1000008 in row 0, and there are 8 heads", done.stderr)

    def test_candidates_that_no_row_sees_are_violations(self):
        done = self.compare("bad_candidates", indexer="misa-dagger")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn("first in the candidates", done.stderr)

    def test_a_plug_in_that_does_nothing_is_no_verdict(self):
        for form, indexer in (("refuses", "dsa"), ("route", "dsa"), ("index", "misa")):
            with self.subTest(form):
                done = self.compare(form, indexer=indexer)
                self.assertEqual(done.returncode, 5, done.stdout + done.stderr)
                self.assertIn("the plug-in did nothing in this case", done.stderr)
        self.assertEqual(self.compare("index", "--no-fusion").returncode, 5)

    def test_what_cannot_be_loaded_is_refused_with_the_reason(self):
        for fault, id, words in (("none", "MP-E411", "no kernels of version 1 for the CPU"),
                                 ("version", "MP-E412", "of version 99, and this program takes 1"),
                                 ("short", "MP-E412", "has 16 bytes"), ("nameless", "MP-E412", "has no name"),
                                 ("name", "MP-E412", "'a name'"), ("arithmetic", "MP-E412", "f32-dot"),
                                 ("flags", "MP-E412", "1024"), ("device", "MP-E412", "device type 2"),
                                 ("partial", "MP-E412", "some of plan, run and release"),
                                 ("empty", "MP-E412", "no function that does a step")):
            with self.subTest(fault):
                done = self.compare(fault)
                self.assertEqual(done.returncode, 4, done.stderr)
                self.assertIn(id, done.stderr)
                self.assertIn(words, done.stderr)
        for path, id, status in (("", "MP-E064", 2), (self.folder / "absent.so", "MP-E410", 4),
                                 (EXAMPLE, "MP-E410", 4)):
            done = misa_prof("compare", *SMALL, "--backend", f"plugin:{path}")
            self.assertEqual(done.returncode, status, done.stderr)
            self.assertIn(id, done.stderr)
        other = self.folder / "libother.so"
        (self.folder / "other.c").write_text("int nothing(void) { return 0; }\n", encoding="utf-8")
        compile_c(self.folder / "other.c", other)
        done = misa_prof("compare", *SMALL, "--backend", f"plugin:{other}")
        self.assertIn("exports no function misa_kernels", done.stderr)

    def test_a_file_can_never_start_a_program(self):
        marks = [f"plugin:{self.library}", "exec:touch started"]
        for value in marks:
            config = self.folder / "evil.toml"
            config.write_text(f'backend = "{value}"\n', encoding="utf-8")
            for command in ("profile", "compare"):
                # crash_table: whoever loads it, crashes.
                done = misa_prof(command, *SMALL, "--config", config, misbehave="crash_table")
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn("MP-E065", done.stderr)
                self.assertIn(f"{config}:1", done.stderr)
            config.write_text(f'against = "{value}"\n', encoding="utf-8")
            self.assertIn("MP-E065", misa_prof("compare", *SMALL, "--config", config, misbehave="crash_table").stderr)

    def test_a_bundle_of_a_plug_in_is_not_run_again(self):
        bundle = self.folder / "bundle"
        self.assertEqual(self.compare("wrong_ids", "--bundle", bundle).returncode, 1)
        done = misa_prof("shrink", bundle, "-o", self.folder / "small.safetensors", misbehave="crash_table")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("MP-E065", done.stderr)

    def test_a_golden_that_was_made_with_a_plug_in_does_not_load_it(self):
        goldens = self.folder / "goldens"
        self.assertEqual(misa_prof("compare", *SMALL, "--indexer", "dsa", "--write-golden", goldens).returncode, 0)
        path = goldens / "dsa.safetensors"
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8:8 + length])
        header["__metadata__"]["made_with"] += f"backend=plugin:{self.library}\n"
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length:])
        done = misa_prof("compare", "--against", goldens, misbehave="crash_table")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("MP-E065", done.stderr)

    def test_profile_measures_it_beside_the_backend_that_it_stands_on(self):
        report = self.profile("right", indexer="dsa,misa,misa-dagger")
        cases = [(case["indexer"], case["backend"]) for case in report["cases"]]
        self.assertEqual(cases, [(indexer, backend) for indexer in ("dsa", "misa", "misa-dagger")
                                 for backend in ("cpu", "plugin:misbehaving")])
        self.assertEqual([backend["name"] for backend in report["environment"]["backends"]],
                         ["cpu", "plugin:misbehaving"])
        kernels = [[stage.get("kernel") for stage in case["stages"]] for case in report["cases"]]
        self.assertEqual(kernels[1], ["score=misbehaving:score", "select=misbehaving:select"])
        self.assertEqual(kernels[3][1:], [kernels[2][1], "score=misbehaving:score", "select=misbehaving:select"])
        self.assertEqual(kernels[5][-1], "score=misbehaving:score, select=misbehaving:select")
        ours, theirs = report["cases"][0], report["cases"][1]
        self.assertNotIn("base", ours)
        self.assertEqual(theirs["base"], "cpu")
        self.assertEqual(theirs["base_speedup"]["rounds"], 7)
        raw = [[case["end_to_end_ns"]["raw"][i] for i in range(7)] for case in (ours, theirs)]
        low, high = min(a / b for a, b in zip(*raw)), max(a / b for a, b in zip(*raw))
        self.assertTrue(low * 0.999 <= theirs["base_speedup"]["median"] <= high * 1.001)
        self.assertAlmostEqual(theirs["speedup_over_base"],
                               ours["end_to_end_ns"]["median"] / theirs["end_to_end_ns"]["median"], delta=1e-3)
        self.assertEqual(theirs["quality"]["recall"]["mean"], 1)
        self.assertIsNone(report["cases"][0]["speedup"])

    def test_profile_shows_both_in_every_format(self):
        files = {kind: self.folder / f"both.{kind}" for kind in ("csv", "md", "jsonl", "txt")}
        done = misa_prof("profile", *SMALL, *self.backend, "--indexer", "dsa", "--samples", "6", "-o", files["csv"],
                         "-o", files["md"], "-o", files["jsonl"], "-o", f"table:{files['txt']}", "-o", "json:-")
        self.assertEqual(done.returncode, 0, done.stderr)
        texts = {kind: file.read_text(encoding="utf-8") for kind, file in files.items()}
        rows = list(csv.DictReader(io.StringIO(texts["csv"])))
        self.assertEqual([row["backend"] for row in rows], ["cpu"] * 3 + ["plugin:misbehaving"] * 3)
        self.assertEqual([row["kernel"] for row in rows[3:5]], ["misbehaving:score", "misbehaving:select"])
        self.assertEqual([row["base"] for row in rows], [""] * 3 + ["cpu"] * 3)
        self.assertTrue(float(rows[5]["base_speedup_low"]) <= float(rows[5]["base_speedup_median"]))
        self.assertEqual(rows[2]["speedup_over_base"], "")
        lines = [json.loads(line) for line in texts["jsonl"].splitlines()]
        self.assertEqual([line["case"].get("base") for line in lines if line["record"] == "case"], [None, "cpu"])
        for kind in ("md", "txt"):
            self.assertIn("dsa on plugin:misbehaving", texts[kind])
            self.assertIn("misbehaving:select", texts[kind])
            self.assertIn("vs ours", texts[kind])

    def test_profile_measures_an_indexer_once_in_which_the_plug_in_does_nothing(self):
        report = self.profile("index")
        self.assertEqual([(case["indexer"], case["backend"]) for case in report["cases"]],
                         [("dsa", "cpu"), ("dsa", "plugin:misbehaving"), ("misa", "cpu")])
        self.assertEqual(report["cases"][1]["stages"][0]["name"], "score+select")
        self.assertEqual(report["cases"][1]["stages"][0]["kernel"], "index=misbehaving:index")
        self.assertEqual([(skip["indexer"], skip["backend"]) for skip in report["skipped"]],
                         [("misa", "plugin:misbehaving")])

    def test_profile_rates_tokens_in_any_order_and_none_that_are_no_tokens(self):
        self.assertEqual(self.profile("any_order")["cases"][1]["quality"]["recall"]["mean"], 1)
        for fault in ("out_of_range", "duplicates", "unseen"):
            with self.subTest(fault):
                report = self.profile(fault, indexer="dsa")
                self.assertIsNone(report["cases"][1]["quality"])
                self.assertIn("MP-W063", [warning["id"] for warning in report["warnings"]])
                self.assertEqual(report["cases"][0]["quality"]["recall"]["mean"], 1)
        self.assertLess(self.profile("wrong_ids", indexer="dsa")["cases"][1]["quality"]["recall"]["mean"], 1)

    def test_a_function_that_fails_ends_the_run_with_its_words(self):
        for command in ("compare", "profile"):
            done = misa_prof(command, *SMALL, *self.backend, "--indexer", "dsa", misbehave="error")
            self.assertIn("misbehaving: select returned 3 (MISA_FAILED): the moon is in the wrong phase",
                          done.stdout + done.stderr)
            self.assertNotEqual(done.returncode, 0)

    def test_what_profile_dumps_is_what_the_plug_in_selected(self):
        paths = [self.folder / name for name in ("right.safetensors", "wrong.safetensors")]
        for path, form in zip(paths, ("right", "wrong_ids")):
            self.profile(form, "--dump-selection", path, indexer="dsa")
        self.assertNotEqual(paths[0].read_bytes()[-4000:], paths[1].read_bytes()[-4000:])

    def test_a_dry_run_plans_it(self):
        done = misa_prof("profile", *SMALL, *self.backend, "--indexer", "dsa", "--dry-run", misbehave="crash")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("score", done.stdout)


if __name__ == "__main__":
    PROGRAM = [*sys.argv[2:], str(Path(sys.argv[1]).resolve())]
    unittest.main(argv=sys.argv[:1])
