#!/usr/bin/env python3
"""plugin:FILE.py: functions of a Python file, timed and judged by the program. usage: python_plugin_test.py BINARY"""
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))
from program import ROOT, Cli, main, misa, needs, strict_json  # noqa: E402

EXAMPLE = ROOT / "profiles/kernels/dsa_numpy.py"
SMALL = ["--model", "tiny", "--workload", "ci", "--indexer", "dsa,misa"]
# Debian's NumPy belongs to /usr/bin/python3, which need not be the first on PATH.
PYTHON = next((python for python in (sys.executable, "/usr/bin/python3") if os.path.exists(python) and subprocess.run(
    [python, "-c", "import numpy"], stderr=subprocess.DEVNULL, check=False).returncode == 0), None)


class PythonPlugin(Cli):
    def setUp(self):
        super().setUp()
        needs(self, PYTHON is not None, "python3 with NumPy")

    def plugin(self, text, name="mine.py"):
        path = self.folder / name
        path.write_text(text)
        return path

    def run_plugin(self, command, path, *options, status=0, **environment):
        done = misa(command, "--backend", f"plugin:{path}", *options, env={"MISA_PYTHON": PYTHON, "PYTHONPATH": "", **environment})
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def judged(self, text, status, *options):
        """What compare says of each indexer."""
        done = self.run_plugin("compare", self.plugin(text), *SMALL, *options, "--format", "json", status=status)
        report = strict_json(done.stdout)
        self.assertEqual([case["indexer"] for case in report["cases"]], ["dsa", "misa"])
        return report

    def failures(self, function):
        """Details of the failed checks where a function of the example is replaced."""
        report = self.judged(EXAMPLE.read_text() + function, 1)
        found = [check["detail"] for case in report["cases"] for check in case["checks"] if not check["passed"]]
        self.assertEqual(len(found), 2)
        return found

    def test_the_example_selects_what_the_formulas_select(self):
        for indexers in ("all", "dsa"):
            done = self.run_plugin("compare", EXAMPLE, "--model", "tiny", "--workload", "ci", "--indexer", indexers)
            self.assertIn("plugin:numpy-dsa (f32)", done.stdout)
        decode = self.run_plugin("compare", EXAMPLE, "--model", "tiny", "--workload", "decode-8k", "--indexer", "dsa")
        self.assertIn("passed: 1 of 1", decode.stdout)

    def test_it_is_timed_beside_ours(self):
        done = self.run_plugin("profile", EXAMPLE, *SMALL, "--samples", "2", "--format", "json")
        cases = strict_json(done.stdout)["cases"]
        self.assertEqual([(case["indexer"], case["backend"]) for case in cases],
                         [(name, backend) for name in ("dsa", "misa") for backend in ("cpu", "plugin:numpy-dsa")])
        for case in cases[1::2]:
            self.assertEqual(case["base"], "cpu")
            self.assertEqual([stage["kernel"] for stage in case["stages"] if stage["name"] in ("score", "select")],
                             ["score=numpy-dsa:score", "select=numpy-dsa:select"])
        self.assertEqual(cases[1]["quality"]["recall"]["worst"], 1.0)

    def test_one_that_declines_everything_is_no_verdict_though_its_arithmetic_is_not_stated(self):
        report = self.judged("def accepts(step, task):\n    return False\n\ndef score(task):\n    pass\n", 5)
        for case in report["cases"]:
            self.assertEqual((case["verdict"], case["explanation"]), ("nothing", "the plug-in did nothing in this case"))

    def test_an_exception_is_named_with_its_line(self):
        line = len(EXAMPLE.read_text().splitlines()) + 2
        for found in self.failures("def score(task):\n    raise ValueError('no such key')\n"):
            self.assertIn(f"score: ValueError: no such key (mine.py:{line})", found)

    def test_scores_of_another_shape_are_named(self):
        for found in self.failures("def score(task):\n    return np.zeros((3, 2), np.float32)\n"):
            self.assertRegex(found, r"score returned float32 \[3, 2\], wanted float32 \[\d+, \d+ or more\]")

    def test_a_crash_is_named(self):
        for found in self.failures("import os\ndef score(task):\n    os.kill(os.getpid(), 11)\n"):
            self.assertRegex(found, "SIGSEGV.* in score")

    def test_a_function_that_does_not_end_is_named(self):
        report = self.judged(EXAMPLE.read_text() + "def select(task):\n    while True: pass\n", 1, "--time-limit", "2")
        for case in report["cases"]:
            self.assertTrue(any("in select" in check["detail"] for check in case["checks"] if not check["passed"]), case["checks"])

    def test_duplicates_are_a_violation(self):
        report = self.judged(EXAMPLE.read_text() + "def select(task):\n    task.tokens[:] = 0\n", 1)
        for case in report["cases"]:
            tokens = next(choice for choice in case["choices"] if choice["name"] == "tokens")
            self.assertTrue(tokens["violations"])
            self.assertEqual({one["fault"] for one in tokens["violations"]}, {"duplicate"})

    def test_without_python_or_the_package_it_says_what_is_missing(self):
        done = self.run_plugin("compare", EXAMPLE, *SMALL, status=4, MISA_PYTHON=str(self.folder / "python"))
        self.assertIn("MP-E440", done.stderr)
        bare = self.folder / "bare"
        bare.write_text(f'#!/bin/sh\nexec {PYTHON} -I "$@"\n')
        bare.chmod(0o755)
        done = self.run_plugin("compare", EXAMPLE, *SMALL, status=4, MISA_PYTHON=str(bare))
        self.assertIn("MP-E441", done.stderr)
        self.assertIn("No module named 'misa'", done.stderr)

    def test_a_dry_run_knows_it(self):
        for command in ("profile", "compare"):
            done = self.run_plugin(command, EXAMPLE, *SMALL, "--dry-run")
            self.assertIn("dsa: score, select; 16 rows at a time", done.stdout)
            self.assertEqual(done.stderr, "")

    def test_it_is_no_side_to_compare_with(self):
        done = misa("compare", "--backend", "cpu", "--against", f"plugin:{EXAMPLE}", *SMALL)
        self.assertEqual(done.returncode, 4)
        self.assertIn("MP-E443", done.stderr)

    def test_a_file_that_is_no_plug_in_is_named(self):
        for text, words in (("x = 1\n", "it defines none of the functions score, select"),
                            ("import no_such_module\n", "No module named 'no_such_module'"),
                            ("def score(task:\n", "SyntaxError")):
            for command in ("compare", "profile"):
                done = self.run_plugin(command, self.plugin(text), *SMALL, status=4)
                self.assertIn("MP-E442", done.stderr)
                self.assertIn(words, done.stderr)


if __name__ == "__main__":
    main()
