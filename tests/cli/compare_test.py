#!/usr/bin/env python3
"""Starts the real program and checks what compare, selftest and shrink promise.

usage: compare_test.py BINARY [EMULATOR...]  [-- unittest arguments]
"""
import math
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

from program import PROGRAM, ROOT, Cli, has_cuda, main, misa, needs, needs_jsonschema, strict_json, tensors, write_trace

TINY = ["--model", "tiny", "--workload", "ci"]
SMALL = ["--candidates", "512", "--top-k", "128"]
CASES = [*TINY, *SMALL, "--active-heads", "3"]
DECODE = [word if word != "ci" else "decode-8k" for word in CASES]
PRESETS = ["natural", "diffuse", "cancel", "scattered", "blind", "iid"]

INDEXERS = ("dsa", "misa", "misa-dagger", "hisa", "misa-lr", "misa-lr-dagger")


class Compare(Cli):
    def compared(self, status, *arguments):
        """The report of a comparison that ends with `status`."""
        result = misa("compare", *arguments, "--format", "json")
        self.assertEqual(result.returncode, status, result.stderr)
        return strict_json(result.stdout)

    def goldens(self, *arguments):
        folder = self.folder / "goldens"
        self.succeeds("compare", *arguments, "--write-golden", folder)
        return folder


class Agreement(Compare):
    def test_the_cpu_agrees_with_the_formulas_on_every_preset_and_phase(self):
        for preset in PRESETS:
            for cases in (CASES, DECODE):
                report = self.compared(0, *cases, "--preset", preset)
                self.assertEqual([case["verdict"] for case in report["cases"]], ["passed"] * 4)
                for case in report["cases"]:
                    for choice in case["choices"]:
                        self.assertGreater(choice["rows"], 0)
                        self.assertEqual(sum(choice["verdicts"].values()), choice["rows"])
                        self.assertEqual(choice["missed"] + choice["violated"], 0)

    def test_the_shipped_goldens_are_met(self):
        report = self.compared(0, "--against", ROOT / "profiles/goldens", "--rows", "16")
        self.assertEqual([case["indexer"] for case in report["cases"]], list(INDEXERS))
        self.assertEqual(report["against"]["arithmetic"], "f64")
        for case in report["cases"]:
            names = [choice["name"] for choice in case["choices"] if choice["rows"] == 16]
            self.assertEqual(names[-2:], ["tokens", "scores"])

    def test_the_goldens_of_an_h200_are_met_on_inputs_that_are_drawn_again(self):
        folders = sorted((ROOT / "profiles/goldens/h200").iterdir())
        self.assertGreaterEqual(len(folders), 10)
        self.assertEqual({name.name.split("-")[0] for name in folders}, {"decode", "prefill", "shipped"})
        for folder in folders:
            self.assertLess(max(path.stat().st_size for path in folder.iterdir()), 1 << 20)
            report = self.compared(0, "--against", folder)
            self.assertIn("NVIDIA H200", report["against"]["description"])
            self.assertEqual([(case["indexer"], case["verdict"]) for case in report["cases"]],
                             [(name, "passed") for name in INDEXERS])
        golden = folders[0] / "misa-lr.safetensors"
        self.assertEqual([case["indexer"] for case in self.compared(0, "--against", golden)["cases"]], ["misa-lr"])
        report = self.compared(0, "--against", folders[0], "--indexer", "hisa,dsa")
        self.assertEqual([case["indexer"] for case in report["cases"]], ["hisa", "dsa"])

    def test_stages_are_compared_as_asked(self):
        report = self.compared(0, *CASES, "--indexer", "misa-dagger", "--stages", "tokens,heads")
        self.assertEqual([choice["name"] for choice in report["cases"][0]["choices"]], ["heads", "tokens"])

    def test_every_mistake_fails_with_its_class_and_a_line_that_reproduces_it(self):
        for indexer, mistake, choice, verdict, cases in (
                ("dsa", "swapped-token", "tokens", "miss", CASES), ("hisa", "duplicate-token", "tokens", "violation", CASES),
                ("misa", "wrong-head", "heads", "miss", CASES), ("dsa", "stale-scale", "scores", "miss", CASES),
                ("misa-dagger", "dropped-candidate", "candidates", "miss", CASES),
                ("hisa", "dropped-block", "blocks", "miss", [*CASES, "--blocks", "4"]),
                ("dsa", "off-by-one-page", "tokens", "miss", DECODE),
                ("misa", "truncated-row", "tokens", "violation", CASES), ("dsa", "nan-score", "scores", "violation", CASES),
                ("dsa", "token-window", "tokens", "violation", [*CASES, "--compress-ratio", "4"])):
            report = self.compared(1, *cases, "--indexer", indexer, "--inject", mistake)
            case = report["cases"][0]
            found = {one["name"]: one["verdicts"] for one in case["choices"]}
            self.assertGreater(found[choice][verdict], 0, mistake)
            self.assertIn("first in the " + choice if mistake != "off-by-one-page" else "miss", case["explanation"])
            again = misa(*shlex.split(case["reproduce"])[1:])
            self.assertEqual(again.returncode, 1, case["reproduce"])

    def test_a_kernel_of_the_tested_side_may_be_forced(self):
        dsa = ["compare", *TINY, "--indexer", "dsa"]
        self.succeeds(*dsa, "--kernel", "score=windows", "--thread-sweep", "--threads", "2")
        self.fails(4, "MP-E406.*score to use candidates.*try: misa-prof list --kernels", *dsa, "--kernel", "score=candidates")
        some = misa("compare", *TINY, "--indexer", "misa,misa-lr", "--kernel", "rank=tiles")
        self.assertEqual(some.returncode, 5)
        self.assertIn("MP-E611: 1 of 2 cases compared nothing: misa-lr: --kernel forces rank to use tiles", some.stderr)
        self.fails(2, "MP-E058: backend cpu has no kernel of score called 'formula'", *dsa, "--kernel", "score=formula")
        self.fails(2, "MP-E058", *dsa, "--kernel", "score=formula", "--dry-run")
        self.succeeds(*dsa, "--backend", "oracle", "--against", "cpu", "--kernel", "score=formula")
        self.fails(2, "MP-E059", *dsa, "--kernel", "windows")

    def test_misses_may_be_excused_and_violations_may_not(self):
        arguments = [*CASES, "--indexer", "dsa", "--inject"]
        self.assertEqual(misa("compare", *arguments, "swapped-token", "--max-miss", "1").returncode, 0)
        self.assertEqual(misa("compare", *arguments, "duplicate-token", "--max-miss", "1000").returncode, 1)

    def test_robustness_is_checked_when_asked_for(self):
        report = self.compared(0, *DECODE, "--robust", "--threads", "2")
        for case in report["cases"]:
            self.assertEqual({check["name"] for check in case["checks"]},
                             {"repeat-bitwise", "thread-sweep", "poison-unseen", "canaries"})
            self.assertTrue(all(check["passed"] for check in case["checks"]))
        checks = self.compared(0, *CASES, "--repeat-bitwise", "2", "--indexer", "dsa")["cases"][0]["checks"]
        self.assertEqual([check["name"] for check in checks], ["repeat-bitwise", "canaries"])

    def test_quality_has_its_own_gate(self):
        arguments = [*CASES, "--indexer", "misa", "--against-indexer", "dsa"]
        case = self.compared(0, *arguments)["cases"][0]
        self.assertEqual(case["choices"], [])
        recall = case["quality"]["recall"]["mean"]
        self.assertLess(recall, 1)
        self.assertEqual(misa("compare", *arguments, "--min-recall", str(recall - 0.01)).returncode, 0)
        self.assertEqual(misa("compare", *arguments, "--min-recall", str(recall + 0.01)).returncode, 1)
        report = self.compared(0, *CASES, "--against-indexer", "misa")  # all others, without --indexer
        self.assertEqual([case["indexer"] for case in report["cases"]], ["dsa", "misa-dagger", "hisa"])

    def test_what_says_nothing_does_not_pass(self):
        self.assertEqual(misa("compare", *CASES, "--indexer", "dsa", "--stages", "heads").returncode, 5)
        self.assertEqual(misa("compare", *TINY, "--preset", "dormant", "--indexer", "dsa").returncode, 5)

    def test_wrong_words_are_answered(self):
        self.fails(2, "MP-E036.*tokens", "compare", *TINY, "--stages", "tokns")
        self.fails(2, "MP-E037.*swapped-token", "compare", *TINY, "--inject", "swaped-token")
        self.fails(2, "MP-E038.*decode", "compare", *TINY, "--indexer", "dsa", "--inject", "off-by-one-page")
        self.fails(2, "MP-E039", "compare", *TINY, "--against-indexer", "dsa", "--against", "goldens")
        self.fails(2, "MP-E040", "compare", *TINY, "--min-recall", "0.5")
        self.fails(2, "MP-E041", "compare", *TINY, "--against", "cpu")
        self.fails(2, "MP-E041.*misa against itself.*--against-indexer dsa", "compare", *TINY, "--indexer", "misa",
                   "--against-indexer", "misa")
        self.fails(2, "MP-E041.*--indexer without dsa", "compare", *TINY, "--indexer", "hisa,dsa", "--against-indexer",
                   "dsa")
        self.fails(3, "MP-E606", "compare", *TINY, "--against", self.folder / "none")
        self.fails(2, "MP-E606.*oracle", "compare", *TINY, "--against", "oracel")
        self.fails(2, "MP-E001", "compare", *TINY, "--min-recall", "1.5", "--against-indexer", "dsa")
        if not has_cuda():
            self.fails(4, "MP-E4", "compare", *TINY, "--backend", "cuda")


class Verdicts(Compare):
    """Inputs on which a comparison could say too much."""

    def trace(self, queries, weights, keys, dim=32):
        """One row of f32 heads over f32 keys, each given by its first numbers, that sees all of them."""
        def padded(vectors):
            return [number for vector in vectors for number in [*vector, *[0.0] * (dim - len(vector))]]

        return write_trace(self.folder / "trace.safetensors",
                           q=("F32", [1, len(queries), dim], padded(queries)),
                           weights=("F32", [1, len(weights)], weights),
                           k=("F32", [len(keys), dim], padded(keys)),
                           ks=("I32", [1], [0]), ke=("I32", [1], [len(keys)]), q_pos=("I32", [1], [len(keys) - 1]))

    def case(self, status, trace, *arguments):
        report = self.compared(status, "--trace", trace, *arguments)
        return report["cases"][0], {one["name"]: one["verdicts"] for one in report["cases"][0]["choices"]}

    def empty_decode(self):
        return write_trace(self.folder / "empty.safetensors",
                           q=("F8_E4M3", [3, 8, 128], [56] * 3 * 8 * 128), weights=("F32", [3, 8], [0.1] * 24),
                           k_pages=("U8", [4, 64, 132], [56] * 4 * 64 * 132), block_table=("I32", [3, 1], [-1] * 3),
                           seq_lens=("I32", [3], [0] * 3))

    def test_rows_that_see_nothing_compare_nothing(self):
        for indexer in INDEXERS:
            case, verdicts = self.case(5, self.empty_decode(), "--top-k", "64", "--indexer", indexer)
            self.assertEqual((case["verdict"], case["explanation"]), ("nothing", "no row sees a token"))
            self.assertEqual(verdicts["tokens"]["empty"], 3)
            self.assertEqual(verdicts["tokens"]["exact"], 0)
        result = misa("compare", "--trace", self.empty_decode(), "--indexer", "dsa")
        self.assertRegex(result.stderr, "MP-E611.*no row sees a token; try: rows that see tokens")

    def test_rows_that_see_nothing_have_no_recall_and_no_chance(self):
        arguments = ["profile", "--trace", self.empty_decode(), "--top-k", "64", "--samples", "1", "--warm-up", "0",
                     "--indexer", "dsa,misa"]
        shown = self.succeeds(*arguments)
        self.assertNotIn("1.0000", shown)
        self.assertIn("recall of chance –", shown)
        report = strict_json(self.succeeds(*arguments, "--format", "json"))
        self.assertIsNone(report["workload"]["chance_recall"])
        self.assertEqual(report["workload"]["chance_recall_reason"], "no row sees a token")
        for case in report["cases"]:
            recall = case["quality"]["recall"]
            self.assertEqual([recall[name] for name in ("mean", "median", "p1", "worst", "worst_row")], [None] * 5)
            self.assertEqual(recall["mean_reason"], "no row sees a token")
            self.assertIsNone(case["quality"]["iou"])

    def test_zeros_that_were_chosen_say_nothing_of_what_else_was_on_offer(self):
        keys = [[math.sin(token)] for token in range(1, 301)]
        for gate, status in ((-1.0, 0), (0.0, 5)):
            case, verdicts = self.case(status, self.trace([[1.0]], [gate], keys), "--top-k", "64", "--indexer", "dsa")
            self.assertEqual(verdicts["tokens"]["exact"], 1)
        self.assertIn("every score on offer is 0", case["explanation"])

    def test_a_difference_that_only_an_infinite_bound_explains_cannot_be_judged(self):
        # Scores of 1e75 and more differ in double, and are all infinite in f32.
        keys = [[3e38 * math.sin(7 * token) if token % 4 == 0 else 0.0, -1e38] for token in range(1, 201)]
        case, verdicts = self.case(7, self.trace([[3e38, 0.0, 1.0]], [1.0], keys), "--top-k", "8", "--indexer", "dsa")
        self.assertEqual(case["verdict"], "inconclusive")
        self.assertEqual(verdicts["tokens"]["unbounded"], 1)
        self.assertEqual(verdicts["tokens"]["within_bound"], 0)
        self.assertIn("unbounded", misa("compare", "--trace", self.folder / "trace.safetensors", "--top-k", "8", "--indexer",
                                        "dsa").stdout)

    def test_a_small_gate_does_not_make_an_overflow_a_miss(self):
        # q . k is 2.7e39 and 4.1e39, and with the gate 2.6e33 and 3.9e33.
        trace = self.trace([[1.0] * 32], [2.0 ** -20], [[8.5e37] * 32, [1.28e38] * 32, [1.0] * 32])
        for indexer in ("dsa", "misa", "misa-dagger", "misa-lr"):
            case, verdicts = self.case(7, trace, "--top-k", "1", "--indexer", indexer)
            self.assertEqual([verdict["miss"] for verdict in verdicts.values()], [0] * len(verdicts))
            self.assertEqual(verdicts["tokens"]["unbounded"], 1)
        for router in ("pooled", "selfk", "oracle", "linear-residual", "covariance"):
            trace = self.trace([[1.0] * 32, [1.5] * 32, [1.25] * 32], [2.0 ** -20, 2.0 ** -21, 2.0 ** -20],
                               [[8.5e37] * 32, [1.28e38] * 32, [1.0] * 32, [1.27e38] * 32])
            report = misa("compare", "--trace", trace, "--indexer", "misa", "--router", router, "--active-heads", "1",
                          "--top-k", "1", "--block-size", "2", "--format", "json")
            self.assertIn(report.returncode, (0, 7), router)
            for choice in strict_json(report.stdout)["cases"][0]["choices"]:
                self.assertEqual(choice["missed"], 0, router)

    def test_squares_that_overflow_do_not_make_a_miss_under_covariance(self):
        for scale in (1e18, 1e30, 1e36):
            queries = [[math.sin(7 * head + d) for d in range(32)] for head in range(6)]
            keys = [[scale * math.cos(5 * token + d) for d in range(32)] for token in range(40)]
            for router in ("covariance", "linear-residual"):
                result = misa("compare", "--trace", self.trace(queries, [0.03 - 0.002 * h for h in range(6)], keys),
                              "--indexer", "misa,misa-lr", "--router", router, "--top-k", "26", "--active-heads", "3",
                              "--format", "json")
                self.assertIn(result.returncode, (0, 7))
                for case in strict_json(result.stdout)["cases"]:
                    self.assertEqual([choice["missed"] for choice in case["choices"]], [0] * len(case["choices"]))

    def test_a_mistake_without_occasion_is_told_what_gives_one(self):
        one_head = self.trace([[1.0]], [1.0], [[float(token)] for token in range(9)])
        for arguments, how in ((["--indexer", "misa", "--inject", "wrong-head"], "more than 1 head"),
                               (["--indexer", "dsa", "--inject", "swapped-token", "--top-k", "9"], "--top-k below 9"),
                               (["--indexer", "dsa", "--inject", "stale-scale"], "FP8"),
                               (["--indexer", "dsa", "--inject", "dropped-candidate"], "--indexer misa-dagger")):
            self.fails(2, f"MP-E038.*try: .*{how}", "compare", "--trace", one_head, *arguments)
        self.fails(2, "MP-E038.*try: --active-heads below the workload's 8", "compare", *TINY, "--indexer", "misa",
                   "--inject", "wrong-head")
        self.fails(2, "MP-E038.*try: --indexer misa$", "compare", *TINY, "--indexer", "dsa", "--inject", "wrong-head")

    def test_the_last_line_of_a_failure_says_what_to_do_next_and_not_what_was_just_done(self):
        bundle = self.folder / "bundle"
        for arguments, how in ((["--indexer", "dsa"], "--bundle DIR, then misa-prof shrink DIR"),
                               (["--indexer", "dsa,hisa"], "misa-prof compare .*--indexer dsa"),
                               (["--indexer", "dsa", "--bundle", bundle], "misa-prof shrink " + re.escape(shlex.quote(str(bundle))))):
            result = misa("compare", *CASES, "--inject", "truncated-row", *arguments)
            self.assertEqual(result.returncode, 1)
            self.assertRegex(result.stderr.splitlines()[-1], f"MP-E610.*; try: {how}$")
        nothing = misa("compare", *CASES, "--against", self.folder)
        self.assertEqual(nothing.returncode, 5)
        self.assertRegex(nothing.stderr, "holds no golden of dsa; try: .*--write-golden DIR where its device is")


class Goldens(Compare):
    def test_a_golden_is_met_where_it_was_made_and_refused_elsewhere(self):
        goldens = self.goldens(*CASES)
        self.assertEqual(sorted(path.name for path in goldens.iterdir()),
                         sorted(f"{name}.safetensors" for name in ("dsa", "misa", "misa-dagger", "hisa")))
        report = self.compared(0, *CASES, "--against", goldens)
        for case in report["cases"]:
            for choice in case["choices"]:
                self.assertEqual(choice["verdicts"]["exact"], choice["rows"])
        self.assertEqual(len(self.compared(0, *CASES, "--indexer", "misa", "--against",
                                           goldens / "misa.safetensors")["cases"]), 1)
        self.fails(3, "MP-E603", "compare", *CASES, "--seed", "2", "--against", goldens)
        self.fails(3, "MP-E604.*active_heads", "compare", *TINY, *SMALL, "--active-heads", "2", "--indexer", "misa",
                   "--against", goldens)

    def test_a_golden_holds_linear_queries_and_they_are_judged(self):
        linear = [*CASES, "--indexer", "misa-lr,misa-lr-dagger", "--sampled-keys", "16"]
        goldens = self.goldens(*linear)
        report = self.compared(0, *linear, "--against", goldens)
        for case in report["cases"]:
            choices = {choice["name"]: choice for choice in case["choices"]}
            self.assertEqual(choices["linear"]["verdicts"]["exact"], choices["linear"]["rows"])
        self.fails(3, "MP-E604.*sampled_keys", "compare", *CASES, "--indexer", "misa-lr", "--against", goldens)
        path = goldens / "misa-lr.safetensors"
        data = path.read_bytes()
        linear_bytes = tensors(path)["out.linear"][2]
        path.write_bytes(data.replace(linear_bytes, bytes(len(linear_bytes))))
        report = self.compared(1, *linear, "--against", goldens)
        choices = {choice["name"]: choice for choice in report["cases"][0]["choices"]}
        self.assertEqual(choices["linear"]["verdicts"]["miss"], choices["linear"]["rows"])
        self.assertEqual(choices["heads"]["verdicts"]["exact"], choices["heads"]["rows"])

    def test_a_golden_says_what_it_was_made_with(self):
        decode = [*DECODE, "--preset", "cancel", "--seed", "7"]
        goldens = self.goldens(*decode)
        report = self.compared(0, "--against", goldens)
        self.assertEqual([case["verdict"] for case in report["cases"]], ["passed"] * 4)
        self.assertEqual(report["input_hash"], self.compared(0, *decode)["input_hash"])
        self.assertEqual(len(self.compared(0, "--indexer", "hisa", "--against", goldens / "hisa.safetensors")["cases"]), 1)
        self.fails(3, "MP-E603", "compare", "--seed", "7", "--against", goldens)  # the command line says what is compared
        failed = self.compared(1, "--against", goldens, "--inject", "swapped-token", "--indexer", "dsa")
        self.assertIn("--seed 7", failed["cases"][0]["reproduce"])
        data = (goldens / "dsa.safetensors").read_bytes()
        for name, other in ((b"seed=7", b"seat=7"), (b"seed=7", b"seed=x"), (b"seed=7", b"seed:7"), (b"seed=7", b"color=")):
            (goldens / "dsa.safetensors").write_bytes(data.replace(name, other))
            self.fails(3, "MP-E602.*made_with", "compare", "--against", goldens)

    def test_an_indexer_without_a_golden_is_nothing_compared(self):
        goldens = self.goldens(*CASES, "--indexer", "hisa")
        self.assertEqual(misa("compare", *CASES, "--indexer", "dsa", "--against", goldens).returncode, 5)
        self.assertEqual(misa("compare", *CASES, "--indexer", "dsa,hisa", "--against", goldens).returncode, 5)
        self.assertEqual(misa("compare", *CASES, "--indexer", "dsa", "--against",
                              goldens / "hisa.safetensors").returncode, 5)

    def test_goldens_are_written_only_when_all_cases_pass(self):
        result = misa("compare", *CASES, "--inject", "swapped-token", "--indexer", "dsa", "--write-golden",
                      self.folder / "goldens")
        self.assertEqual(result.returncode, 1)
        self.only_files()

    def test_a_disk_that_fills_up_leaves_no_half_written_golden_bundle_or_trace(self):
        def nearly_full():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

        bundle = self.folder / "bundle"
        misa("compare", *CASES, "--indexer", "dsa", "--inject", "swapped-token", "--bundle", bundle)
        for arguments in (["compare", *CASES, "--write-golden", self.folder / "new"],
                          ["compare", *CASES, "--inject", "swapped-token", "--indexer", "dsa", "--bundle",
                           self.folder / "new"],
                          ["compare", *CASES, "-o", self.folder / "a.json"]):
            result = subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False,
                                    preexec_fn=nearly_full)
            self.assertEqual(result.returncode, 10, result.stderr)
            self.assertIn("MP-E106", result.stderr)
            self.assertEqual([path.name for path in self.folder.rglob("*") if bundle not in path.parents],
                             [name for name in ("bundle", "new") if (self.folder / name).exists()])
            if (self.folder / "new").exists():
                (self.folder / "new").rmdir()

    def test_a_golden_of_unknown_arithmetic_explains_nothing(self):
        goldens = self.goldens(*CASES, "--indexer", "dsa")
        path = goldens / "dsa.safetensors"
        data = path.read_bytes()
        self.assertEqual(data.count(b'"f32-dot"'), 1)
        path.write_bytes(data.replace(b'"f32-dot"', b'"f32-tod"'))
        self.assertEqual(misa("compare", *CASES, "--indexer", "dsa", "--against", goldens).returncode, 0)
        self.assertEqual(misa("compare", *CASES, "--backend", "oracle", "--indexer", "dsa", "--against",
                              goldens).returncode, 7)

    def test_broken_goldens_are_input_errors(self):
        goldens = self.goldens(*CASES, "--indexer", "dsa")
        path = goldens / "dsa.safetensors"
        data = path.read_bytes()
        compare = ["compare", *CASES, "--indexer", "dsa", "--against", path]
        for broken in (b"", data[:7], data[:200], data[:-1], data + b"x", data.replace(b"misa-golden/1", b"misa-golden/2"),
                       data.replace(b"misa-trace/1", b"misa-trace/9")):
            path.write_bytes(broken)
            self.fails(3, "MP-E", *compare)
        path.unlink()
        path.mkdir()
        self.assertEqual(misa(*compare).returncode, 5)  # a folder without goldens
        path.rmdir()
        os.mkfifo(path)
        self.fails(3, "MP-E102", *compare)
        if os.geteuid() != 0:
            path.unlink()
            path.write_bytes(data)
            path.chmod(0)
            self.fails(3, "MP-E101", *compare)

    def test_a_golden_that_grows_while_it_is_read_is_never_half_believed(self):
        goldens = self.goldens(*CASES, "--indexer", "dsa")
        path = goldens / "dsa.safetensors"
        stop, size = self.folder / "stop", path.stat().st_size
        writer = subprocess.Popen([sys.executable, "-c",
                                   "import sys, pathlib\n"
                                   "with open(sys.argv[1], 'ab') as file:\n"
                                   "    while not pathlib.Path(sys.argv[2]).exists():\n"
                                   "        file.write(b'x')\n"
                                   "        file.flush()\n", str(path), str(stop)])
        try:
            while path.stat().st_size == size:
                time.sleep(0.01)
            for _ in range(5):
                self.fails(3, "MP-E1", "compare", *CASES, "--indexer", "dsa", "--against", path)
        finally:
            stop.touch()
            writer.wait()


class Reports(Compare):
    def test_reports_agree_with_their_schemas(self):
        python = needs_jsonschema(self)
        needs(self, shutil.which("xmllint"), "xmllint")
        json_path, xml_path = self.folder / "a.json", self.folder / "a.xml"
        for extra, status in (([], 0), (["--inject", "swapped-token", "--indexer", "dsa"], 1),
                              (["--inject", "nan-score", "--indexer", "hisa"], 1),
                              (["--against-indexer", "dsa", "--indexer", "misa"], 0),
                              (["--stages", "heads", "--indexer", "dsa"], 5), (["--robust"], 0)):
            result = misa("compare", *CASES, *extra, "-o", json_path, "-o", xml_path)
            self.assertEqual(result.returncode, status, result.stderr)
            strict_json(json_path.read_text())
            suites = xml.etree.ElementTree.parse(xml_path).getroot()
            for suite in suites:
                tests = suite.findall("testcase")
                self.assertEqual(int(suite.get("tests")), len(tests))
                bad = [test for test in tests if test.find("failure") is not None or test.find("error") is not None]
                self.assertEqual(int(suite.get("failures")) + int(suite.get("errors")), len(bad))
                self.assertEqual(status == 0, not bad)
            checked = subprocess.run([python, str(ROOT / "scripts/check_json.py"), str(json_path)],
                                     capture_output=True, text=True, check=False)
            self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
            schema = ROOT / "tests/core/report/junit-10.xsd"
            subprocess.run(["xmllint", "--noout", "--schema", str(schema), str(xml_path)], check=True, capture_output=True)

    def test_annotations_go_to_standard_error_one_line_a_case(self):
        result = misa("compare", *CASES, "--inject", "truncated-row", "--annotate", "--format", "json")
        strict_json(result.stdout)
        lines = [line for line in result.stderr.splitlines() if line.startswith("::error ")]
        self.assertEqual(len(lines), 4)
        for line in lines:
            self.assertRegex(line, r"^::error title=[^:,]+::.*%0A.*misa-prof compare ")
        self.assertEqual(misa("compare", *CASES, "--annotate").stderr, "")

    def test_a_report_that_cannot_be_written_is_a_runtime_error_and_nothing_half_written_stays(self):
        self.fails(10, "MP-E106", "compare", *CASES, "-o", self.folder / "none" / "a.json")
        file = self.folder / "file"
        file.write_text("")
        self.assertEqual(misa("compare", *CASES, "--write-golden", file / "goldens").returncode, 10)
        self.only_files("file")

    def test_a_full_device_is_a_runtime_error(self):
        needs(self, os.path.exists("/dev/full"), "/dev/full")
        self.fails(10, "MP-E106", "compare", *CASES, "-o", "json:/dev/full")
        with open("/dev/full", "w") as full:
            self.assertEqual(misa("compare", *CASES, stdout=full).returncode, 10)

    def test_a_closed_pipe_ends_quietly(self):
        process = subprocess.Popen([*PROGRAM, "compare", *CASES], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        self.assertEqual(process.stderr.read(), b"")
        process.stderr.close()
        self.assertEqual(process.wait(), 0)

    def test_an_input_is_never_overwritten(self):
        goldens = self.goldens(*CASES, "--indexer", "dsa")
        path = goldens / "dsa.safetensors"
        self.fails(2, "MP-E025", "compare", *CASES, "--indexer", "dsa", "--against", path, "-o", f"json:{path}")


class Signals(Compare):
    def test_an_interrupted_comparison_writes_what_it_has_and_dies_of_the_signal(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            path = self.folder / "a.json"
            process = subprocess.Popen([*PROGRAM, "compare", "--write-golden", self.folder / "goldens", "-o", path],
                                       stderr=subprocess.PIPE)
            time.sleep(1.0)
            process.send_signal(number)
            process.communicate()
            self.assertEqual(process.returncode, -number)
            report = strict_json(path.read_text())
            self.assertFalse(report["complete"])
            self.only_files("a.json")
            path.unlink()


class Selftest(Compare):
    def test_every_mistake_is_seen(self):
        for arguments in ([], ["--seed", "41"], ["--seeds", "40", "--seed", "460"]):
            shown = self.succeeds("selftest", *arguments)
            self.assertNotIn("NO", shown)
            for name in INDEXERS:
                self.assertIn(f"no mistake, {name}, paged", shown)
                self.assertIn(f"no mistake, {name}, entries", shown)
            self.assertEqual(shown.count("yes, 40 of 40 seeds"), shown.count("yes") if "--seeds" in arguments else 0)
            for mistake in ("swapped-token", "duplicate-token", "dropped-candidate", "off-by-one-page", "wrong-head",
                            "stale-scale", "nan-score", "off-by-one-scale", "truncated-row", "token-window", "all-zero",
                            "nothing-compared"):
                self.assertIn(mistake, shown)


class Shrink(Compare):
    def test_a_bundle_shrinks_to_a_trace_that_still_fails(self):
        for indexer, mistake, cases in (("misa", "wrong-head", CASES), ("dsa", "off-by-one-page", DECODE)):
            bundle, small = self.folder / f"{mistake}", self.folder / f"{mistake}.safetensors"
            result = misa("compare", *cases, "--indexer", indexer, "--inject", mistake, "--bundle", bundle)
            self.assertEqual(result.returncode, 1)
            self.assertEqual(sorted(path.name for path in bundle.iterdir()),
                             [f"cpu.{indexer}.safetensors", "input.safetensors", f"oracle.{indexer}.safetensors",
                              "report.json"])
            shown = self.succeeds("shrink", bundle, "-o", small).splitlines()
            self.assertRegex(shown[0], rf"^{indexer}: \d+ -> [12] rows")
            self.assertLess(small.stat().st_size, (bundle / "input.safetensors").stat().st_size / 20)
            again = misa(*shlex.split(shown[1])[1:])
            self.assertEqual(again.returncode, 1, shown[1])

    def test_what_is_no_bundle_or_does_not_fail_is_refused(self):
        self.fails(2, "MP-E042", "shrink")
        self.fails(3, "MP-E101", "shrink", self.folder)
        for text, error in (("", "MP-E620"), ("[]", "MP-E620"), ("{}", "MP-E621"),
                            ('{"schema": "misa-prof/result"}', "MP-E621"),
                            ('{"schema": "misa-prof/agreement", "schema_version": "9.0.0"}', "MP-E622"),
                            ('{"schema": "misa-prof/agreement", "schema_version": "1.0.0"}', "MP-E623"),
                            ('{"schema": "misa-prof/agreement", "schema_version": "1.0.0", '
                             '"command_line": ["misa-prof", "compare", "--nonsense"]}', "MP-E624")):
            (self.folder / "report.json").write_text(text)
            self.fails(3, error, "shrink", self.folder)
        bundle = self.folder / "bundle"
        misa("compare", *CASES, "--indexer", "dsa", "--inject", "swapped-token", "--bundle", bundle)
        report = bundle / "report.json"
        report.write_text(report.read_text().replace('"--inject"', '"--max-miss"').replace('"swapped-token"', '"3"'))
        self.fails(5, "MP-E614", "shrink", bundle, "-o", self.folder / "small.safetensors")


if __name__ == "__main__":
    main()
