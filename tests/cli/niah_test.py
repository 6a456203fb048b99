"""`niah`: which needles in a haystack indexers select."""
import csv
import io
import os
import re
import signal
import subprocess
import time
import unittest

from program import PROGRAM, ROOT, Cli, main, needs_jsonschema, strict_json

SMALL = ["--context", "1k,2k", "--depths", "3", "--needles", "1", "--seeds", "1", "--top-k", "128"]
RED = "misa (qnorm, h 1)"


class Niah(Cli):
    def map_of(self, *arguments):
        """The JSON of a map, and its maps by name."""
        path = self.folder / "map.json"
        path.unlink(missing_ok=True)
        self.succeeds("niah", *arguments, "-o", path)
        report = strict_json(path.read_text())
        return report, {one["name"]: one for one in report["maps"]}

    def test_the_default_maps_are_green_and_that_of_qnorm_with_one_head_is_red(self):
        """Of the default two contexts. hisa's map is greener in shorter contexts: docs/niah.md says why."""
        report, maps = self.map_of("--context", "8k,16k")
        self.assertEqual(list(maps), ["dsa", "misa", "misa-dagger", "hisa", "misa-lr", RED])
        for name, one in maps.items():
            if name == RED:
                self.assertLess(one["mean"], 0.3)
                self.assertEqual(one["worst"]["share"], 0)
            else:
                self.assertGreaterEqual(one["mean"], 0.95, name)
        self.assertEqual((report["contexts"], len(report["depths"]), report["complete"]), ([8192, 16384], 11, True))
        self.assertEqual(maps[RED]["parameters"]["active_heads"], 1)

    def test_an_indexer_that_keeps_all_heads_has_the_map_of_dsa(self):
        _, maps = self.map_of(*SMALL, "--indexer", "dsa,misa:active-heads=64,misa:router=qnorm,active-heads=1")
        self.assertEqual(maps["misa (h 64)"]["shares"], maps["dsa"]["shares"])
        self.assertNotEqual(maps[RED]["shares"], maps["dsa"]["shares"])

    def test_a_column_of_a_map_does_not_depend_on_the_others(self):
        report, maps = self.map_of(*SMALL, "--indexer", "misa:active-heads=1")
        self.assertEqual(report["contexts"], [1024, 2048])
        _, alone = self.map_of("--context", "2k", *SMALL[2:], "--indexer", "misa:active-heads=1")
        self.assertEqual(alone["misa (h 1)"]["shares"], maps["misa (h 1)"]["shares"][1:])

    def test_every_format_has_the_same_cells(self):
        path = self.folder / "map.json"
        shown = self.succeeds("niah", *SMALL, "--indexer", "dsa,misa:router=qnorm,active-heads=1", "-o", path, "-o",
                              f"csv:{self.folder / 'map.csv'}", "-o", "md:-")
        report = strict_json(path.read_text())
        rows = list(csv.DictReader(io.StringIO((self.folder / "map.csv").read_text(), newline="")))
        cells = [(one["name"], context, depth, share) for one in report["maps"]
                 for context, column in zip(report["contexts"], one["shares"])
                 for depth, share in zip(report["depths"], column)]
        self.assertEqual([(row["map"], int(row["context"]), float(row["depth"]), float(row["share_mean"]))
                          for row in rows], cells)
        self.assertEqual({row["needles"] for row in rows}, {"1"})
        whole = [int(100 * share + 1e-9) for name, _, _, share in cells if name == RED]
        lines = re.findall(r"^\| +[\d.]+ % \| +(\d+) \| +(\d+) \|$", shown[shown.rindex("### "):], re.M)
        self.assertEqual([int(low) for low, _ in lines] + [int(high) for _, high in lines], whole)
        python = needs_jsonschema(self)
        checked = subprocess.run([python, str(ROOT / "scripts/check_json.py"), str(path)], capture_output=True, text=True,
                                 check=False)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)

    def test_contexts_without_room_are_skipped_and_if_none_has_nothing_is_shown(self):
        report, maps = self.map_of("--context", "64,1k", *SMALL[2:], "--indexer", "dsa")
        self.assertEqual(maps["dsa"]["shares"][0], [None] * 3)
        self.assertEqual(maps["dsa"]["shares"][1], [1] * 3)
        self.assertEqual(report["skipped"][0]["name"], "context 64")
        self.fails(5, "MP-E552: no needle can be seen in any context: .*do not fit", "niah", *SMALL[2:], "--context",
                   "16", "--indexer", "dsa")

    def test_a_dry_run_says_cases_and_memory(self):
        text = self.succeeds("niah", "--dry-run")
        self.assertIn("6 maps of 396 cells and 72 runs: dsa, misa, misa-dagger, hisa, misa-lr, " + RED, text)
        self.assertEqual(len(re.findall(r"^context \d+: 22 rows; [\d.]+ [MG]iB of memory$", text, re.M)), 6)
        self.fails(10, "MP-E502: a context of 131072 needs", "niah", "--dry-run", "--max-memory", "30M")

    def test_what_is_wrong_is_named_with_what_to_try(self):
        for message, *arguments in (
                (r"MP-E550: --context: the range '4k:128k' has no step", "--context", "4k:128k"),
                (r"MP-E550: --context: the range '8k:4k:\*2' ends before", "--context", "8k:4k:*2"),
                (r"MP-E550: --context: the range '4k:8k:\*1' never ends", "--context", "4k:8k:*1"),
                (r"MP-E550: --context: 4096 occurs twice", "--context", "4k,4096"),
                (r"MP-E550: --context: '' is not a whole number", "--context", "4k,"),
                (r"MP-E551: an indexer has no option 'routr'; .*try: router", "--indexer", "misa:routr=qnorm"),
                (r"MP-E551: router means nothing to hisa", "--indexer", "hisa:router=qnorm"),
                (r"MP-E551: active-heads is '0'", "--indexer", "misa:active-heads=0"),
                (r"MP-E551: active-heads is given twice", "--indexer", "misa:active-heads=1,active-heads=2"),
                (r"MP-E551: 'router=qnorm' belongs to no indexer", "--indexer", "router=qnorm"),
                (r"MP-E026: there is no router called 'qnrm'", "--indexer", "misa:router=qnrm"),
                (r"MP-E010: there is no indexer called 'mise'", "--indexer", "mise:active-heads=1"),
                (r"MP-E031: --indexer names misa:router=gate twice", "--indexer", "misa:router=gate,misa:router=gate"),
                (r"MP-E553: --depths: '1.5' is no depth", "--depths", "0,1.5"),
                (r"MP-E553: --depths: a depth occurs twice", "--depths", "0.5,50%"),
                (r"MP-E554: there is no needle mode 'tip'; try: top", "--needle-mode", "tip"),
                (r"MP-E555: niah runs our own backends", "--backend", "plugin:./mine.so"),
                (r"MP-E556: --seeds is 5000", "--seeds", "5000"),
                (r"MP-E557: preset 'iid' has no place for needles", "--preset", "iid")):
            with self.subTest(arguments):
                self.fails(2, message, "niah", *arguments)

    def test_an_interrupted_map_keeps_what_is_whole(self):
        path = self.folder / "map.json"
        words = [*PROGRAM, "niah", "--indexer", "dsa", "--context", "512,128k", "--depths", "2", "--seeds", "40", "-o",
                 str(path)]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, -signal.SIGINT, errors)
        report = strict_json(path.read_text())
        self.assertFalse(report["complete"])
        first, last = report["maps"][0]["shares"]
        self.assertEqual(last, [None, None])
        self.assertNotIn(None, first)


if __name__ == "__main__":
    main()
