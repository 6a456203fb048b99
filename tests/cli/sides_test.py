#!/usr/bin/env python3
"""Starts the real program and checks what it says of two sides that are measured in one process.

usage: sides_test.py BINARY [EMULATOR...]  [-- unittest arguments]
"""
import subprocess

from program import ROOT, Cli, main, misa, needs_jsonschema, strict_json

TINY = ["--model", "tiny", "--workload", "ci", "--samples", "24", "--warm-up", "0"]


class Sides(Cli):
    def measured(self, *words, status=0):
        run = misa("profile", *TINY, *words, "--format", "json")
        self.assertEqual(run.returncode, status, run.stderr)
        return strict_json(run.stdout), run.stderr

    def test_each_indexer_is_measured_on_both_sides_and_only_b_is_judged(self):
        path, again = self.folder / "ab.json", self.folder / "again.json"
        for result in (path, again):
            result.write_text(misa("profile", *TINY, "--indexer", "dsa,misa", "--ab", "--active-heads 2 --no-fusion",
                                   "--format", "json").stdout)
        found = strict_json(path.read_text())
        self.assertEqual([(case["indexer"], case["side"]) for case in found["cases"]],
                         [("dsa", "A"), ("dsa", "B"), ("misa", "A"), ("misa", "B")])
        self.assertEqual(found["sides"]["b"], ["--active-heads", "2", "--no-fusion"])
        self.assertEqual([case["parameters"]["active_heads"] for case in found["cases"]], [None, None, 8, 2])
        self.assertEqual(["change" in case for case in found["cases"]], [False, True, False, True])
        dsa_a, dsa_b = found["cases"][:2]
        self.assertEqual(dsa_a["selection_hash"], dsa_b["selection_hash"])
        self.assertNotEqual(found["cases"][2]["selection_hash"], found["cases"][3]["selection_hash"])
        checked = subprocess.run([needs_jsonschema(self), ROOT / "scripts/check_json.py", path], capture_output=True,
                                 text=True, check=False)
        self.assertEqual(checked.returncode, 0, checked.stderr)
        # A result of two sides is compared like any other, side by side.
        self.assertEqual([case["side"] for case in strict_json(self.succeeds("diff", path, again, "--format", "json"))
                          ["cases"]], ["A", "B", "A", "B"])

    def test_the_gate_the_verdict_and_the_status_agree_whatever_this_machine_measures(self):
        run = misa("profile", *TINY, "--indexer", "dsa", "--ab", "--backend oracle", "--max-slowdown", "5%", "--format",
                   "json")
        case = strict_json(run.stdout)["cases"][1]
        change = case["change"]
        self.assertEqual(case["backend"], "oracle")
        self.assertEqual(run.returncode, {"passed": 0, "failed": 6, "inconclusive": 7}[case["gate"]], run.stderr)
        if change["low"] is None:
            self.assertEqual(case["gate"], "inconclusive")
            return
        if change["low"] <= 1 <= change["high"]:
            self.assertIn(change["verdict"], ("same", "inconclusive"))
        failed = change["low"] > 1 and change["ratio"] > 1.05
        self.assertEqual(case["gate"], "failed" if failed else "passed" if change["high"] <= 1.05 else "inconclusive")

    def test_too_few_samples_are_no_verdict_and_no_gate_passes(self):
        run = misa("profile", *TINY[:4], "--samples", "3", "--indexer", "dsa", "--aa", "--max-slowdown", "50%",
                   "--format", "json")
        self.assertEqual(run.returncode, 7, run.stderr)
        found, error = strict_json(run.stdout), run.stderr
        self.assertEqual(found["cases"][1]["change"]["verdict"], "too few samples")
        self.assertEqual(found["cases"][1]["gate"], "inconclusive")
        self.assertIn("MP-E492", error)

    def test_sides_that_make_no_sense_are_refused(self):
        for words, error in ((("--ab", "--rows 3"), "MP-E494"), (("--ab", "--indexer dsa"), "MP-E494"),
                             (("--ab", " "), "MP-E494"), (("--ab", "--active-heads 'x"), "MP-E494"),
                             (("--ab", "--active-heads x"), "MP-E494"), (("--ab", "--backend none"), "MP-E012"),
                             (("--ab", "--backend plugin:x.so"), "MP-E495"), (("--aa", "--ab", "--no-graph"), "MP-E496"),
                             (("--backend", "plugin:x.so", "--aa"), "MP-E495"), (("--max-slowdown", "5%"), "MP-E496"),
                             (("--aa", "--dry-run"), "MP-E496")):
            run = misa("profile", *TINY, *words)
            self.assertEqual(run.returncode, 2, (words, run.stderr))
            self.assertIn(error, run.stderr)

    def test_an_option_of_side_b_that_does_nothing_is_told(self):
        found, _ = self.measured("--indexer", "dsa", "--ab", "--blocks 3")
        told = [(warning["id"], warning["where"]) for warning in found["warnings"]]
        self.assertIn(("MP-W033", "side B"), told)


if __name__ == "__main__":
    main()
