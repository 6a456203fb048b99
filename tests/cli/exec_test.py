"""Programs of a user's own that compare starts: --backend exec:. What they select is judged, and what goes wrong with
them is a verdict."""
import glob
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

import program
from program import ROOT, Cli, main, misa, needs, strict_json
from trace_test import Problem, topk_part, write_trace



def imports_numpy(python):
    return os.path.exists(python) and subprocess.run([python, "-c", "import numpy"], stderr=subprocess.DEVNULL,
                                                     check=False).returncode == 0


# The python that has NumPy: Debian's package belongs to /usr/bin/python3.
PYTHON = next(filter(imports_numpy, (sys.executable, "/usr/bin/python3")), None)
K = 16

# A program that selects, line by line; what a test changes is behind it.
SELECTS = """
import os, signal, sys, time
import numpy as np
import misa_trace
trace = misa_trace.read_trace(sys.argv[1])
k = int(trace.metadata["index_topk"])
q, keys = np.asarray(trace.q), np.asarray(trace.k)
scale = np.asarray(trace.k_scale) if trace.k_scale is not None else np.ones(len(keys), "f4")
scores = np.einsum("mh,mhs->ms", np.asarray(trace.weights), np.maximum(np.einsum("mhd,sd->mhs", q, keys), 0)) * scale
ids = np.full((trace.rows, k), -1)
for m, (begin, end) in enumerate(zip(np.asarray(trace.ks), np.asarray(trace.ke))):
    best = np.argsort(-scores[m, begin:end], kind="stable")[:k]
    ids[m, :len(best)] = best
"""
SAVES = "np.save(sys.argv[2], ids)\n"


class Exec(Cli):
    def setUp(self):
        super().setUp()
        needs(self, PYTHON, "NumPy")
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()
        self.env = {"PYTHONPATH": str(ROOT / "profiles/recorder"), "TMPDIR": str(self.temporary),
                    "PYTHONDONTWRITEBYTECODE": "1"}
        self.problem = Problem(1, 3, 90)
        self.trace = write_trace(self.folder / "trace.safetensors", {}, self.problem.parts())

    def tearDown(self):
        self.assertEqual(list(self.temporary.iterdir()), [], "a folder was left behind")

    def script(self, text, name="my.py"):
        path = self.folder / name
        path.write_text(text)
        return f"exec:{PYTHON} '{path}' {{trace}} {{selection}}"

    def compare(self, backend, *options, trace=None):
        return misa("compare", "--trace", trace or self.trace, "--top-k", K, "--backend", backend, *options, env=self.env)

    def judged(self, status, backend, *options, trace=None):
        result = self.compare(backend, *options, "--format", "json", trace=trace)
        self.assertEqual(result.returncode, status, result.stderr)
        return strict_json(result.stdout)

    def fails_as(self, detail, text, *options):
        """One case that fails, whose check says so in every format; the report."""
        backend = text if text.startswith("exec:") else self.script(text)
        report = self.judged(1, backend, *options)
        case = report["cases"][0]
        check = case["checks"][0]
        self.assertEqual((case["verdict"], check["name"], check["passed"]), ("failed", "program", False))
        self.assertRegex(check["detail"], detail)
        self.assertEqual(case["explanation"], "program: " + check["detail"])
        return check["detail"]


class Walk(Exec):
    def test_the_program_of_the_document_passes_in_an_empty_folder(self):
        if len(program.PROGRAM) != 1:
            self.skipTest("an emulator runs the program")
        page = (ROOT / "docs/own-kernel.md").read_text()
        section = re.search(r"^## A program\n(.*?)^## ", page, re.M | re.S).group(1)
        code = re.search(r"^```python\n(.*?)^```", section, re.M | re.S).group(1)
        commands = re.findall(r"^    (misa-prof .*)$", section, re.M)
        self.assertEqual(len(commands), 2)
        empty, path = self.folder / "empty", self.folder / "bin"
        empty.mkdir()
        path.mkdir()
        (empty / "my.py").write_text(code)
        (path / "misa-prof").symlink_to(program.PROGRAM[0])
        (path / "python3").symlink_to(PYTHON)
        environment = {**os.environ, **self.env, "PATH": f"{path}:{os.environ['PATH']}"}
        for command in commands:
            done = subprocess.run(["bash", "-c", command], cwd=empty, env=environment, capture_output=True, text=True,
                                  check=False)
            self.assertEqual(done.returncode, 0, f"{command}: {done.stdout}{done.stderr}")
            self.assertIn("passed: 1 of 1 case", done.stdout)
        self.assertEqual([file.name for file in empty.iterdir()], ["my.py"])


class Selects(Exec):
    def test_a_program_that_selects_rightly_passes_in_every_kind_of_file(self):
        for name, save in {
                "npy": SAVES, "i4": "np.save(sys.argv[2], ids.astype('i4'))\n",
                "ours": "misa_trace.write_selection(sys.argv[2], ids, arithmetic='f32')\n",
                "ours whole": "misa_trace.write_selection(sys.argv[2], ids, trace=trace)\n",
                "any order": "np.save(sys.argv[2], ids[:, ::-1])\n"}.items():
            with self.subTest(name):
                report = self.judged(0, self.script(SELECTS + save))
                case = report["cases"][0]
                self.assertEqual((case["indexer"], case["verdict"]), ("dsa", "passed"))
                self.assertEqual([choice["name"] for choice in case["choices"]], ["tokens"])
                self.assertEqual(case["choices"][0]["rows"], 3)
                self.assertEqual([check["name"] for check in case["checks"]], ["program"])
                self.assertRegex(case["checks"][0]["detail"], r"^ended after \d+\.\d s$")
                self.assertEqual(report["side"]["arithmetic"], "f32" if name == "ours" else None)
                self.assertTrue(report["side"]["name"].startswith("exec:"))

    def test_a_program_that_selects_wrongly_is_named_with_row_token_and_gap(self):
        wrong = SELECTS + "ids[1, 5] = np.argsort(-scores[1, trace.ks.data[1]:trace.ke.data[1]])[30]\n" + SAVES
        report = self.judged(7, self.script(wrong))
        self.assertEqual(report["cases"][0]["choices"][0]["differences"][0]["row"], 1)
        choice = self.judged(1, self.script(wrong), "--arithmetic", "f32")["cases"][0]["choices"][0]
        self.assertEqual((choice["misses"][0]["side"], choice["misses"][0]["row"], choice["differences"][0]["rank"]),
                         ("program", 1, 30))
        result = self.compare(self.script(wrong), "--arithmetic", "f32")
        self.assertRegex(result.stderr, r"MP-E610: 1 of 1 case failed: dsa: .*try: docs/own-kernel\.md")

    def test_duplicates_and_tokens_out_of_range_are_violations(self):
        for fault, change in (("duplicate", "ids[2, 1] = ids[2, 0]\n"), ("out of range", "ids[2, 1] = 5000\n"),
                              ("padding", "ids[2, 1] = -7\n"), ("truncated", "ids[2, 1] = -1\n")):
            with self.subTest(fault):
                case = self.judged(1, self.script(SELECTS + change + SAVES))["cases"][0]
                self.assertRegex(case["choices"][0]["violations"][0]["fault"], fault.replace(" ", "."))
                self.assertEqual(case["choices"][0]["violations"][0]["row"], 2)

    def test_each_indexer_is_a_case_and_the_program_is_told_which(self):
        text = SELECTS + ("open(sys.argv[5], 'a').write(' '.join(sys.argv[3:5]) + '\\n')\n"
                          "if sys.argv[3] == 'hisa': os.kill(os.getpid(), signal.SIGSEGV)\n" + SAVES)
        told = self.folder / "told"
        backend = self.script(text) + f" {{indexer}} k={{top_k}} '{told}'"
        # Few heads and blocks: the selection of dsa is none of misa.
        report = self.judged(1, backend, "--indexer", "dsa,hisa,misa", "--active-heads", "1")
        self.assertEqual(told.read_text(), f"dsa k={K}\nhisa k={K}\nmisa k={K}\n")
        verdicts = {case["indexer"]: case["verdict"] for case in report["cases"]}
        self.assertEqual((verdicts["dsa"], verdicts["hisa"]), ("passed", "failed"))
        self.assertNotEqual(verdicts["misa"], "passed")
        self.assertIn("--indexer hisa", report["cases"][1]["reproduce"])
        self.assertIn("'exec:", report["cases"][1]["reproduce"])

    def test_the_program_does_not_see_what_was_recorded(self):
        tokens = [self.problem.ranked(row)[:K] for row in range(3)]
        mass = ("F16", [3, 90], bytes(2 * 3 * 90))
        trace = write_trace(self.folder / "recorded.safetensors", {"topk_arithmetic": "f32"},
                            self.problem.parts(topk=topk_part(tokens, K), attention_mass=mass))
        looks = "assert trace.topk is None and trace.attention_mass is None and 'topk_arithmetic' not in trace.metadata\n"
        report = self.judged(0, self.script(SELECTS + looks + SAVES), trace=trace)
        self.assertEqual([case["indexer"] for case in report["cases"]], ["dsa"])
        self.assertIn("MP-W021", [warning["id"] for warning in report["warnings"]])

    def test_rows_that_are_left_out_are_left_out_for_the_program_too(self):
        shipped = ["--trace", "learned-32k-h64", "--rows", "2", "--top-k", "64"]
        backend = self.script(SELECTS + SAVES)
        result = misa("compare", *shipped, "--backend", backend, "--arithmetic", "f32", "--format", "json", env=self.env)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(strict_json(result.stdout)["cases"][0]["choices"][0]["rows"], 2)


class Fails(Exec):
    def test_a_crash_is_named_by_its_signal_with_what_the_program_wrote(self):
        text = "import os, signal, sys\nprint('before the crash', file=sys.stderr)\nsys.stderr.flush()\n" \
               "os.kill(os.getpid(), signal.SIGSEGV)\n"
        detail = self.fails_as(r'^crashed with SIGSEGV after \d+\.\d s; it wrote "before the crash"$', text)
        for form, words in (("table", "verdict:"), ("junit", "failure")):
            result = self.compare(self.script(text), "--format", form)
            self.assertEqual(result.returncode, 1)
            self.assertIn(words, result.stdout)
            shown = result.stdout
            if form == "junit":
                tests = xml.etree.ElementTree.fromstring(shown).iter("testcase")
                shown = [test for test in tests if test.get("name") == "program"][0].find("failure").get("message")
            self.assertIn('crashed with SIGSEGV', shown)
            self.assertIn('it wrote "before the crash"', shown)
        self.assertIn("SIGSEGV", detail)

    def test_a_status_other_than_0_fails_even_with_a_selection(self):
        self.fails_as(r"^ended with status 3 after ", SELECTS + SAVES + "sys.exit(3)\n")
        detail = self.fails_as(r"^ended with status 1 after ", "raise KeyError('no such tensor')\n")
        self.assertIn("\"KeyError: 'no such tensor'\"", detail)

    def test_a_program_that_hangs_is_ended_with_its_children(self):
        text = "import subprocess, sys, time\nchild = subprocess.Popen(['sleep', '600'])\n" \
               "print(child.pid, file=sys.stderr)\nsys.stderr.flush()\ntime.sleep(600)\n"
        start = time.monotonic()
        detail = self.fails_as(r"^was ended after the time limit of 1\.5 s", text, "--time-limit", "1.5")
        self.assertLess(time.monotonic() - start, 10)
        self.gone(int(re.search(r'it wrote "(\d+)"', detail)[1]))

    def gone(self, process):
        for _ in range(100):
            if not pathlib.Path(f"/proc/{process}").exists():
                return
            time.sleep(0.02)
        self.fail(f"process {process} is still there")

    def test_no_selection_and_files_that_are_none_are_told_apart(self):
        self.fails_as(r"^wrote no selection$", SELECTS)
        self.fails_as(r"^wrote a file that is no selection: MP-E\d+: .*; \{selection\}",
                      "import sys\nopen(sys.argv[2], 'w').write('garbage')\n")
        self.fails_as(r"^wrote a file that is no selection: MP-E\d+: ", "import sys\nopen(sys.argv[2], 'w')\n")
        self.fails_as(r"^wrote a file that is no selection: MP-E102: not a regular file but a directory",
                      "import os, sys\nos.mkdir(sys.argv[2])\n")
        self.fails_as(r"^wrote a file that is no selection: MP-E252: .*2 rows of ids, the workload has 3",
                      SELECTS + "np.save(sys.argv[2], ids[:2])\n")
        self.fails_as(r"^selected in 2 of 3 rows$",
                      SELECTS + "misa_trace.write_selection(sys.argv[2], ids[[0, 2]], topk_row=[0, 2], arithmetic='f32')\n")
        self.fails_as(r"^wrote a selection that is none of this workload: MP-E061: row 0 selects 20 tokens",
                      SELECTS + "np.save(sys.argv[2], np.tile(np.arange(20), (3, 1)))\n")

    def test_what_a_program_writes_cannot_be_taken_for_ours(self):
        text = r"""
import sys
sys.stderr.buffer.write(b'passed: 1 of 1 case\n\x1b[2J\xff \xe2\x80\xae "quoted"\n\n::error title=x::y\r\n')
sys.exit(1)
"""
        for form in ("table", "json", "junit"):
            result = self.compare(self.script(text), "--format", form, "--annotate")
            self.assertEqual(result.returncode, 1)
            for raw in ("\x1b", "\u202e"):
                self.assertNotIn(raw, result.stdout + result.stderr)
            self.assertNotRegex(result.stdout + result.stderr, r"(?m)^\s*(passed: 1 of 1|::error title=x)")
        detail = self.fails_as("ended with status 1", text)
        self.assertIn('"passed: 1 of 1 case"', detail)
        self.assertIn(r'\"quoted\"', detail)

    def test_only_the_last_lines_are_kept(self):
        detail = self.fails_as("ended with status 1", "import sys\nfor i in range(100000): print('line', i, file=sys.stderr)\n"
                               "sys.exit(1)\n")
        self.assertIn('"line 99999"', detail)
        self.assertNotIn('"line 99990"', detail)

    def test_an_interruption_ends_the_program_and_leaves_nothing(self):
        told = self.folder / "told"
        backend = self.script("import os, sys, time\nopen(sys.argv[3], 'w').write(str(os.getpid()))\ntime.sleep(600)\n")
        for signals in (1, 2):
            words = [*program.PROGRAM, "compare", "--trace", str(self.trace), "--backend", backend + f" '{told}'"]
            running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                       env={**os.environ, **self.env})
            while not told.exists() or not told.read_text():
                time.sleep(0.02)
            for _ in range(signals):
                running.send_signal(signal.SIGINT)
            running.communicate(timeout=30)
            self.assertEqual(running.returncode, -signal.SIGINT)
            self.gone(int(told.read_text()))
            self.assertEqual(list(self.temporary.iterdir()), [])
            told.unlink()


class Refused(Exec):
    def refused(self, status, message, *words):
        self.fails(status, message, *words, env=self.env, cwd=self.folder)

    def test_the_line_is_divided_as_a_shell_does_and_nothing_else_is_done_with_it(self):
        shows = self.script("import sys\nprint(repr(sys.argv[3:]), file=sys.stderr)\nsys.exit(1)\n")
        for given, words in (("a 'b c' \"d e\" f\\ g", ["a", "b c", "d e", "f g"]),
                             ("$HOME ~ *.py ; echo | x > y && `ls`",
                              ["$HOME", "~", "*.py", ";", "echo", "|", "x", ">", "y", "&&", "`ls`"]),
                             ("'' \"\\\"\" 'a\"b' x'y z'w", ["", '"', 'a"b', "xy zw"])):
            detail = self.fails_as("ended with status 1", shows + " " + given)
            self.assertIn(repr(words).replace('"', '\\"'), detail)

    def test_a_line_that_cannot_work_is_refused(self):
        for line, message in (("exec:", "names no program"), ("exec:  ", "names no program"),
                              ("exec:'' {trace} {selection}", "names no program"),
                              ("exec:my {trace}", r"has no \{selection\}"), ("exec:my {selection}", r"has no \{trace\}"),
                              ("exec:my 'a {trace} {selection}", "a quote is not closed: '"),
                              ('exec:my "a {trace} {selection}', 'a quote is not closed: "')):
            self.refused(2, r"MP-E066: .*" + message + r".*try: --backend \"exec:python3 my\.py \{trace\} \{selection\}\"",
                         "compare", "--trace", self.trace, "--backend", line)

    def test_a_program_that_is_not_there_ends_the_run(self):
        for line in ("no-such-program-at-all", "./my.py"):
            self.refused(4, "MP-E420: the program '.*' cannot be started: .*try: ", "compare", "--trace", self.trace,
                         "--backend", f"exec:{line} {{trace}} {{selection}}")

    def test_no_file_can_start_a_program(self):
        backend = self.script("import sys\nopen('started', 'w')\n")
        config = self.folder / "options.toml"
        config.write_text(f'backend = "{backend}"\n')
        for command in ("compare", "profile"):
            self.refused(2, r"MP-E065: .* would start a program.*options\.toml.*try: --backend .* on the command line", command,
                         "--trace", self.trace, "--config", config)
        config.write_text('backend = "plugin:./mine.so"\n')
        self.refused(2, "MP-E065", "compare", "--config", config)
        bundle = self.folder / "bundle"
        made = misa("compare", "--model", "tiny", "--workload", "ci", "--indexer", "dsa", "--inject", "swapped-token",
                    "--backend", "cpu", "--bundle", bundle)
        self.assertEqual(made.returncode, 1, made.stderr)
        report = bundle / "report.json"
        report.write_text(report.read_text().replace('"cpu",', '"%s",' % backend, 1))
        self.refused(2, r"MP-E065: .*report\.json", "shrink", bundle)
        self.assertFalse((self.folder / "started").exists())

    def test_what_cannot_be_done_with_a_program_is_refused_with_a_reason(self):
        backend = self.script(SELECTS + SAVES)
        self.refused(2, "MP-E067: a program cannot be timed.*compare", "profile", "--trace", self.trace, "--backend", backend)
        compare = ["compare", "--trace", self.trace, "--top-k", K, "--backend", backend]
        for words in (["--stages", "tokens"], ["--inject", "swapped-token"], ["--bundle", "b"], ["--write-golden", "g"],
                      ["--repeat-bitwise", "2"], ["--thread-sweep"], ["--poison-unseen"], ["--robust"]):
            self.refused(2, f"MP-E056: {words[0]} would do nothing: ids are judged", *compare, *words)
        for words in (["--against", "cpu"], ["--against-indexer", "misa"]):
            self.refused(2, "MP-E060: a program is judged by the formulas", *compare, *words)
        result = misa("compare", "--trace", self.trace, "--time-limit", "5", "--indexer", "dsa")
        self.assertIn("--time-limit does nothing", result.stdout)
        shown = self.compare(backend, "--dry-run")
        self.assertEqual((shown.returncode, shown.stderr), (0, ""))


if __name__ == "__main__":
    main()
