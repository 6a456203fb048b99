"""Noise is seen: contention through the run, intervals of ratios, reasons instead of figures that cannot be true."""
import os
import subprocess
import sys

from program import Cli, main, strict_json

SMALL = ["--model", "tiny", "--workload", "ci", "--indexer", "dsa,misa", "--threads", "1", "--warm-up", "0"]


class OneCore:
    """Runs everything of this block on one core, with `spinners` processes that never wait."""

    def __init__(self, spinners):
        self.spinners = spinners

    def __enter__(self):
        self.before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(self.before)})
        self.running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(self.spinners)]
        return self

    def __exit__(self, *_):
        for process in self.running:
            process.kill()
            process.wait()
        os.sched_setaffinity(0, self.before)


class Profiles(Cli):
    def profile(self, *arguments):
        return strict_json(self.succeeds("profile", *SMALL, *arguments, "--format", "json"))


class Contention(Profiles):
    def test_a_loaded_core_is_seen_warned_about_and_takes_the_colour_of_ratios(self):
        with OneCore(3):
            path = self.folder / "loaded.json"
            text = self.succeeds("profile", *SMALL, "--samples", "200", "--color", "always", "-o", "-", "-o",
                                 f"json:{path}")
        report = strict_json(path.read_text())
        contention = report["measurement"]["contention"]
        self.assertTrue(contention["loaded"])
        self.assertGreater(contention["waiting_share"], 0.3)
        self.assertLess(contention["own_cpu_share"], 0.7)
        self.assertIn("MP-W060", [warning["id"] for warning in report["warnings"]])
        self.assertIn("waited for a core", text)
        summary = text[text.index("vs dsa"):]
        for colour in ("\x1b[32m", "\x1b[31m"):
            self.assertNotIn(colour, summary)

    def test_contention_is_reported_whatever_it_is_and_the_warning_goes_with_it(self):
        report = self.profile("--samples", "20")
        contention = report["measurement"]["contention"]
        self.assertGreater(contention["watched_ns"], 0)
        self.assertGreaterEqual(contention["own_cpu_share"], 0)
        self.assertIsNotNone(contention["load_average_before"])
        self.assertEqual(contention["loaded"], "MP-W060" in [warning["id"] for warning in report["warnings"]])
        self.assertEqual(contention["loaded"], "reason" in contention)


class Ratios(Profiles):
    def test_a_ratio_has_an_interval_from_six_samples_on(self):
        for samples in (1, 5, 6, 9):
            report = self.profile("--samples", samples)
            dsa, misa = report["cases"]
            self.assertIsNone(dsa["speedup"])
            speedup = misa["speedup"]
            self.assertEqual(speedup["rounds"], samples)
            self.assertEqual(len(misa["end_to_end_ns"]["raw"]), samples)
            pairs = sorted(a / b for a, b in zip(dsa["end_to_end_ns"]["raw"], misa["end_to_end_ns"]["raw"]))
            self.assertAlmostEqual(speedup["median"] / ((pairs[(samples - 1) // 2] + pairs[samples // 2]) / 2), 1, 2)
            if samples < 6:
                self.assertIsNone(speedup["low"])
                self.assertEqual(speedup["verdict"], "too few samples")
                self.assertIn(f"there are {samples}", speedup["low_reason"])
                continue
            outside = 0 if samples < 9 else 1
            self.assertAlmostEqual(speedup["low"] / pairs[outside], 1, 2)
            self.assertAlmostEqual(speedup["high"] / pairs[-1 - outside], 1, 2)
            held = speedup["low"] <= 1 <= speedup["high"]
            self.assertEqual(speedup["verdict"] == "inconclusive", held)

    def test_the_table_says_when_a_ratio_is_worth_nothing(self):
        self.assertIn("too few", self.succeeds("profile", *SMALL, "--samples", "2"))
        text = self.succeeds("profile", *SMALL, "--samples", "6")
        self.assertEqual("~ inconclusive" in text, "~" in text.replace("~ inconclusive", ""))

    def test_stages_keep_their_samples(self):
        for case in self.profile("--samples", 4)["cases"]:
            for stage in case["stages"]:
                self.assertEqual(len(stage["time_ns"]["raw"]), 4)

    def test_no_roof_is_exceeded_and_no_closure_fails_without_a_reason(self):
        report = self.profile("--samples", 8)
        for case in report["cases"]:
            self.assertEqual(case["closure"]["ok"], "reason" not in case["closure"])
            for stage in case["stages"]:
                if stage["roof_fraction"] is None:
                    self.assertIn("roof_fraction_reason", stage)
                else:
                    self.assertLessEqual(stage["roof_fraction"], 1)


if __name__ == "__main__":
    main()
