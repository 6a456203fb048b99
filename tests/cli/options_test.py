#!/usr/bin/env python3
"""What options mean: numbers are what was typed, outputs are what their names say, nothing is ignored in silence, and
the advice of a refusal works.

usage: options_test.py BINARY [EMULATOR...]  [-- unittest arguments]
"""
import os
import re
import shlex
import shutil
import subprocess

from program import FAST, PROGRAM, ROOT, Cli, has_cuda, main, misa, strict_json


class Numbers(Cli):
    def profile(self, *words):
        return strict_json(self.succeeds("profile", *FAST, "--indexer", "dsa", *words, "--format", "json"))

    def config(self, text):
        path = self.folder / "options.toml"
        path.write_text(text)
        return path

    def test_a_number_is_decimal_whatever_it_begins_with(self):
        for text, value in (("10", 10), ("010", 10), ("08", 8), ("0000000000000000000000000012", 12)):
            self.assertEqual(self.profile("--top-k", text)["workload"]["top_k"], value, text)
            self.assertEqual(self.profile("--seed", text)["workload"]["seed"], str(value), text)
            path = self.config(f'top-k = "{text}"\n')
            self.assertEqual(self.profile("--config", path)["workload"]["top_k"], value, text)
        self.assertEqual(self.profile("--rows", "08")["workload"]["rows"], 8)
        self.assertEqual(self.profile("--threads", "01")["environment"]["threads"], 1)
        self.assertEqual(len(strict_json(self.succeeds("profile", *FAST[:4], "--samples", "02", "--format", "json"))
                             ["cases"][0]["end_to_end_ns"]["raw"]), 2)

    def test_every_option_that_takes_a_number_reads_it_alike(self):
        counts = ["--seed", "--rows", "--context", "--sequences", "--next-n", "--page-size", "--compress-ratio", "--top-k", "--active-heads", "--sampled-keys", "--group", "--block-size", "--candidates",
                  "--force-first", "--force-last", "--blocks", "--threads", "--device", "--max-memory"]
        options = {"profile": [*counts, "--samples", "--warm-up", "--budget", "--time-limit",
                               "--max-slowdown", "--same-within", "--row", "--layer"],
                   "diff": ["--max-slowdown", "--same-within", "--noise"],
                   "compare": [*counts, "--row", "--layer", "--max-miss", "--repeat-bitwise", "--min-recall", "--time-limit"],
                   "explain": [*(name for name in counts if name != "--device"), "--row", "--layer"],
                   "nsight": [*counts, "--layer"], "generate": [*counts[:7], "--max-memory"],
                   "inspect": ["--max-memory"], "selftest": ["--seed", "--seeds"]}
        for command, names in options.items():
            shown = self.succeeds(command, "--help").split("Examples:")[0].splitlines()
            numeric = {line.split()[0] for line in shown if line.startswith("  --") and
                       re.match(r" +\S+ (N|BYTES|SECONDS|SHARE)\b", line)}
            if "--seed" in names:  # help shows defaults
                self.assertTrue(any(line.startswith("  --seed N=1 ") for line in shown), command)
            self.assertEqual(numeric, set(names), command)
            for name in names:
                for text in ("", "+5", " 5", "5 ", "1e3", "1E0", "0x10", "0b1", "1_000", "1,000", "5.", ".5", "-1", "--5",
                             "inf", "nan", "５", "1\u00a0", "٣"):
                    result = misa(command, f"{name}={text}")
                    self.assertEqual(result.returncode, 2, f"{command} {name} {text!r}: {result.stderr}")
                    self.assertRegex(result.stderr, "MP-E0(01|15)", f"{command} {name} {text!r}")

    def test_a_count_may_end_in_k_or_m(self):
        for text, value in (("1k", 1024), ("02K", 2048), ("1m", 1 << 20)):
            self.assertEqual(self.profile("--top-k", text)["workload"]["top_k"], value, text)
        for text in ("k", "1kk", "1.5k", "1 k", "1g", "4096m"):
            self.fails(2, "MP-E001.*is not a whole number", "profile", *FAST, "--top-k", text)
        self.fails(2, "MP-E001", "profile", *FAST, "--seed", "1k")

    def test_whole_numbers_have_no_point_and_the_others_may(self):
        for name in ("--top-k", "--seed", "--rows"):
            self.fails(2, "MP-E001.*'5.0' is not a whole number.*in digits", "profile", *FAST, name, "5.0")
        self.profile("--budget", "00.250")
        self.fails(2, "MP-E001.*not a number from 0 to 1 such as 0.5", "compare", "--against-indexer", "dsa",
                   "--min-recall", "1.5")

    def test_bytes_are_exact_and_have_binary_units(self):
        for text, value in (("09007199254740993", 9007199254740993), ("1k", 1024), ("1.5KiB", 1536), ("0.05M", 52428),
                            ("02GiB", 2 << 30), ("1tib", 1 << 40), ("7B", 7)):
            result = misa("profile", *FAST, "--indexer", "dsa", "--max-memory", text, "--format", "json")
            if value < 1 << 21:  # too small for anything, and the error says how much was asked for
                self.assertRegex(result.stderr, rf"the limit is {value}\b", text)
            else:
                self.assertEqual(result.returncode, 0, result.stderr)
        for text in ("0", "0.9", "0.5B", "1.5", "1e3", "2 GiB", "GiB", "1PiB", "5000000TiB", "1KiBB", ".5GiB", "1.GiB"):
            self.fails(2, "MP-E015", "profile", *FAST, "--max-memory", text)

    def test_a_config_file_reads_numbers_as_the_command_line_does(self):
        self.assertEqual(self.profile("--config", self.config("top-k = 1_0\n"))["workload"]["top_k"], 10)
        self.assertEqual(self.profile("--config", self.config("budget = 1e3\n"))["cases"][0]["indexer"], "dsa")
        for text, message in (("top-k = 010", "MP-E302"), ("top-k = 0x10", "MP-E304.*not decimal.*try: 16"),
                              ("top-k = [8]", "MP-E019.*no list"), ("budget = []", "MP-E019.*no list"),
                              ("no-fusion = [true]", "MP-E019"), ("indexer = []", "MP-E019.*try: one"),
                              ("top-k = 0o10", "MP-E304.*try: 8"), ("top-k = 10.0", "MP-E019.*'10.0'"),
                              ("top-k = 1e3", "MP-E019.*'1000.0'"), ('top-k = "+5"', "MP-E019"),
                              ('top-k = "0x10"', "MP-E019"), ("budget = inf", "MP-E019"), ("seed = 0b1", "MP-E304")):
            self.fails(2, message, "profile", *FAST, "--config", self.config(text + "\n"))


class Lengths(Cli):
    def profile(self, *words):
        return strict_json(self.succeeds("profile", "--model", "tiny", "--indexer", "dsa", "--samples", "1", "--budget", "0",
                                         *words, "--format", "json"))["workload"]

    def test_length_phase_and_sequences_are_options(self):
        prefill = self.profile("--context", "1k", "--rows", "4")
        self.assertEqual((prefill["name"], prefill["keys"], prefill["rows"]), ("tiny/prefill-8k,context=1024", 1024, 4))
        decode = self.profile("--context", "500", "--phase", "decode", "--sequences", "3", "--next-n", "2", "--page-size", "16")
        self.assertEqual((decode["phase"], decode["sequences"], decode["rows"]), ("decode", 3, 6))
        self.assertEqual(decode["keys"] % 16, 0)

    def test_one_of_them_is_enough_to_draw_a_workload(self):
        text = self.succeeds("profile", "--context", "2k", "--rows", "2", "--indexer", "dsa", "--dry-run")
        self.assertIn("deepseek-v3.2/prefill-8k,context=2048: 2 rows", text)
        text = self.succeeds("compare", "--model", "tiny", "--context", "300", "--rows", "2", "--indexer", "dsa")
        self.assertIn("passed: 1 of 1 case", text)
        self.succeeds("generate", "--model", "tiny", "--context", "300", "-o", self.folder / "made.safetensors")

    def test_what_has_no_meaning_is_refused(self):
        self.fails(2, "MP-E069.*prefill or decode", "profile", "--phase", "both")
        self.fails(2, "MP-E307.*--next-n", "profile", "--next-n", "2")
        self.fails(2, "MP-E307.*--sequences or --next-n", "profile", "--phase", "decode", "--rows", "2")
        self.fails(2, "MP-E017", "profile", "--trace", "learned-32k-h64", "--context", "1k")
        self.fails(2, "MP-E308", "profile", "--context", "0")

    def test_a_workload_of_ones_own_needs_no_prose(self):
        path = self.folder / "mine.toml"
        path.write_text('phase = "decode"\ncontext = 100\n')
        self.assertEqual(self.profile("--workload", path)["name"], "tiny/mine")


class Endings(Cli):
    def test_the_ending_of_a_file_says_its_format(self):
        for name, start in (("a.json", '{'), ("b.JSON", '{'), ("c.jsonl", '{"record":"header"'), ("d.csv", "workload,"),
                            ("e.md", "## misa-prof"), ("f.txt", "misa-prof "), ("no-ending", "workload,"),
                            (".hidden", "workload,")):
            words = ["--format", "csv"] if start == "workload," and name != "d.csv" else []
            self.succeeds("profile", *FAST, *words, "-o", self.folder / name)
            self.assertTrue((self.folder / name).read_text().startswith(start), name)
        self.succeeds("compare", *FAST[:4], "--indexer", "dsa", "-o", self.folder / "g.xml", "-o", self.folder / "h.json",
                      "-o", self.folder / "i.txt")
        self.assertTrue((self.folder / "g.xml").read_text().startswith("<?xml"))

    def test_an_ending_that_stands_for_no_format_is_refused_with_those_that_do(self):
        for name in ("report.pdf", "report.xml", "a.safetensors", "report.json.gz", "x.yaml"):
            self.fails(2, r"MP-E054.*'\.\w+'.*try: -o table:\S+, or one of \.txt, \.json, \.jsonl, \.csv, \.md", "profile", *FAST, "-o", name)
        for name in ("report.csv", "report.md", "report.jsonl"):
            self.fails(2, r"MP-E054.*try: -o table:\S+, or one of \.txt, \.json, \.html, \.htm, \.xml, \.junit", "compare", *FAST[:4], "-o",
                       name)
        self.only_files()
        self.succeeds("profile", *FAST, "-o", f"md:{self.folder}/report.html")
        self.assertTrue((self.folder / "report.html").read_text().startswith("## misa-prof"))

    def test_a_trace_and_a_selection_are_safetensors(self):
        for words in (["generate", *FAST[:4], "-o", "x.json"], ["profile", *FAST, "--dump-selection", "x.pt"],
                      ["shrink", "bundle", "-o", "x.npz"]):
            self.fails(2, r"MP-E054.*try: \S+ x\.safetensors", *words, cwd=self.folder)
        self.only_files()
        self.succeeds("generate", *FAST[:4], "-o", self.folder / "no-ending")


TINY = FAST[:4]


def warnings(report):
    return [(one["id"], one["text"], one["where"]) for one in report["warnings"] if one["id"] in ("MP-W033", "MP-W034")]


class Warned(Cli):
    """An option that does nothing, and a number there is no room for."""

    def profile(self, *words):
        return strict_json(self.succeeds("profile", *FAST, *words, "--format", "json"))

    def test_an_option_that_does_nothing_is_warned_about(self):
        for name, value, indexer in (("--blocks", "3", "dsa,misa"), ("--active-heads", "3", "dsa,hisa"),
                                     ("--router", "gate", "dsa,hisa"), ("--sampled-keys", "9", "misa"),
                                     ("--candidates", "600", "misa,hisa"), ("--block-size", "64", "dsa,misa-lr"),
                                     ("--block-window", "visible", "dsa"), ("--pooling", "cached", "dsa"),
                                     ("--warm", None, "dsa"),
                                     ("--no-graph", None, "dsa"), ("--no-fusion", None, "dsa")):
            words = [name] if value is None else [name, value]
            found = warnings(self.profile("--indexer", indexer, *words))
            self.assertEqual([(id, where) for id, _, where in found], [("MP-W033", "")], (name, found))
            self.assertIn(f"{name} does nothing: no ", found[0][1])
        for name, value, indexer in (("--blocks", "3", "hisa"), ("--active-heads", "3", "misa"),
                                     ("--router", "gate", "misa"), ("--sampled-keys", "9", "misa-lr"),
                                     ("--candidates", "600", "misa-dagger"), ("--block-size", "64", "hisa"),
                                     ("--block-window", "visible", "misa"), ("--pooling", "fresh", "misa-lr"),
                                     ("--seed", "3", "dsa")):
            self.assertEqual(warnings(self.profile("--indexer", indexer, name, value)), [], name)
        once = self.succeeds("profile", *TINY, "--indexer", "dsa", "--profile-once", "--budget", "3", "--format", "json")
        self.assertIn("--budget does nothing: --profile-once", warnings(strict_json(once))[0][1])

    def test_what_a_config_file_sets_is_given_too(self):
        path = self.folder / "options.toml"
        path.write_text('indexer = "dsa"\nblocks = 3\n')
        self.assertEqual(len(warnings(self.profile("--config", path))), 1)

    def test_a_seed_does_nothing_on_a_trace_whose_routers_do_not_draw(self):
        trace = self.folder / "t.safetensors"
        self.succeeds("generate", *TINY, "-o", trace)
        common = ["profile", "--trace", trace, *FAST[4:], "--indexer", "misa", "--seed", "7", "--format", "json"]
        self.assertIn("--seed", warnings(strict_json(self.succeeds(*common)))[0][1])
        self.assertEqual(warnings(strict_json(self.succeeds(*common, "--router", "random"))), [])

    def test_a_number_that_there_is_no_room_for_is_warned_about_with_what_is_used(self):
        report = self.profile("--indexer", "all", "--top-k", "100000", "--active-heads", "1000000000", "--block-size",
                              "1000000", "--blocks", "77", "--candidates", "200000", "--sampled-keys", "5000")
        found = {text.split()[0]: (text, where) for _, text, where in warnings(report)}
        self.assertEqual(set(found), {"--top-k", "--active-heads", "--block-size", "--blocks", "--candidates",
                                      "--sampled-keys"})
        self.assertEqual(found["--active-heads"],
                         ("--active-heads is 1000000000, and the workload has 8 heads: 8 are used",
                          "misa, misa-dagger, misa-lr, misa-lr-dagger"))
        self.assertEqual(found["--blocks"], ("--blocks is 77, and no row sees more than 1 block: 1 is used", "hisa"))
        for case in report["cases"]:
            told, used = case["parameters"], case["used"]
            self.assertEqual((told["top_k"], used["top_k"]), (100000, 1024))
            if used["active_heads"] is not None:
                self.assertEqual((told["active_heads"], used["active_heads"]), (1000000000, 8))
            for name in ("block_size", "head_block_size", "candidates", "sampled_keys"):
                self.assertIn(used[name], (None, 1024), name)
        self.assertEqual(warnings(self.profile("--top-k", "1024", "--active-heads", "8", "--block-size", "1024")), [])

    def test_every_format_of_every_command_shows_it(self):
        words = [*TINY, "--indexer", "hisa", "--top-k", "16", "--blocks", "88", "--sampled-keys", "3"]
        for command, forms in (("profile", ("table", "json", "jsonl", "csv", "md")), ("compare", ("table", "json", "junit"))):
            for form in forms:
                shown = self.succeeds(command, *words, *(FAST[4:] if command == "profile" else []), "--format", form)
                for part in ("MP-W033: --sampled-keys does", "MP-W034: --blocks is 88"):
                    self.assertIn(part if "json" not in form else part.split(": ")[1], shown, (command, form))
                    self.assertIn(part[:7], shown)
        for shown in (self.succeeds("profile", *words, "--dry-run"), self.succeeds("compare", *words, "--dry-run")):
            self.assertEqual(shown.count("MP-W033"), 1)
            self.assertEqual(shown.count("MP-W034"), 1)
        result = misa("nsight", *words, "--backend", "cpu")
        if result.returncode == 0:  # 4: a build without NVTX
            self.assertRegex(result.stdout, r"(?m)^# warning: MP-W034: --blocks is 88")
        result = misa("profile", *words, *FAST[4:], "-o", self.folder / "r.json")
        self.assertEqual((result.returncode, result.stdout), (0, ""))
        self.assertRegex(result.stderr, r"(?m)\Amisa-prof: warning: MP-W033: .*\nmisa-prof: warning: MP-W034: .*; hisa$")

    def test_a_format_that_no_output_takes_is_warned_about(self):
        report = self.folder / "r.json"
        result = misa("profile", *FAST, "--format", "csv", "-o", report)
        self.assertEqual(result.returncode, 0)
        self.assertIn("--format does nothing", warnings(strict_json(report.read_text()))[0][1])
        self.assertIn("MP-W033: --format", result.stderr)
        self.assertEqual(warnings(self.profile("-o", "-")), [])
        self.assertIn("--color does nothing", warnings(self.profile("--color", "never"))[0][1])

    def test_what_asks_for_a_check_that_is_not_made_is_refused(self):
        rating = ["compare", *TINY, "--indexer", "misa", "--against-indexer", "dsa"]
        for words in (["--stages", "tokens"], ["--inject", "swapped-token"], ["--bundle", self.folder / "b"],
                      ["--repeat-bitwise", "2"], ["--thread-sweep"], ["--poison-unseen"], ["--robust"]):
            self.fails(2, f"MP-E056: {words[0]} would do nothing.*try: without {words[0]}", *rating, *words)
        for words in (["--repeat-bitwise", "2"], ["--thread-sweep"], ["--poison-unseen"], ["--robust"]):
            self.fails(2, f"MP-E056: {words[0]}", "compare", *TINY, "--indexer", "dsa", "--inject", "swapped-token", *words)
        self.assertEqual(len(warnings(strict_json(self.succeeds(*rating, "--max-miss", "3", "--format", "json")))), 1)

    def test_the_environment_says_how_many_threads_when_no_option_does(self):
        def threads(*words, **environment):
            return strict_json(self.succeeds("profile", *FAST, "--indexer", "dsa", *words, "--format", "json",
                                             env=environment))["environment"]["threads"]
        self.assertEqual(threads(OMP_NUM_THREADS="1"), 1)
        self.assertEqual(threads(OMP_NUM_THREADS="02,1"), 2)
        self.assertEqual(threads("--threads", "1", OMP_NUM_THREADS="64"), 1)
        everywhere = threads()
        for bound in ({"OMP_PROC_BIND": "true"}, {"OMP_PLACES": "threads"}):  # the first thread is on one core then
            self.assertEqual(threads(**bound), everywhere, bound)
        for text in ("0", "many", "1000000", " 1", "0x1", ",2"):
            result = misa("profile", *FAST, env={"OMP_NUM_THREADS": text})  # libgomp may have a word of its own
            self.assertEqual(result.returncode, 2, text)
            self.assertRegex(result.stderr, "MP-E029: OMP_NUM_THREADS is .*try: --threads")


class Advice(Cli):
    """What a refusal says to try is tried."""

    def advised(self, *words):
        """The refusal's advice as words of a command line."""
        result = misa(*words, cwd=self.folder)
        self.assertNotEqual(result.returncode, 0, words)
        self.assertIn("; try: ", result.stderr, words)
        advice = result.stderr.strip().split("; try: ")[1]
        for end in ("; ", " or ", ", "):
            advice = advice.split(end)[0].rstrip(",")
        return shlex.split(advice)

    def follow(self, words, advice):
        """The command line with the advised options in place of its own."""
        words = list(map(str, words))
        if advice[0] == "misa-prof":
            return advice[1:]
        if advice[0] == "without":
            at = words.index(advice[1])
            return words[:at] + words[at + (1 if at + 1 == len(words) or words[at + 1].startswith("-") else 2):]
        while advice and advice[0] in words:
            at = words.index(advice[0])
            del words[at:at + 2]
        return words + advice

    def test_an_option_that_a_refusal_advises_works(self):
        trace = self.folder / "t.safetensors"
        self.succeeds("generate", *TINY, "-o", trace)
        profile, compare = ["profile", *FAST], ["compare", *TINY, "--indexer", "dsa"]
        for words in ([*profile, "--candidates", "5", "--top-k", "10"], [*profile, "--candidates", "5"],
                      [*profile, "--indexer", "misa-lr", "--router", "gate"],
                      [*profile, "--threads", "100000"], [*profile, "--device", "0", "--backend", "oracle"],
                      [*profile, "-o", "report.pdf"], [*profile, "-o", "jsn:a.json"], [*profile, "-o", "json:"],
                      [*profile, "--dump-selection", "-"], [*profile, "--dump-selection", "a.pt"],
                      ["generate", *TINY, "-o", "a.pt"], ["generate", *TINY],
                      [*compare, "--against", "cpu"], [*compare, "--min-recall", "0"],
                      ["compare", *TINY, "--indexer", "misa", "--against-indexer", "dsa", "--robust"],
                      [*compare, "--inject", "swapped-token", "--robust", "--max-miss", "10000"],
                      ["compare", *TINY, "--indexer", "hisa", "--active-heads", "2", "--inject", "wrong-head"],
                      ["nsight", *TINY, "--tool", "ncu", "--backend", "cpu"],
                      ["profile", "--samples", "1", "--model", "tiny", "--workload", "ci", "--top-k", "x"],
                      ["--nonsense"], ["profile", "--nonsense"]):
            advice = self.advised(*words)
            if advice == ["--backend", "cuda"] and not has_cuda():
                continue
            followed = self.follow(words, advice)
            again = misa(*followed, cwd=self.folder)
            # Advice may lead to another answer, never to the same refusal or another of usage.
            self.assertNotIn(again.returncode, (2, 70), f"{words} -> {followed}: {again.stderr}")

    def test_a_name_that_a_refusal_advises_works(self):
        for words, wrong in (([*FAST, "--indexer", "misaa"], "misaa"), ([*FAST, "--router", "pool"], "pool"),
                             ([*FAST, "--threds", "1"], "--threds"),
                             ([*FAST, "--backend", "cpuu"], "cpuu"), (["--model", "tinny", *FAST[2:]], "tinny"),
                             ([*FAST, "--preset", "natrual"], "natrual"), ([*FAST, "--format", "jsn"], "jsn"),
                             (["--trace", "learned-32k-h46", *FAST[4:], "--rows", "2"], "learned-32k-h46")):
            advice = self.advised("profile", *words)
            again = ["profile", *[advice[0] if word == wrong else word for word in words]]
            self.succeeds(*again)
        self.assertEqual(self.advised("list", "--names", "indexer"), ["indexers"])

    def test_many_tokens_are_kept_without_a_word_about_candidates(self):
        report = strict_json(self.succeeds("profile", *FAST, "--indexer", "all", "--top-k", "100000", "--format", "json"))
        dagger = [case for case in report["cases"] if case["indexer"] == "misa-dagger"][0]
        self.assertEqual(dagger["parameters"]["candidates"], 400000)
        self.fails(2, "MP-E028: --candidates is 50, fewer than the 60", "profile", *FAST, "--top-k", "60", "--candidates",
                   "50")


class Profiles(Cli):
    """A program that was copied without its profiles."""

    def setUp(self):
        super().setUp()
        if len(PROGRAM) != 1:
            self.skipTest("an emulator runs the program")
        self.copy = self.folder / "bin" / "misa-prof"
        self.copy.parent.mkdir()
        shutil.copy(PROGRAM[0], self.copy)

    def alone(self, *words, **environment):
        variables = {k: v for k, v in os.environ.items() if k != "MISA_PROF_PROFILES"}
        return subprocess.run([str(self.copy), *map(str, words)], capture_output=True, text=True, check=False,
                              env={**variables, **environment}, cwd="/")

    def test_it_says_so_and_where_it_looked(self):
        for words in (["list"], ["list", "--format", "json"], ["profile"], ["generate", "-o", "-"], ["inspect", "x"],
                      ["profile", "--model", "tiny"]):
            result = self.alone(*words)
            self.assertEqual(result.returncode, 4, words)
            self.assertRegex(result.stderr, r"MP-E055: .*searched .*/share/misa-prof/profiles, .*MISA_PROF_PROFILES=")
            self.assertIn(str(self.folder), result.stderr)
        shown = self.alone("list").stdout
        for title in ("indexers", "backends", "models", "workloads", "presets", "traces"):
            self.assertRegex(shown, rf"(?m)^{title}$")
        self.assertRegex(shown, r"models\n  none\n")
        self.assertEqual(strict_json(self.alone("list", "--format", "json").stdout)["models"], [])

    def test_the_advice_works_and_paths_need_no_profiles(self):
        listed = self.alone("list", MISA_PROF_PROFILES=ROOT / "profiles")
        self.assertEqual((listed.returncode, listed.stderr), (0, ""))
        self.assertIn("deepseek-v3.2", listed.stdout)
        models, workloads = ROOT / "profiles/models/tiny.toml", ROOT / "profiles/workloads/ci.toml"
        result = self.alone("profile", "--model", models, "--workload", workloads, *FAST[4:])
        self.assertEqual(result.returncode, 0, result.stderr)


class Plurals(Cli):
    def test_one_of_a_thing_is_singular_in_every_table(self):
        path = self.folder / "w.safetensors"
        self.succeeds("generate", "--model", "tiny", "--workload", "ci", "-o", path)
        words = ["--trace", path, "--rows", "1", "--indexer", "misa,hisa", "--block-size", "1", "--blocks", "1",
                 "--threads", "1"]
        for shown in (self.succeeds("profile", *words, *FAST[4:]), self.succeeds("profile", *words, "--dry-run"),
                      self.succeeds("profile", *words, *FAST[4:], "--format", "md"),
                      self.succeeds("compare", *words, "--thread-sweep", "--repeat-bitwise", "1")):
            self.assertIn("1 row", shown)
            self.assertNotRegex(shown, r"(?<![\w.,])1 (rows|heads|keys|tokens|blocks|candidates|threads|cases|runs|more runs)\b")


class Entries(Cli):
    """Keys that are entries of several tokens: contexts are tokens, everything that is selected from is entries."""

    def test_a_result_gives_tokens_and_entries(self):
        tiny = ["--model", "tiny", "--context", "2003", "--rows", "6", "--compress-ratio", "4"]
        text = self.succeeds("profile", *tiny, "--samples", "1")
        self.assertIn("500 entries of 4 tokens in 1 sequence", text)
        self.assertRegex(text, r"1998 / 2000 / 2003 tokens, 499 / 500 / 500 entries of 4 visible")
        self.assertIn("means of 500 entries", self.succeeds("profile", *tiny, "--samples", "1", "--indexer", "misa",
                                                            "--block-size", "500", "--active-heads", "2"))
        report = strict_json(self.succeeds("profile", *tiny, "--samples", "1", "--format", "json"))["workload"]
        self.assertEqual((report["keys"], report["compress_ratio"]), (500, 4))
        self.assertEqual(report["context"], {"min": 1998, "median": 2000, "max": 2003})
        self.assertEqual(report["visible"], {"min": 499, "median": 500, "max": 500})
        self.assertEqual(report["name"], "tiny/prefill-8k,context=2003,compress_ratio=4")

    def test_the_ratio_is_the_models_unless_it_is_given(self):
        for given, keys in ((), 512), (("--compress-ratio", "2"), 1024), (("--compress-ratio", "1"), 2048):
            plan = strict_json(self.succeeds("profile", "--model", "deepseek-v4-flash", "--context", "2k", "--rows", "2",
                                             "--samples", "1", "--format", "json", *given))
            self.assertEqual((plan["workload"]["keys"], plan["workload"]["top_k"]), (keys, 512))

    def test_a_generated_trace_is_read_back_with_its_ratio(self):
        for phase in (["--phase", "prefill", "--rows", "5"], ["--phase", "decode", "--next-n", "3", "--page-size", "16"]):
            path = self.folder / "entries.safetensors"
            self.succeeds("generate", "--model", "tiny", "--context", "1001", "--compress-ratio", "4", *phase, "-o", path)
            rows = strict_json(self.succeeds("inspect", path, "--format", "json"))["rows"]
            self.assertEqual((rows["compress_ratio"], rows["tokens_maximum"], rows["visible_maximum"]), (4, 1001, 250))
            self.succeeds("compare", "--trace", path, "--indexer", "dsa,misa", "--active-heads", "2", "--top-k", "64")

    def test_rows_before_the_first_entry_see_nothing(self):
        short = ["compare", "--model", "tiny", "--context", "9", "--rows", "9", "--compress-ratio", "4", "--top-k", "1",
                 "--indexer", "dsa", "--format", "json"]
        case = strict_json(self.succeeds(*short))["cases"][0]
        self.assertEqual(case["choices"][0]["verdicts"]["empty"], 3)
        self.assertEqual(case["verdict"], "passed")
        blind = misa(*short[:3], "--phase", "decode", "--context", "3", *short[7:])
        self.assertEqual(blind.returncode, 5, blind.stderr)
        self.assertEqual(strict_json(blind.stdout)["cases"][0]["verdict"], "nothing")

    def test_what_has_no_entry_is_refused(self):
        self.fails(2, "MP-E308.*no sequence is as long as an entry of 64 tokens", "profile", "--model", "tiny",
                   "--context", "63", "--rows", "1", "--compress-ratio", "64")
        self.fails(2, "MP-E308.*compress_ratio is 5000.*1 to 1024", "profile", "--model", "tiny",
                   "--compress-ratio", "5000")
        self.fails(2, "MP-E017.*--compress-ratio", "profile", "--trace", "learned-32k-h64", "--compress-ratio", "4")


class Medians(Cli):
    def test_the_median_of_visible_tokens_is_the_same_in_every_command(self):
        path = self.folder / "w.safetensors"
        self.succeeds("generate", "--model", "tiny", "--workload", "ci", "--rows", "4", "-o", path)
        looked = strict_json(self.succeeds("inspect", path, "--format", "json"))["rows"]
        report = strict_json(self.succeeds("profile", "--trace", path, "--samples", "1", "--format", "json"))
        self.assertEqual(report["workload"]["context"]["median"], looked["visible_median"])
        self.assertNotIn(looked["visible_median"], (looked["visible_minimum"], looked["visible_maximum"]))


class Words(Cli):
    """Command lines that nobody would type on purpose."""

    def test_what_is_no_option_is_refused_as_what_it_is(self):
        for words in (["--"], ["---"], ["-"]):
            self.fails(2, "MP-E020: unknown (command|option) '-+'", *words)
        for word in ("--top-k", "--top-k=5", "--dry-run"):
            self.fails(2, f"MP-E020: '{word}' is after -- or before its command.*try: misa-prof profile {word}", "profile", *FAST, "--", word)
        self.fails(2, "MP-E020: unknown argument 'x'", "profile", *FAST, "--", "x")
        self.succeeds("profile", *FAST, "--")

    def test_lists_of_indexers_have_no_empty_names_and_all_means_all(self):
        for text in ("", ",", "dsa,", ",dsa", "dsa,,misa"):
            self.fails(2, "MP-E010: --indexer has an empty name", "profile", *FAST, "--indexer", text)
        for text in ("all,dsa", "misa,all", "all,all"):
            self.fails(2, "MP-E031", "profile", *FAST, "--indexer", text)
        shown = strict_json(self.succeeds("profile", *FAST, "--indexer", "all", "--format", "json"))
        self.assertEqual([case["indexer"] for case in shown["cases"]],
                         [name for name in self.succeeds("list", "--names", "indexers").splitlines() if name != "given"])

    def test_no_text_option_takes_nothing(self):
        for name in ("--trace", "--model", "--workload", "--preset", "--indexer", "--router", "--block-window", "--pooling", "--backend",
                     "--format", "-o", "--color", "--dump-selection", "--config"):
            self.fails(2, "MP-E0", "profile", *FAST, name, "")
        for name in ("--against", "--stages", "--against-indexer", "--inject", "--write-golden", "--bundle"):
            self.fails(2, "MP-E0", "compare", *TINY, name, "")
        self.fails(2, "MP-E036.*try: one of heads, ", "compare", *TINY, "--stages", "nothing-like-it")


class Lists(Cli):
    def test_names_of_a_section_are_for_scripts(self):
        listed = strict_json(self.succeeds("list", "--format", "json"))
        for section, entries in listed.items():
            self.assertEqual(self.succeeds("list", "--names", section).splitlines(), [one["name"] for one in entries])
            self.assertEqual(strict_json(self.succeeds("list", "--names", section, "--format", "json")),
                             [one["name"] for one in entries])
        self.fails(2, "MP-E057.*try: routers", "list", "--names", "router")

    def test_help_lists_what_the_tables_have(self):
        names = {section: self.succeeds("list", "--names", section).splitlines()
                 for section in ("indexers", "routers", "backends")}
        for command in ("profile", "compare", "nsight"):
            shown = " ".join(self.succeeds(command, "--help").split())
            for section, entries in names.items():
                self.assertIn(", ".join(entries), shown, (command, section))


if __name__ == "__main__":
    main()
