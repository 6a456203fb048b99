"""`--row`: a row alone is the row that it was among the others, and keeps its number."""
import csv
import io
import unittest

from program import Cli, main, misa, strict_json

TINY = ["--model", "tiny", "--workload", "ci", "--top-k", "16"]
ALL = ["--indexer", "misa,misa-dagger,hisa,misa-lr,misa-lr-dagger", "--active-heads", "3", "--block-size", "16", "--blocks", "3", "--candidates", "20",
       "--sampled-keys", "8"]
MISA = ["--indexer", "misa", "--active-heads", "2"]
TIMED = ["--samples", "1", "--warm-up", "0"]
DECODE = ["--phase", "decode", "--context", "300", "--sequences", "3"]


class Row(Cli):
    def rows_of(self, *arguments, command=("compare", "--against-indexer", "dsa")):
        """Indexer -> row -> quality of the row, as JSON has it."""
        path = self.folder / "report.json"
        self.succeeds(*command, *TINY, *arguments, "-o", path)
        cases = strict_json(path.read_text())["cases"]
        return {case["indexer"]: {row["row"]: row for row in case["quality"]["per_row"]} for case in cases
                if case["quality"]}

    def check_rows(self, numbers, *arguments, **command):
        everything = self.rows_of(*arguments, **command)
        for number in numbers:
            alone = self.rows_of(*arguments, "--row", number, **command)
            self.assertEqual(set(alone), set(everything))
            for indexer, rows in alone.items():
                self.assertIn(number, rows, indexer)
                self.assertEqual(rows, {row: everything[indexer][row] for row in rows}, f"{indexer}, row {number}")
        return everything

    def test_a_row_alone_selects_what_it_selects_among_the_others(self):
        rows = self.check_rows([0, 5], *ALL)
        self.assertLess(min(row["recall"] for row in rows["misa"].values()), 1)
        self.check_rows([5], *MISA, command=("profile", *TIMED))

    def test_the_random_router_draws_for_the_row_by_its_number(self):
        rows = self.check_rows([3], *MISA, "--router", "random")
        self.assertGreater(len({row["recall"] for row in rows["misa"].values()}), 1)

    def test_a_decoded_row_keeps_its_pages(self):
        self.check_rows([2], *DECODE, *MISA)

    def test_rows_of_a_decoded_sequence_stay_together(self):
        drafts = [*DECODE, *MISA, "--next-n", "2"]
        self.check_rows([3], *drafts)
        self.assertEqual(list(self.rows_of(*drafts, "--row", 3)["misa"]), [2, 3])

    def test_row_counts_the_rows_that_rows_keeps(self):
        self.check_rows([1], "--rows", "2", *MISA)

    def test_a_row_that_is_not_there_is_refused(self):
        for command in ("profile", "compare"):
            self.fails(2, "MP-E450: there is no row 900: rows are 0 to", command, *TINY, "--row", "900")

    def test_compare_names_a_row_alone_by_its_number(self):
        found = self.succeeds("compare", *TINY, "--row", "5", "--indexer", "misa", "--against-indexer", "dsa", "-o",
                              "rows:-", "-o", f"json:{self.folder / 'a.json'}")
        quality = strict_json((self.folder / "a.json").read_text())["cases"][0]["quality"]
        self.assertEqual([row["row"] for row in quality["per_row"]], [5])
        self.assertEqual(quality["recall"]["worst_row"], 5)
        [row] = csv.DictReader(io.StringIO(found, newline=""))
        self.assertEqual((row["indexer"], row["reference"], row["row"]), ("misa", "dsa", "5"))
        self.assertEqual(float(row["recall"]), quality["per_row"][0]["recall"])
        self.assertEqual(int(row["missed"]), quality["per_row"][0]["missed"])
        wrong = self.folder / "wrong.json"
        self.assertEqual(misa("compare", *TINY, "--row", "5", "--indexer", "misa", "--inject", "duplicate-token",
                                     "-o", wrong).returncode, 1)
        findings = [finding["row"] for choice in strict_json(wrong.read_text())["cases"][0]["choices"]
                    for finding in choice["misses"] + choice["violations"]]
        self.assertEqual(set(findings), {5})

    def test_a_comparison_of_backends_has_no_rows_to_write(self):
        self.fails(2, "MP-E056: rows would be empty", "compare", *TINY, "-o", self.folder / "rows", "--format", "rows")

    def test_the_worst_row_is_named_in_every_table_with_the_command_that_explains_it(self):
        path, mark = self.folder / "all.json", self.folder / "all.md"
        table = self.succeeds("profile", *TINY, *TIMED, "--indexer", "dsa,misa", "--active-heads", "2", "-o", "-", "-o", path, "-o", mark)
        recall = strict_json(path.read_text())["cases"][1]["quality"]["recall"]
        named = f"{recall['worst']:.4f} ({recall['worst_row']})"
        self.assertIn(named, table)
        self.assertIn(named, mark.read_text())
        words = " ".join(table.split()).split("explained: misa-prof ")[1].split()
        words = words[:words.index("--row") + 2]
        self.assertEqual(words[-4:], ["--indexer", "misa", "--row", str(recall["worst_row"])])
        self.assertIn(f"recall {recall['worst']:.4f}", self.succeeds(*words))


if __name__ == "__main__":
    main()
