#!/usr/bin/env python3
"""Forced tokens from options, model profiles and traces to reports.

usage: forced_test.py BINARY [EMULATOR...]  [-- unittest arguments]
"""
import csv
import io

from program import FAST, Cli, main, misa, strict_json

FORCED = ["--force-first", "2", "--force-last", "5"]


class Forced(Cli):
    def report(self, command, *arguments, status=0):
        result = misa(command, *arguments, "--format", "json")
        self.assertEqual(result.returncode, status, result.stderr)
        return strict_json(result.stdout)

    def test_what_was_free_to_choose_is_rated_where_tokens_are_forced_and_nowhere_else(self):
        report = self.report("profile", *FAST, *FORCED, "--top-k", "32")
        for case in report["cases"]:
            self.assertEqual((case["parameters"]["force_first"], case["parameters"]["force_last"]), (2, 5))
            quality = case["quality"]
            if quality is None:
                continue
            recall, free = quality["recall"]["mean"], quality["recall_free"]["mean"]
            # 25 of 32 are free in rows that see more: 7 that are always found weigh the others down.
            if recall < 1:
                self.assertLess(free, recall)
            for row in quality["per_row"]:
                if row["recall_free"] is not None:
                    self.assertAlmostEqual(32 * row["recall"], 25 * row["recall_free"] + 7)
        plain = self.report("profile", *FAST, "--top-k", "32")
        for case in plain["cases"]:
            self.assertNotIn("force_first", case["parameters"])
            if case["quality"]:
                self.assertNotIn("recall_free", case["quality"])
                self.assertNotIn("recall_free", case["quality"]["per_row"][0])

    def test_tables_and_csv_have_it_too(self):
        table = misa("profile", *FAST, *FORCED).stdout
        self.assertIn("free recall", table)
        self.assertIn("2 first and 5 last forced", table)
        self.assertNotIn("free", misa("profile", *FAST).stdout)
        rows = list(csv.DictReader(io.StringIO(misa("profile", *FAST, *FORCED, "--format", "csv").stdout)))
        whole = [row for row in rows if row["stage"] == "end_to_end" and row["indexer"] == "hisa"]
        self.assertEqual([(row["force_first"], row["force_last"]) for row in whole], [("2", "5")])
        self.assertTrue(0 <= float(whole[0]["recall_free"]) <= 1)
        self.assertTrue(0 <= float(whole[0]["iou_free"]) <= 1)

    def test_every_indexer_agrees_with_the_formulas_and_a_dropped_token_is_a_violation(self):
        small = ["--model", "tiny", "--workload", "ci", "--top-k", "48", "--candidates", "200", "--indexer",
                 "dsa,misa-dagger,hisa", "--rows", "3"]
        report = self.report("compare", *small, *FORCED)
        self.assertEqual({case["verdict"] for case in report["cases"]}, {"passed"})
        dropped = self.report("compare", *small, *FORCED, "--inject", "dropped-forced", status=1)
        for case in dropped["cases"]:
            faults = {one["fault"] for choice in case["choices"] for one in choice["violations"]}
            self.assertEqual(faults, {"forced-missing"})
        idle = misa("compare", *small, "--inject", "dropped-forced")
        self.assertNotEqual(idle.returncode, 0)
        self.assertIn("--force-last 1", idle.stderr + idle.stdout)

    def test_the_profile_of_a_model_reaches_the_selection_by_a_trace_and_options_come_first(self):
        trace = self.folder / "longcat.safetensors"
        self.succeeds("generate", "--model", "longcat-2.0", "--workload", "decode-8k", "--sequences", "1", "--context", "2500",
                      "-o", trace)
        short = ["--trace", trace, "--indexer", "dsa", "--samples", "1", "--warm-up", "0"]
        parameters = self.report("profile", *short)["cases"][0]["parameters"]
        self.assertEqual((parameters["force_first"], parameters["force_last"]), (16, 1024))
        self.assertNotIn("force_first", self.report("profile", *short, "--force-first", "0", "--force-last", "0")
                         ["cases"][0]["parameters"])
        selection = self.folder / "ids.safetensors"
        self.succeeds("profile", *short, "--dump-selection", selection)
        self.succeeds("compare", "--trace", trace, "--selection", selection)
        judged = self.report("compare", "--trace", trace, "--selection", selection, "--force-first", "300", status=1)
        faults = {one["fault"] for choice in judged["cases"][0]["choices"] for one in choice["violations"]}
        self.assertEqual(faults, {"forced-missing"})

    def test_what_cannot_be_forced_is_refused_or_said(self):
        self.fails(2, "MP-E545", "profile", *FAST, "--indexer", "hisa", "--blocks", "2", "--block-size", "16",
                   "--force-last", "40")
        self.fails(2, "--force-last", "profile", *FAST, "--force-last", "-1")
        result = misa("profile", *FAST, "--top-k", "32", "--force-first", "40", "--force-last", "3")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("--force-first is 40, and a row keeps 32 tokens: 32 are used", " ".join(result.stdout.split()))


if __name__ == "__main__":
    main()
