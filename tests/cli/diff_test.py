#!/usr/bin/env python3
"""Starts the real program and checks what diff says of two results, of which the test knows how they differ.

usage: diff_test.py BINARY [EMULATOR...]  [-- unittest arguments]
"""
import copy
import json
import random
import subprocess
import xml.etree.ElementTree as ElementTree

from program import FAST, ROOT, Cli, main, misa, needs_jsonschema, strict_json


def noisy(nanoseconds, seed, samples=30, spread=0.01):
    draw = random.Random(seed)
    return [round(nanoseconds * draw.lognormvariate(0, spread)) for _ in range(samples)]


class Diff(Cli):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        made = misa("profile", *FAST, "--indexer", "dsa,misa", "--active-heads", "2", "--format", "json")
        assert made.returncode == 0, made.stderr
        cls.made = strict_json(made.stdout)
        cls.made["measurement"]["contention"].update(loaded=False)

    def result(self, name, seed, factor=1.0, change=None):
        """A file of the result that was made, whose cases take a million nanoseconds times `factor`, and noise."""
        document = copy.deepcopy(self.made)
        for i, case in enumerate(document["cases"]):
            raw = noisy(1e6 * (i + 1) * factor, 100 * seed + i)
            case["end_to_end_ns"].update(raw=raw, samples=len(raw), median=sorted(raw)[len(raw) // 2])
        if change:
            change(document)
        path = self.folder / name
        path.write_text(json.dumps(document))
        return path

    def diff(self, *words, status=0):
        run = misa("diff", *words, "--format", "json")
        self.assertEqual(run.returncode, status, run.stderr)
        return strict_json(run.stdout), run.stderr

    def verdicts(self, *words, status=0):
        return [case["verdict"] for case in self.diff(*words, status=status)[0]["cases"]]

    def test_two_runs_that_measured_the_same_are_the_same(self):
        a = self.result("a.json", 1)
        later = self.result("later.json", 1, change=lambda d: d["environment"].update(timestamp_utc="2030-01-01T00:00:00Z"))
        found, _ = self.diff(a, later)
        self.assertEqual([case["verdict"] for case in found["cases"]], ["same", "same"])
        self.assertEqual([case["ratio"] for case in found["cases"]], [1, 1])
        self.assertEqual(found["gate"], None)

    def test_a_slow_down_of_a_fifth_is_found_and_fails_the_gate(self):
        a, b = self.result("a.json", 1), self.result("b.json", 2, 1.2)
        self.assertEqual(self.verdicts(a, b), ["slower", "slower"])
        self.assertEqual(self.verdicts(b, a), ["faster", "faster"])
        found, error = self.diff(a, b, "--max-slowdown", "5%", status=6)
        self.assertIn("MP-E491", error)
        self.assertEqual(found["gate"], "failed")
        for case in found["cases"]:
            self.assertLess(case["low"], 1.2)
            self.assertGreater(case["high"], 1.2)
        self.assertEqual(self.diff(b, a, "--max-slowdown", "5%")[0]["gate"], "passed")
        self.assertEqual(self.diff(a, b, "--max-slowdown", "0.5")[0]["gate"], "passed")

    def test_noise_that_hides_the_difference_is_inconclusive_and_ends_a_gate_with_7(self):
        a, b = self.result("a.json", 1), self.result("b.json", 2, 1.04)
        self.assertEqual(self.verdicts(a, b, "--noise", "5%"), ["inconclusive", "inconclusive"])
        _, error = self.diff(a, b, "--noise", "5%", "--max-slowdown", "5%", status=7)
        self.assertIn("MP-E492", error)

    def test_several_runs_show_how_much_runs_differ(self):
        a = [self.result(f"a{i}.json", i, factor) for i, factor in enumerate((1, 1.2, 0.85, 1.05))]
        b = [self.result(f"b{i}.json", 9 + i, factor) for i, factor in enumerate((1.1, 0.9, 1.2, 1))]
        words = ["--a", ",".join(map(str, a)), "--b", ",".join(map(str, b))]
        found, _ = self.diff(*words)
        self.assertEqual([case["verdict"] for case in found["cases"]], ["inconclusive"] * 2)
        self.assertEqual([(case["a"]["runs"], case["a"]["samples"]) for case in found["cases"]], [(4, 120)] * 2)
        steady = [self.result(f"c{i}.json", 20 + i, 1.3) for i in range(4)]
        steadier = [self.result(f"d{i}.json", 30 + i) for i in range(4)]
        self.assertEqual(self.verdicts("--a", ",".join(map(str, steadier)), "--b", ",".join(map(str, steady))),
                         ["slower", "slower"])

    def test_results_that_are_not_alike_are_refused_with_each_difference_and_its_option(self):
        a = self.result("a.json", 1)
        changes = {
            "--allow-different-host": lambda d: d["environment"].update(cpu="another"),
            "--allow-different-build": lambda d: d["environment"]["build"].update(type="Debug"),
            "--allow-different-run": lambda d: d["environment"].update(threads=77),
            "--allow-different-inputs": lambda d: d["workload"].update(seed="77", input_hash="0" * 16),
        }
        for option, change in changes.items():
            b = self.result("b.json", 2, change=change)
            refused = misa("diff", a, b)
            self.assertEqual(refused.returncode, 3, option)
            self.assertIn("MP-E489", refused.stderr)
            self.assertIn(option, refused.stderr)
            found, _ = self.diff(a, b, option)
            self.assertEqual([one["option"] for one in found["allowed"]][:1], [option])
        every = self.result("b.json", 2, change=lambda d: [change(d) for change in changes.values()])
        message = misa("diff", a, every).stderr
        for option in changes:
            self.assertIn(option, message)

    def test_a_load_beside_a_run_leaves_a_difference_inconclusive(self):
        a = self.result("a.json", 1)
        b = self.result("b.json", 2, 1.5, lambda d: d["measurement"]["contention"].update(loaded=True))
        found, _ = self.diff(a, b, "--max-slowdown", "5%", status=7)
        for case in found["cases"]:
            self.assertEqual(case["verdict"], "inconclusive")
            self.assertIn("other work", case["reason"])

    def test_cases_of_one_side_are_listed_and_nothing_in_common_ends_with_5(self):
        a = self.result("a.json", 1)
        only_misa = self.result("b.json", 2, change=lambda d: d["cases"].pop(0))
        found, _ = self.diff(a, only_misa)
        self.assertEqual((len(found["cases"]), len(found["only_a"]), found["only_b"]), (1, 1, []))
        self.assertIn("dsa", found["only_a"][0])
        renamed = self.result("c.json", 2, change=lambda d: [case.update(indexer="new") for case in d["cases"]])
        nothing = misa("diff", a, renamed)
        self.assertEqual(nothing.returncode, 5)
        self.assertIn("MP-E490", nothing.stderr)
        self.assertEqual(misa("diff", a, self.result("d.json", 2, change=lambda d: d.update(cases=[]))).returncode, 5)

    def test_a_result_that_is_given_twice_compares_nothing(self):
        a, b = self.result("a.json", 1), self.result("b.json", 2)
        again = self.folder / "again.json"
        with open(a, "rb") as result:
            again.write_bytes(result.read())
        for words in ([a, a], [a, again], ["--a", f"{a},{again}", "--b", b], ["--a", a, "--b", f"{b},{again}"]):
            self.fails(5, "MP-E497.*one and the same result", "diff", *words, "--max-slowdown", "5%")

    def test_quality_and_rows_that_changed_are_told(self):
        def lower(document):
            quality = document["cases"][1]["quality"]
            quality["recall"]["mean"] -= 0.125
            quality["per_row"][0]["recall"] -= 0.125

        found, _ = self.diff(self.result("a.json", 1), self.result("b.json", 2, change=lower))
        case = found["cases"][1]
        self.assertEqual(next(one["change"] for one in case["quality"] if one["name"] == "recall"), -0.125)
        self.assertEqual((case["rows"]["better"], case["rows"]["worse"]), (0, 1))

    def test_every_format_says_the_same(self):
        a, b = self.result("a.json", 1), self.result("b.json", 2, 1.2)
        outputs = [self.folder / name for name in ("d.txt", "d.json", "d.csv", "d.md", "d.xml")]
        self.succeeds("diff", a, b, *[word for path in outputs for word in ("-o", path)])
        for path in outputs:
            self.assertEqual(path.read_text().count("slower") >= 2, True, path)
        tests = ElementTree.parse(outputs[-1]).getroot()
        self.assertEqual((tests.get("tests"), tests.get("failures")), ("2", "2"))
        checked = subprocess.run([needs_jsonschema(self), ROOT / "scripts/check_json.py", outputs[1]],
                                 capture_output=True, text=True, check=False)
        self.assertEqual(checked.returncode, 0, checked.stderr)

    def test_bad_input_ends_with_a_clear_error(self):
        a = self.result("a.json", 1)
        cut = self.folder / "cut.json"
        cut.write_text(a.read_text()[:1000])
        empty = self.folder / "empty.json"
        empty.write_text("")
        interrupted = self.result("i.json", 2, change=lambda d: d.update(complete=False))
        hostile = self.result("h.json", 2, change=lambda d: d["cases"][0].update(
            end_to_end_ns={"raw": ["x", None, -1, 0, 1e308]}, quality=[], stages={"name": 1}, used=3))
        for words, status, error in (((a, cut), 3, "MP-E485"), ((a, empty), 3, "MP-E485"), ((a, ROOT), 3, "MP-E102"),
                                     ((a, self.folder / "none.json"), 3, "MP-E101"), ((a, interrupted), 3, "MP-E487"),
                                     ((a,), 2, "MP-E493"), ((), 2, "MP-E493"), ((a, a, "--a", a), 2, "MP-E493"),
                                     ((a, a, "--max-slowdown", "5"), 2, "MP-E001"), ((a, a, "-o", a), 2, "MP-E025")):
            run = misa("diff", *words)
            self.assertEqual(run.returncode, status, (words, run.stderr))
            self.assertIn(error, run.stderr)
        self.assertEqual(len(self.diff(a, interrupted, "--allow-incomplete")[0]["cases"]), 2)
        self.assertIn(misa("diff", a, hostile).returncode, (0, 3))


if __name__ == "__main__":
    main()
