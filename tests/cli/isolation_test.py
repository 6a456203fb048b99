"""Plug-ins run in a process of their own: what they do there is a verdict of one case, and the others finish."""
import os
import pathlib
import shutil
import signal
import subprocess
import time

import program
from program import ROOT, Cli, main, misa, needs, strict_json

TINY = ["--model", "tiny", "--workload", "ci"]
# Behind misbehaving.c, whose function is renamed: what crashes where two heads are scored, and does the rest rightly.
CRASHES_WITH_TWO_HEADS = """
static int32_t crash_or_accept(void* self, int32_t step, const void* task) {
  if (step == MISA_SCORE && ((const misa_score_task*)task)->queries.heads == 2) abort();
  return do_accept(self, step, task);
}
const misa_kernel_table* misa_kernels(int32_t version, int32_t device_type, int32_t device) {
  static misa_kernel_table mine;
  const misa_kernel_table* const inner = inner_kernels(version, device_type, device);
  if (inner == NULL) return NULL;
  mine = *inner;
  mine.accepts = crash_or_accept;
  return &mine;
}
"""


class Isolation(Cli):
    @classmethod
    def setUpClass(cls):
        cls.compiler = shutil.which("cc") or shutil.which("gcc")

    def setUp(self):
        super().setUp()
        needs(self, self.compiler, "C compiler")
        if len(program.PROGRAM) != 1:
            self.skipTest("an emulator runs the program, and cannot run it again")
        self.library = self.build((ROOT / "tests/plugin/misbehaving.c").read_text(), "mine.so")
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()

    def tearDown(self):
        if hasattr(self, "temporary"):
            self.assertEqual(list(self.temporary.iterdir()), [], "a folder was left behind")

    def build(self, text, name):
        source = self.folder / "plug_in.c"
        source.write_text(text)
        subprocess.run([self.compiler, "-std=c99", "-O1", "-shared", "-fPIC", f"-I{ROOT}", f"-I{ROOT}/backends/plugin",
                        str(source), "-o", str(self.folder / name), "-lm"], check=True)
        return self.folder / name

    def crashes_with_two_heads(self):
        text = (ROOT / "tests/plugin/misbehaving.c").read_text()
        renamed = text.replace("const misa_kernel_table* misa_kernels(", "static const misa_kernel_table* inner_kernels(")
        self.assertNotEqual(text, renamed)
        self.library = self.build(renamed + CRASHES_WITH_TWO_HEADS, "two.so")

    def environment(self, misbehave):
        # AddressSanitizer would make a status of the signals.
        sanitizer = os.environ.get("ASAN_OPTIONS", "") + ":handle_segv=0:handle_abort=0"
        return {"MISA_MISBEHAVE": misbehave, "TMPDIR": str(self.temporary), "ASAN_OPTIONS": sanitizer.strip(":")}

    def run_misa(self, command, misbehave, *options):
        return misa(command, *TINY, "--backend", f"plugin:{self.library}", *options, env=self.environment(misbehave))

    def compared(self, status, misbehave, *options):
        result = self.run_misa("compare", misbehave, "--format", "json", *options)
        self.assertEqual(result.returncode, status, result.stderr)
        return strict_json(result.stdout)

    def check_of(self, case, name="plug-in"):
        found = [check for check in case["checks"] if check["name"] == name]
        self.assertEqual(len(found), 1, case)
        return found[0]


class Compare(Isolation):
    def test_a_right_plug_in_passes_and_says_what_it_is(self):
        for misbehave in ("right", "select_only", "score_select", "index", "moved", "any_order"):
            with self.subTest(misbehave):
                names = ["dsa"] if misbehave == "index" else ["dsa", "hisa"]
                report = self.compared(0, misbehave, "--indexer", ",".join(names), "--robust")
                self.assertEqual([(case["indexer"], case["verdict"]) for case in report["cases"]],
                                 [(name, "passed") for name in names])
                self.assertEqual(report["side"]["name"], "plugin:misbehaving")
                self.assertEqual(report["environment"]["backends"][0]["name"], "plugin:misbehaving")
                case = report["cases"][0]
                self.assertEqual([check["name"] for check in case["checks"]],
                                 ["plug-in", "repeat-bitwise", "thread-sweep", "poison-unseen", "canaries"])
                self.assertRegex(self.check_of(case)["detail"], r"^ran in a process of its own for \d+\.\d s$")

    def test_each_fault_is_a_verdict_of_its_own(self):
        for misbehave, name, detail in (
                ("crash", "plug-in", r"^crashed with SIGSEGV in select after \d+\.\d s$"),
                ("crash_table", "plug-in", r"^crashed with SIGSEGV in misa_kernels after "),
                ("hang", "plug-in", r"^was ended in select after the time limit of 1\.5 s$"),
                ("outside", "canaries", r"^4 bytes .* overwritten$"),
                ("error", "plug-in", r"^MP-E413: .*select returned 3 \(MISA_FAILED\): the moon is in the wrong phase"),
                ("bad_stride", "plug-in", r"^MP-E413: .*score has moved its logits")):
            with self.subTest(misbehave):
                case = self.compared(1, misbehave, "--indexer", "dsa", "--time-limit", "1.5")["cases"][0]
                check = self.check_of(case, name)
                self.assertFalse(check["passed"])
                self.assertRegex(check["detail"], detail)
                self.assertEqual((case["verdict"], case["explanation"]), ("failed", f"{name}: {check['detail']}"))
        for misbehave, fault in (("duplicates", "duplicate"), ("out_of_range", "out of range"), ("unseen", "out of window"),
                                 ("wrong_ids", None)):
            with self.subTest(misbehave):
                case = self.compared(1, misbehave, "--indexer", "dsa")["cases"][0]
                tokens = [choice for choice in case["choices"] if choice["name"] == "tokens"][0]
                if fault:
                    self.assertEqual(tokens["violations"][0]["fault"].replace("_", " ").replace("-", " "), fault)
                else:
                    self.assertGreater(tokens["missed"], 0)

    def test_the_other_cases_finish(self):
        self.crashes_with_two_heads()
        cases = self.compared(1, "right", "--indexer", "dsa,misa,hisa", "--active-heads", "2")["cases"]
        self.assertEqual([(case["indexer"], case["verdict"]) for case in cases],
                         [("dsa", "passed"), ("misa", "failed"), ("hisa", "passed")])
        self.assertRegex(cases[1]["explanation"], "^plug-in: crashed with SIGABRT in accepts after ")
        self.assertIn("--indexer misa", cases[1]["reproduce"])

    def test_a_plug_in_that_is_none_ends_the_run_with_its_own_error(self):
        for misbehave, message in (("none", "MP-E411"), ("version", "MP-E412"), ("nameless", "MP-E412")):
            result = self.run_misa("compare", misbehave, "--indexer", "dsa")
            self.assertEqual(result.returncode, 4, misbehave)
            self.assertRegex(result.stderr, f"\\Amisa-prof: error: {message}: the plug-in.*\n\\Z")
        self.fails(4, "MP-E410", "compare", *TINY, "--backend", "plugin:./none.so", cwd=self.folder)

    def test_mistakes_are_not_made_in_a_plug_in(self):
        self.fails(2, "MP-E056: --inject would do nothing: mistakes are made on backends of ours", "compare", *TINY,
                   "--backend", f"plugin:{self.library}", "--inject", "swapped-token", env=self.environment("right"))

    def test_a_plug_in_that_does_nothing_is_no_pass(self):
        case = self.compared(5, "refuses", "--indexer", "dsa")["cases"][0]
        self.assertEqual((case["verdict"], case["explanation"]), ("nothing", "the plug-in did nothing in this case"))

    def test_its_selection_becomes_a_golden_and_is_rated(self):
        goldens = self.folder / "goldens"
        self.compared(0, "right", "--indexer", "dsa", "--write-golden", goldens)
        self.assertEqual(misa("compare", "--against", goldens).returncode, 0)
        case = self.compared(0, "right", "--indexer", "misa", "--against-indexer", "dsa", "--min-recall", "0.1")["cases"][0]
        self.assertIsNotNone(case["quality"])
        case = self.compared(1, "crash", "--indexer", "misa", "--against-indexer", "dsa")["cases"][0]
        self.assertRegex(case["explanation"], "plug-in: crashed with SIGSEGV in select")

    def test_a_bundle_is_written_and_starts_nothing(self):
        bundle = self.folder / "bundle"
        self.compared(1, "wrong_ids", "--indexer", "dsa", "--bundle", bundle)
        self.assertTrue((bundle / "plugin.dsa.safetensors").exists())
        self.fails(2, "MP-E065", "shrink", bundle)

    def test_an_interruption_ends_the_plug_in(self):
        running = subprocess.Popen([*program.PROGRAM, "compare", *TINY, "--backend", f"plugin:{self.library}"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env={**os.environ, **self.environment("hang")})
        child = None
        while child is None:
            time.sleep(0.05)
            found = pathlib.Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
            child = found[0] if found else None
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)
        self.assertEqual(running.returncode, -signal.SIGINT)
        self.assertFalse(pathlib.Path(f"/proc/{child}").exists())


class DryRun(Isolation):
    def test_a_dry_run_loads_the_plug_in_in_another_process_too(self):
        for command in ("compare", "profile"):
            words = [command, *TINY, "--backend", f"plugin:{self.library}", "--indexer", "dsa", "--dry-run"]
            self.assertIn("dsa: score", self.succeeds(*words, env=self.environment("right")))
            self.fails(1, "MP-E422: the plug-in crashed with SIGSEGV after", *words,
                       env=self.environment("crash_table"))


class Profile(Isolation):
    def profiled(self, status, misbehave, *options):
        result = self.run_misa("profile", misbehave, "--samples", "2", "--warm-up", "0", "--format", "json", *options)
        self.assertEqual(result.returncode, status, result.stderr)
        return strict_json(result.stdout), result.stderr

    def test_a_right_plug_in_is_timed_in_another_process_and_nothing_shows_it(self):
        report, message = self.profiled(0, "right", "--indexer", "dsa,hisa")
        self.assertEqual([(case["indexer"], case["backend"]) for case in report["cases"]],
                         [(name, backend) for name in ("dsa", "hisa") for backend in ("cpu", "plugin:misbehaving")])
        self.assertEqual((report["skipped"], program.without_noise(message)), ([], ""))
        self.assertNotIn("--isolated", report["command_line"])
        dumped = self.folder / "dumped.safetensors"
        self.run_misa("profile", "right", "--samples", "1", "--indexer", "dsa", "--dump-selection", dumped)
        self.assertEqual(misa("inspect", dumped).returncode, 0)

    def test_an_indexer_in_which_it_fails_is_named_and_the_rest_is_measured(self):
        for misbehave, reason in (("crash", "the plug-in crashed with SIGSEGV in select after "),
                                  ("hang", "the plug-in was ended in select after the time limit of 1.5 s"),
                                  ("error", "MP-E413: .*the moon is in the wrong phase")):
            with self.subTest(misbehave):
                report, message = self.profiled(1, misbehave, "--indexer", "dsa", "--time-limit", "1.5")
                self.assertEqual([(case["indexer"], case["backend"]) for case in report["cases"]], [("dsa", "cpu")])
                self.assertEqual([(one["indexer"], one["backend"]) for one in report["skipped"]],
                                 [("dsa", "plugin:misbehaving")])
                self.assertRegex(report["skipped"][0]["reason"], reason)
                self.assertRegex(message, r"(?m)^misa-prof: dsa: .*; measuring again without it$")
                self.assertRegex(message, "(?m)^misa-prof: error: MP-E422: the plug-in failed in 1 indexer: dsa: ")

    def test_the_plug_in_is_measured_where_it_does_not_fail(self):
        self.crashes_with_two_heads()
        report, _ = self.profiled(1, "right", "--indexer", "dsa,misa,hisa", "--active-heads", "2")
        self.assertEqual([(case["indexer"], case["backend"] != "cpu") for case in report["cases"]],
                         [("dsa", False), ("dsa", True), ("misa", False), ("hisa", False), ("hisa", True)])
        self.assertEqual([one["indexer"] for one in report["skipped"]], ["misa"])

    def test_outputs_are_written_once(self):
        lines = self.folder / "out.jsonl"
        result = self.run_misa("profile", "crash", "--samples", "1", "--indexer", "dsa", "-o", "jsonl:-", "-o", lines)
        self.assertEqual(result.returncode, 1)
        for text in (result.stdout, lines.read_text()):
            self.assertEqual([strict_json(line)["record"] for line in text.splitlines()], ["header", "case", "footer"])

    def test_a_crash_that_no_indexer_is_to_blame_for_ends_the_run(self):
        self.fails(1, "MP-E422: the plug-in crashed with SIGSEGV in misa_kernels after .*: nothing was measured", "profile",
                   *TINY, "--backend", f"plugin:{self.library}", env=self.environment("crash_table"))
        for misbehave, message in (("none", "MP-E411"), ("version", "MP-E412")):
            self.fails(4, message, "profile", *TINY, "--backend", f"plugin:{self.library}", env=self.environment(misbehave))

    def test_an_interruption_writes_what_was_measured(self):
        path = self.folder / "partial.json"
        running = subprocess.Popen([*program.PROGRAM, "profile", *TINY, "--backend", f"plugin:{self.library}", "--samples",
                                    "1000000", "--budget", "600", "-o", str(path)], stderr=subprocess.PIPE, text=True,
                                   env={**os.environ, **self.environment("right")})
        time.sleep(3)
        running.send_signal(signal.SIGINT)
        _, message = running.communicate(timeout=60)
        self.assertEqual(running.returncode, -signal.SIGINT, message)
        self.assertEqual(message.count("misa-prof: interrupted: "), 1)
        self.assertFalse(strict_json(path.read_text())["complete"])


if __name__ == "__main__":
    main()
