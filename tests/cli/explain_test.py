#!/usr/bin/env python3
"""Starts the real program and checks what explain says of a row.

usage: explain_test.py BINARY [EMULATOR...]  [-- unittest arguments]
"""
import re
import struct

from program import FAST, Cli, main, strict_json, write_trace

WORKLOAD = FAST[:4]
TRACE = ["--rows", "8"]


class Explain(Cli):
    def json(self, *words):
        return strict_json(self.succeeds("explain", *words, "--format", "json"))

    def test_the_text_names_the_row_of_lowest_recall(self):
        for indexer in ("misa", "misa-dagger", "hisa", "misa-lr", "misa-lr-dagger"):
            cases = strict_json(self.succeeds("profile", *TRACE, *FAST[4:], "--indexer", indexer, "--format", "json"))
            recall = cases["cases"][0]["quality"]["recall"]
            shown = self.succeeds("explain", *TRACE, "--indexer", indexer)
            self.assertIn(f"Row {recall['worst_row']} of {indexer} on learned-32k-h64: the row of lowest recall", shown)
            self.assertIn(f"recall {recall['worst']:.4f}", shown)
            self.assertNotIn("lowest recall", self.succeeds("explain", *TRACE, "--indexer", indexer, "--row", "3"))

    def test_the_text_fits_a_screen_of_a_hundred_columns(self):
        for indexer in ("dsa", "misa", "misa-dagger", "hisa", "misa-lr", "misa-lr-dagger"):
            lines = self.succeeds("explain", *TRACE, "--indexer", indexer).splitlines()
            self.assertLessEqual(max(map(len, lines)), 100, indexer)
            self.assertLessEqual(len(lines), 70, indexer)
            self.assertEqual([line for line in lines if line != line.rstrip()], [])

    def test_text_and_json_say_the_same(self):
        facts, shown = self.json(*TRACE), self.succeeds("explain", *TRACE)
        self.assertTrue(facts["lowest_recall"])
        self.assertEqual(facts["missed"], len(facts["missed_tokens"]))
        self.assertEqual(facts["missed"], facts["wanted"] - facts["shared"])
        self.assertEqual(facts["missed"], sum(part["wanted"] - part["found"] for part in facts["parts"]))
        self.assertIn(f"{facts['missed']} of the {facts['wanted']} tokens that dsa keeps are missed", shown)
        kept = [head["head"] for head in facts["heads"] if head["kept"]]
        self.assertEqual([int(head) for head in re.findall(r"^ +(\d+)  kept ", shown, re.M)], kept)
        self.assertEqual((len(kept), len(facts["heads"])), (8, 64))
        self.assertAlmostEqual(sum(head["share"] for head in facts["heads"]), 1)
        dropped = sorted((head for head in facts["heads"] if not head["kept"]), key=lambda head: -head["votes"])
        self.assertEqual([int(head) for head in re.findall(r"^ +(\d+)  dropped ", shown, re.M)],
                         [head["head"] for head in dropped[:10]])
        self.assertIn("46 more  dropped", shown)
        for missed in facts["missed_listed"]:
            voter = missed["top_voters"][0]["head"]
            self.assertRegex(shown, rf"(?m)^ +{missed['token']} +{missed['rank']} .* {voter} ")
        best = facts["found_among_own_best"][0]
        self.assertEqual(best["found"], facts["shared"])
        self.assertIn(f"misa has {best['found']} among its best {best['best']}", " ".join(shown.split()))

    def test_each_indexer_says_how_its_tokens_are_lost(self):
        for indexer, words, lost in (("misa", "others scored more", "tokens"),
                                     ("misa-dagger", "not among the 4096 candidates", "candidates"),
                                     ("hisa", r"blocks that are not among the 16 chosen of \d+", "blocks")):
            options = [*TRACE, "--indexer", indexer]
            if indexer == "misa-dagger":
                options += ["--candidates", "4096"]
            if indexer == "hisa":
                options += ["--blocks", "16"]
            self.assertRegex(" ".join(self.succeeds("explain", *options).split()), words)
            self.assertEqual({missed["lost_in"] for missed in self.json(*options)["missed_listed"]}, {lost})
        self.assertIn("hisa scores with all heads", self.succeeds("explain", *TRACE, "--indexer", "hisa"))
        shown = " ".join(self.succeeds("explain", *TRACE, "--indexer", "misa-lr").split())
        self.assertIn("the linear head that stands for these", shown)

    def test_dsa_is_the_reference(self):
        shown = self.succeeds("explain", *WORKLOAD, "--indexer", "dsa")
        self.assertIn("dsa is the reference", shown)
        self.assertNotIn("Missed tokens", shown)
        self.assertEqual(self.json(*WORKLOAD, "--indexer", "dsa")["missed_tokens"], [])

    def test_numbers_are_those_of_a_row_worked_out_by_hand(self):
        # Head 0 is the larger, and decides without head 1 in row 0. In row 1 both vote alike.
        tensors = {"q": ("F32", [2, 2, 32], [2.0] * 32 + [0.0] * 31 + [1.0] + [1.0] * 64),
                   "weights": ("F32", [2, 2], [1.0, 9.0, 1.0, 1.0]),
                   "k": ("F32", [4, 32], [1.0] * 31 + [0.0] + [0.5] * 31 + [0.0] + [0.0] * 31 + [7.5] + [0.0] * 32),
                   "q_pos": ("I32", [2], [2, 3]), "ks": ("I32", [2], [0, 0]), "ke": ("I32", [2], [3, 4])}
        path = write_trace(self.folder / "t.safetensors", **tensors)
        options = ["--trace", path, "--top-k", "1", "--active-heads", "1"]
        facts = self.json(*options, "--router", "oracle")
        self.assertEqual((facts["row"], facts["visible"], facts["wanted"], facts["recall"]), (0, 3, 1, 0))
        self.assertEqual(facts["attention_mass_reason"], "not recorded")
        missed, = facts["missed_listed"]
        self.assertEqual((missed["token"], missed["rank"], missed["score"]), (2, 1, 9 * 7.5 + 15))
        self.assertEqual((missed["own_rank"], missed["own_score"], missed["beaten_by"]), (3, 15, 62 - 15))
        self.assertEqual(missed["top_voters"], [{"head": 1, "vote": 67.5, "share": 67.5 / 82.5},
                                                {"head": 0, "vote": 15, "share": 15 / 82.5}])
        self.assertEqual([(head["head"], head["kept"], head["votes"]) for head in facts["heads"]],
                         [(0, True, 15), (1, False, 67.5)])
        self.assertEqual([(one["token"], one["rank"], one["own_rank"]) for one in facts["border"]],
                         [(2, 1, 3), (0, 2, 1), (1, 3, 2)])
        self.assertEqual((facts["missed_tokens"], facts["own_best_with_all"]), ([2], 3))
        self.assertEqual([(part["begin"], part["wanted"], part["found"]) for part in facts["parts"]],
                         [(0, 0, 0), (1, 0, 0), (2, 1, 0)])
        mass = struct.pack("<8e", .5, .25, .25, 0, 0, 0, 0, 0)
        path = write_trace(self.folder / "t.safetensors", **tensors, attention_mass=("F16", [2, 4], mass))
        self.assertEqual(self.json(*options, "--router", "oracle")["attention_mass"], 2)
        self.assertIn("attention mass kept 2.0000", self.succeeds("explain", *options, "--router", "oracle"))
        self.assertEqual(self.json(*options, "--row", "1")["recall"], 1)

    def test_what_does_nothing_is_warned_of(self):
        facts = self.json(*WORKLOAD, "--indexer", "hisa", "--router", "gate")
        self.assertEqual([warning["id"] for warning in facts["warnings"]], ["MP-W033"])
        self.assertIn("warning: MP-W033: --router does nothing",
                      self.succeeds("explain", *WORKLOAD, "--indexer", "hisa", "--router", "gate"))

    def test_rows_indexers_and_formats_that_there_are_not(self):
        rows = self.json(*WORKLOAD)["rows"]
        self.fails(2, f"MP-E450: there is no row {rows}: rows are 0 to {rows - 1};.*try: --row {rows - 1}",
                   "explain", *WORKLOAD, "--row", rows)
        self.fails(2, "MP-E001", "explain", *WORKLOAD, "--row", "-1")
        blind = [*WORKLOAD, "--phase", "decode", "--context", "1", "--next-n", "2", "--sequences", "2"]
        self.fails(5, "MP-E451: row 0 sees no token", "explain", *blind, "--row", "0")
        self.assertEqual(self.json(*blind)["row"], 1)
        self.fails(2, "MP-E452.*names 2", "explain", *WORKLOAD, "--indexer", "misa,hisa")
        self.fails(2, "MP-E452.*names 6", "explain", *WORKLOAD, "--indexer", "all")
        self.fails(2, "MP-E010", "explain", *WORKLOAD, "--indexer", "mias")
        self.fails(2, "MP-E021", "explain", *WORKLOAD, "--format", "csv")
        self.fails(10, "MP-E50", "explain", *WORKLOAD, "--row", "0", "--max-memory", "100k")


if __name__ == "__main__":
    main()
