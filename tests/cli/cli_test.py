#!/usr/bin/env python3
"""Starts the real program and checks its contract: exit codes, streams, files, formats, messages, documentation.

usage: cli_test.py BINARY [EMULATOR...]  [-- unittest arguments]
"""
import csv
import io
import os
import pathlib
import pty
import re
import resource
import shutil
import signal
import struct
import subprocess
import time

from program import (FAST, PROGRAM, ROOT, Cli, has_cuda, main, misa, needs, needs_jsonschema, source_files, strict_json,
                     tensors, write_trace)

class Formats(Cli):
    def test_json_is_strict_and_has_what_the_schema_promises(self):
        report = strict_json(self.succeeds("profile", *FAST, "--format", "json"))
        self.assertEqual(report["schema"], "misa-prof/result")
        self.assertEqual(report["schema_version"], "1.5.0")
        self.assertTrue(report["complete"])
        self.assertEqual(list(report)[-1], "complete")
        self.assertEqual([case["indexer"] for case in report["cases"]], ["dsa", "misa", "misa-dagger", "hisa"])
        for case in report["cases"]:
            names = [stage["name"] for stage in case["stages"]]
            self.assertIn("score", names)
            for stage in case["stages"]:
                self.assertLessEqual({"name", "time_ns", "flops", "bytes"}, set(stage))
                self.assertLessEqual({"median", "p10", "p90"}, set(stage["time_ns"]))
            for key in ("router", "backend", "shape", "end_to_end_ns", "quality"):
                self.assertIn(key, case)
            self.assertLessEqual({"mean", "median", "p1", "worst"}, set(case["quality"]["recall"]))
        self.assertEqual(report["cases"][0]["quality"]["recall"]["worst"], 1)

    def test_a_result_says_how_its_runs_were_launched_and_what_the_cache_held(self):
        for extra in ([], ["--warm"], ["--no-graph"]):
            measurement = strict_json(self.succeeds("profile", *FAST, *extra, "--format", "json"))["measurement"]
            self.assertEqual((measurement["cache"], measurement["launch"]), ("warm", "calls"))
            self.assertIsNone(measurement["device"])

    def test_a_result_says_so_of_a_gpu_too(self):
        if not has_cuda():
            self.skipTest("cuda cannot run here")
        for extra, cache, launch in (([], "cold", "graph"), (["--warm"], "warm", "graph"),
                                     (["--no-graph"], "cold", "calls")):
            report = strict_json(self.succeeds("profile", *FAST, "--backend", "cuda", *extra, "--format", "json"))
            self.assertEqual((report["measurement"]["cache"], report["measurement"]["launch"]), (cache, launch))
            self.assertGreater(report["measurement"]["device"]["sm_clock_min_hz"], 1e8)
            self.assertGreater(report["environment"]["backends"][0]["roofs"]["bytes_per_second"], 1e12)

    def test_json_agrees_with_its_published_schema(self):
        python = needs_jsonschema(self)
        for extra in ([], ["--backend", "oracle"], ["--indexer", "hisa"]):
            path = self.folder / "report.json"
            self.succeeds("profile", *FAST, *extra, "-o", path)
            checked = subprocess.run([python, str(ROOT / "scripts/check_json.py"), str(path)], capture_output=True,
                                     text=True, check=False)
            self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)

    def test_jsonl_has_a_header_a_line_per_case_and_a_footer(self):
        lines = self.succeeds("profile", *FAST, "--format", "jsonl").splitlines()
        records = [strict_json(line) for line in lines]
        self.assertEqual(len(records), 1 + 4 + 1)
        self.assertTrue(records[-1]["complete"])

    def test_the_quality_of_rows_adds_up_to_that_of_the_case(self):
        text = self.succeeds("profile", *FAST, "--top-k", "16", "-o", "rows:-", "-o", f"json:{self.folder / 'all.json'}")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        for case in strict_json((self.folder / "all.json").read_text())["cases"]:
            quality = case["quality"]
            if quality is None:
                continue
            own = [row for row in rows if row["indexer"] == case["indexer"]]
            self.assertEqual([int(row["row"]) for row in own], [row["row"] for row in quality["per_row"]])
            self.assertEqual(len(own), quality["rows"])
            recalls = [float(row["recall"]) for row in own]
            self.assertAlmostEqual(sum(recalls) / len(recalls), quality["recall"]["mean"])
            self.assertEqual(float(own[quality["recall"]["worst_row"]]["recall"]), quality["recall"]["worst"])
            self.assertEqual(sum(int(row["missed"]) for row in own) == 0, quality["recall"]["mean"] == 1)

    def test_csv_is_rectangular(self):
        rows = list(csv.reader(io.StringIO(self.succeeds("profile", *FAST, "--format", "csv"), newline="")))
        self.assertGreater(len(rows), 8)
        self.assertEqual({len(row) for row in rows}, {len(rows[0])})

    def test_the_recorded_command_line_can_be_run_again(self):
        report = strict_json(self.succeeds("profile", *FAST, "--indexer", "dsa,misa", "--no-fusion", "--format",
                                           "json"))
        self.assertIn("--no-fusion", report["command_line"])
        again = strict_json(self.succeeds(*report["command_line"][1:]))
        self.assertEqual(again["command_line"], report["command_line"])

    def test_inspect_keeps_metadata_apart_and_names_sections_for_machines(self):
        sheet = strict_json(self.succeeds("inspect", "learned-32k-h64", "--format", "json"))
        self.assertEqual(list(sheet["file"]), ["path", "bytes"])
        self.assertEqual(sheet["metadata"]["format"], "misa-trace/1")
        for section in sheet:
            self.assertRegex(section, r"\A[a-z_]+\Z")

    def test_inspect_shows_windows_heads_and_what_a_recorded_topk_is_worth(self):
        """Head 0 has no weight, head 1 scores token t of either sequence by its first number, which is t + 1."""
        k = [struct.pack("<32f", t + 1.0, *[0.0] * 31) for t in (*range(6), *range(3))]
        entries = {"q": ("F32", [3, 2, 32], [1.0] * 192), "weights": ("F32", [3, 2], [0.0, 2.0] * 3),
                   "k": ("F32", [9, 32], struct.unpack("<288f", b"".join(k))),
                   "q_pos": ("I32", [3], [3, 5, 2]), "ks": ("I32", [3], [0, 0, 6]), "ke": ("I32", [3], [4, 6, 9]),
                   "topk": ("I32", [2, 4], [5, 1, 3, 4, 0, 2, 1, -1]), "topk_row": ("I32", [2], [1, 2])}
        path = write_trace(self.folder / "t.safetensors", **entries)
        sheet = strict_json(self.succeeds("inspect", path, "--format", "json"))
        self.assertEqual(sheet["windows"], {"sequence_0": {"rows": 2, "ks": 0, "ke_minimum": 4, "ke_maximum": 6},
                                            "sequence_1": {"rows": 1, "ks": 6, "ke_minimum": 9, "ke_maximum": 9}})
        self.assertEqual(sheet["gates"]["heads_of_most_weight"], [1, 0])
        self.assertEqual(sheet["gates"]["heads_of_no_weight"], [0])
        worth = sheet["recorded_topk"]
        self.assertEqual((worth["rows"], worth["rows_looked_at"], worth["k"], worth["worst_row"]), (2, 2, 4, 1))
        self.assertEqual((worth["recall_mean"], worth["recall_worst"]), (0.875, 0.75))
        self.assertEqual(worth["largest_gap_below_kth"], 2.0)  # token 1 scores 4, the fourth best 6
        self.assertIn("sequence_1  rows 1, ks 6, ke_minimum 9, ke_maximum 9", self.succeeds("inspect", path))

    def test_inspect_shows_which_heads_were_routed(self):
        self.succeeds("profile", *FAST, "--indexer", "misa", "--active-heads", "2", "-o", self.folder / "r.json",
                      "--dump-selection", self.folder / "s.safetensors")
        _, (rows, h), data = tensors(self.folder / "s.safetensors")["out.heads"]
        chosen = [0] * strict_json((self.folder / "r.json").read_text())["workload"]["heads"]
        for head in struct.unpack(f"<{rows * h}i", data):
            chosen[head] += 1
        shown = strict_json(self.succeeds("inspect", self.folder / "s.safetensors", "--format", "json"))["selection"]
        order = sorted(range(len(chosen)), key=lambda head: -chosen[head])
        self.assertEqual(shown["heads_of_most_rows"], order[:8])
        self.assertEqual(shown["heads_of_no_row"], [head for head, count in enumerate(chosen) if count == 0])

    def test_names_of_files_reach_no_terminal_unchecked(self):
        traces = self.folder / "traces"
        traces.mkdir()
        try:
            open(os.fsencode(str(traces)) + b"/\x1b[31m\xff.safetensors", "wb").close()
        except OSError:
            self.skipTest("the file system wants UTF-8")
        environment = {"MISA_PROF_PROFILES": str(self.folder)}
        self.assertNotIn("\x1b", self.succeeds("list", env=environment))
        listed = strict_json(self.succeeds("list", "--format", "json", env=environment))
        self.assertIn("\x1b[31m\ufffd", [entry["name"] for entry in listed["traces"]])

    def test_markdown_and_table_name_every_indexer(self):
        for form in ("md", "table"):
            text = self.succeeds("profile", *FAST, "--format", form)
            for indexer in ("dsa", "misa", "misa-dagger", "hisa"):
                self.assertIn(indexer, text)

    def test_list_and_inspect_have_json_too(self):
        listed = strict_json(self.succeeds("list", "--format", "json"))
        self.assertEqual([entry["name"] for entry in listed["indexers"]], ["dsa", "misa", "misa-dagger", "hisa", "misa-lr", "misa-lr-dagger",
                                                                       "given"])
        self.assertEqual([entry["name"] for entry in listed["routers"]],
                         ["pooled", "qnorm", "selfk", "gate", "oracle", "random", "linear-residual", "covariance"])
        self.assertEqual([entry["name"] for entry in listed["backends"]], ["cpu", "oracle", "cuda"])
        for section in ("models", "workloads"):
            for entry in listed[section]:
                self.assertTrue(entry["source"], entry)
        strict_json(self.succeeds("inspect", "learned-32k-h64", "--format", "json"))

    def test_colour_is_for_terminals_or_on_demand(self):
        self.assertNotIn("\x1b", self.succeeds("profile", *FAST))
        self.assertIn("\x1b", self.succeeds("profile", *FAST, "--color", "always"))
        self.assertNotIn("\x1b", self.succeeds("profile", *FAST, "--color", "never"))
        path = self.folder / "table.txt"
        self.assertEqual(misa("profile", *FAST, "--color", "always", "-o", f"table:{path}").returncode, 0)
        self.assertNotIn("\x1b", path.read_text())


class Outputs(Cli):
    def test_several_outputs_come_from_one_run(self):
        a, b = self.folder / "a.json", self.folder / "b"
        text = self.succeeds("profile", *FAST, "-o", "-", "-o", a, "-o", f"csv:{b}")
        self.assertIn("misa-dagger", text)
        strict_json(a.read_text())
        self.assertIn("indexer", b.read_text().splitlines()[0])
        self.only_files("a.json", "b")

    def test_an_output_that_cannot_be_written_leaves_nothing_behind(self):
        self.fails(10, "MP-E106", "profile", *FAST, "-o", self.folder / "missing" / "a.json")
        self.only_files()

    def test_outputs_are_tried_before_anything_is_measured(self):
        slow = ["--samples", "1000000", "--budget", "600"]
        for words in (["-o", self.folder / "missing" / "a.json"], ["-o", self.folder],
                      ["-o", self.folder / ("a" * 300)], ["--dump-selection", self.folder / "missing" / "s"]):
            self.fails(10, "MP-E106", "profile", *slow, *words)
        self.fails(10, "MP-E106", "generate", "-o", self.folder / "missing" / "a")
        self.only_files()

    def test_a_full_device_is_a_runtime_error(self):
        needs(self, os.path.exists("/dev/full"), "/dev/full")
        with open("/dev/full", "w") as full:
            result = misa("profile", *FAST, stdout=full)
        self.assertEqual(result.returncode, 10)
        self.assertIn("No space left", result.stderr)
        self.fails(10, "MP-E106.*/dev/full", "profile", *FAST, "-o", "/dev/full")
        self.fails(10, "MP-E106.*/dev/full", "generate", "--model", "tiny", "--workload", "ci", "-o", "/dev/full")
        with open("/dev/full", "w") as full:
            result = subprocess.run([*PROGRAM, "frobnicate"], stderr=full, check=False)
        self.assertEqual(result.returncode, 2)

    def test_closed_standard_streams_do_not_become_result_files(self):
        report = self.folder / "r.json"
        words = " ".join(f"'{word}'" for word in [*PROGRAM, "profile", *FAST, "-o", str(report)])
        done = subprocess.run(["bash", "-c", f"{words} >&- 2>&- <&-"], check=False)
        self.assertEqual(done.returncode, 0)
        self.assertTrue(strict_json(report.read_text())["complete"])
        self.only_files("r.json")
        words = " ".join(f"'{word}'" for word in [*PROGRAM, "list"])
        done = subprocess.run(["bash", "-c", f"{words} >&-"], stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.returncode, 10)
        self.assertIn("MP-E106", done.stderr)

    def test_two_spellings_of_one_output_are_one_output(self):
        self.fails(2, "MP-E024", "profile", *FAST, "-o", "a.json", "-o", "json:./a.json", cwd=self.folder)
        self.fails(2, "MP-E024", "profile", *FAST, "--indexer", "dsa", "-o", "a", "--dump-selection", "./a",
                   cwd=self.folder)
        self.fails(2, "MP-E021.*try: -o json:a.json", "profile", *FAST, "-o", "jsn:a.json", cwd=self.folder)
        self.fails(2, "MP-E023", "profile", *FAST, "--dump-selection", "-")
        self.fails(2, "MP-E023", "profile", *FAST, "--dump-selection", "d/")
        self.only_files()

    def test_a_failing_run_leaves_the_old_file_alone(self):
        path = self.folder / "old.json"
        path.write_text("old")
        self.fails(3, "MP-E1", "profile", "--trace", self.folder / "none.safetensors", "-o", path)
        self.assertEqual(path.read_text(), "old")
        self.only_files("old.json")

    def test_an_input_is_never_overwritten(self):
        trace = self.folder / "t.safetensors"
        self.succeeds("generate", "--model", "tiny", "--workload", "ci", "-o", trace)
        before = trace.read_bytes()
        self.fails(2, "overwritten", "profile", "--trace", trace, "-o", f"json:{trace}")
        self.fails(2, "overwritten", "profile", "--trace", trace, "--samples", "1", "--dump-selection", trace,
                   "--indexer", "dsa")
        self.assertEqual(trace.read_bytes(), before)
        model = self.folder / "m.toml"
        model.write_bytes((ROOT / "profiles/models/tiny.toml").read_bytes())
        for words in (["generate", "--workload", "ci"], ["profile", "--workload", "ci", "--samples", "1"]):
            self.fails(2, "overwritten", *words, "--model", model, "-o", model)
        config = self.folder / "c.toml"
        config.write_text('workload = "ci"\n')
        self.fails(2, "overwritten", "generate", "--config", config, "-o", config)
        self.assertEqual(config.read_text(), 'workload = "ci"\n')

    def test_a_trace_can_be_piped(self):
        path = self.folder / "t.safetensors"
        self.succeeds("generate", "--model", "tiny", "--workload", "ci", "-o", path)
        with open(self.folder / "piped", "wb") as piped:
            result = misa("generate", "--model", "tiny", "--workload", "ci", "-o", "-", stdout=piped)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual((self.folder / "piped").read_bytes(), path.read_bytes())

    def test_a_closed_pipe_ends_quietly(self):
        command = " ".join(f"'{word}'" for word in [*PROGRAM, "list"])
        shown = subprocess.run(["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"], capture_output=True,
                               text=True, check=False)
        self.assertEqual((shown.stdout, shown.stderr), ("0\n", ""))

    def test_dumped_selections_are_named_after_indexers_when_there_are_several(self):
        self.succeeds("profile", *FAST, "-o", self.folder / "r.json", "--dump-selection", self.folder / "s.safetensors")
        self.only_files("r.json", *(f"s.{name}.safetensors" for name in ("dsa", "misa", "misa-dagger", "hisa")))
        found = tensors(self.folder / "s.misa.safetensors")
        self.assertEqual(found["out.topk"][0], "I32")
        self.assertIn("out.heads", found)
        self.assertIn("out.blocks", tensors(self.folder / "s.hisa.safetensors"))
        self.assertIn("selection", self.succeeds("inspect", self.folder / "s.hisa.safetensors"))

    def test_selected_tokens_ascend_and_pads_come_last(self):
        path = self.folder / "s.safetensors"
        self.succeeds("profile", "--model", "tiny", "--workload", "ci", "--indexer", "dsa", "--top-k", "700",
                      "--samples", "1", "-o", self.folder / "r.json", "--dump-selection", path)
        _, (rows, k), data = tensors(path)["out.topk"]
        tokens = struct.unpack(f"<{rows * k}i", data)
        pads = 0
        for row in range(rows):
            line = tokens[row * k:(row + 1) * k]
            used = [token for token in line if token >= 0]
            self.assertEqual(list(line), used + [-1] * (k - len(used)))
            self.assertEqual(used, sorted(set(used)))
            pads += k - len(used)
        self.assertGreater(pads, 0)

    def test_threads_do_not_change_a_selection(self):
        for threads in (1, 2):
            self.succeeds("profile", *FAST, "--indexer", "misa-dagger", "--threads", threads, "-o",
                          self.folder / f"{threads}.json", "--dump-selection", self.folder / f"{threads}.safetensors")
        self.assertEqual(tensors(self.folder / "1.safetensors"), tensors(self.folder / "2.safetensors"))

    def test_a_generated_trace_gives_what_its_profiles_give(self):
        trace = self.folder / "t.safetensors"
        for workload in ("ci", "decode-8k"):
            names = ["--model", "tiny", "--workload", workload, "--seed", "9"]
            self.succeeds("generate", *names, "-o", trace)
            common = ["--indexer", "misa", "--samples", "1", "--warm-up", "0", "-o", self.folder / "r.json"]
            self.succeeds("profile", *names, *common, "--dump-selection", self.folder / "a.safetensors")
            self.succeeds("profile", "--trace", trace, *common, "--dump-selection", self.folder / "b.safetensors")
            a, b = tensors(self.folder / "a.safetensors"), tensors(self.folder / "b.safetensors")
            self.assertEqual(a, b)

    def test_each_indexer_has_a_router_of_its_own_unless_one_is_asked_for(self):
        def routed(*options):
            report = strict_json(self.succeeds("profile", *FAST, "--indexer", "misa,misa-lr,misa-lr-dagger", *options,
                                               "--format", "json"))
            return [(case["router"], case["parameters"]["active_heads"], case["parameters"]["head_block_size"],
                     case["parameters"]["sampled_keys"]) for case in report["cases"]]

        self.assertEqual(routed("--active-heads", "3"),
                         [("pooled", 3, 1024, None), ("covariance", 3, None, 64), ("covariance", 3, None, 64)])
        self.assertEqual(routed("--active-heads", "2", "--router", "linear-residual", "--sampled-keys", "16"),
                         [("linear-residual", 2, None, 16)] * 3)

    def test_all_indexers_are_those_that_are_listed(self):
        listed = [one["name"] for one in strict_json(self.succeeds("list", "--format", "json"))["indexers"]]
        report = strict_json(self.succeeds("profile", *FAST, "--indexer", "all", "--format", "json"))
        self.assertEqual([case["indexer"] for case in report["cases"]], [name for name in listed if name != "given"])
        for command in ("profile", "compare", "nsight"):
            self.assertIn(", ".join(listed), re.sub(r"\s+", " ", self.succeeds(command, "--help")))

    def test_rows_of_a_trace_can_be_thinned(self):
        report = strict_json(self.succeeds("profile", "--rows", "8", "--samples", "1", "--warm-up", "0", "--indexer",
                                           "dsa,misa", "--format", "json"))
        self.assertEqual(report["workload"]["rows"], 8)
        self.fails(2, "MP-E014", "profile", "--rows", "65", "--samples", "1")


class Errors(Cli):
    def test_misspelt_words_are_answered_with_the_nearest(self):
        for wrong, right in ((["profil"], "profile"), (["profile", "--indxer", "dsa"], "--indexer"),
                             (["profile", "--indexer", "msia"], "misa"), (["profile", "--router", "pooed"], "pooled"),
                             (["profile", "--backend", "cpuu"], "cpu"), (["profile", "--format", "jsn"], "json"),
                             (["profile", "--model", "glm5"], "glm-5"), (["profile", "--workload", "prefil-8k"], "prefill-8k"),
                             (["profile", "--preset", "naturl"], "natural")):
            self.fails(2, f"try: .*{right}", *wrong)
        self.fails(2, "try: misa-prof --version", "profile", "--version")
        self.fails(2, "try: misa-prof list --format", "--format", "json", "list")

    def test_nothing_on_the_command_line_is_ignored(self):
        for words in (["extra", "list"], ["list", "list"], ["list", "profile"], ["list", "--", "extra"],
                      ["--seed", "1", "list"], ["profile", *FAST, "--indexer", "dsa", "misa"],
                      ["profile", *FAST, "--no-fusion", "false"],
                      ["profile", *FAST, "-o", "-", "json:x"]):
            self.fails(2, "MP-E020", *words)
        self.fails(2, "takes no value", "profile", *FAST, "--no-fusion=3")
        self.fails(2, "given 2 times", "profile", *FAST, "--seed", "1", "--seed", "2")
        self.fails(2, "needs a value", "profile", "--format")

    def test_an_indexer_with_a_task_that_no_forced_kernel_takes_is_skipped_before_the_run(self):
        report = strict_json(self.succeeds("profile", *FAST, "--indexer", "misa,misa-lr", "--kernel", "rank=tiles",
                                           "--format", "json"))
        self.assertEqual([case["indexer"] for case in report["cases"]], ["misa"])
        self.assertEqual([one["indexer"] for one in report["skipped"]], ["misa-lr"])
        self.assertIn("--kernel forces rank to use tiles", report["skipped"][0]["reason"])
        self.fails(4, "MP-E406", "profile", *FAST, "--indexer", "misa-lr", "--kernel", "rank=tiles")

    def test_indexers_that_a_backend_cannot_run_are_refused_before_the_run(self):
        if not has_cuda():
            self.skipTest("the other backends run every input that can be read: tests/core/indexer/identities_test.cpp")
        # Rows of up to 1200 sampled keys have no room beside a linear head; dsa needs none.
        few = ["--model", "tiny", "--workload", "prefill-8k", "--rows", "4", "--backend", "cuda", "--sampled-keys", "600"]
        report = strict_json(self.succeeds("profile", *few, "--indexer", "dsa,misa-lr", "--format", "json"))
        self.assertEqual([case["indexer"] for case in report["cases"]], ["dsa"])
        self.assertEqual([(one["indexer"], one["backend"]) for one in report["skipped"]], [("misa-lr", "cuda")])
        self.assertIn("sampled keys", report["skipped"][0]["reason"])
        self.fails(4, "MP-E405.*sampled keys", "profile", *few, "--indexer", "misa-lr")
        self.fails(5, "MP-E611.*1 of 2 cases.*sampled keys", "compare", *few, "--indexer", "dsa,misa-lr")

    def test_numbers_neither_wrap_nor_saturate(self):
        for words in (["--seed", "18446744073709551616"], ["--seed", "1e3"], ["--rows", "99999999999999999999"],
                      ["--top-k", "9000000000000000000"], ["--blocks", "0x10"], ["--block-size", " 4"],
                      ["--budget", "nan"], ["--budget", "inf"], ["--budget", "1x"], ["--samples", "1.5"]):
            self.fails(2, "MP-E001.*not a .*number from", "profile", "--model", "tiny", "--workload", "ci", *words)
        for size in ("0x10", "nan", "-1", "1e30", "5 apples", "GiB"):
            self.fails(2, "MP-E015", "profile", "--model", "tiny", "--workload", "ci", "--max-memory", size)
        self.succeeds("profile", *FAST, "--indexer", "dsa", "--seed", str(2**64 - 1), "--max-memory", "0.5GiB")

    def test_more_tokens_than_there_are_can_be_kept(self):
        report = strict_json(self.succeeds("profile", *FAST, "--indexer", "dsa,hisa", "--top-k", "100000", "--format",
                                           "json"))
        self.assertEqual(report["workload"]["top_k"], 100000)
        self.fails(2, "MP-E028.*--candidates", "profile", *FAST, "--top-k", "100000", "--candidates", "50000")

    def test_bad_values_are_usage_errors(self):
        for arguments in (["--seed", "-1"], ["--rows", "0"], ["--rows", "x"], ["--top-k", "0"], ["--active-heads", "-3"],
                          ["--block-size", "0"], ["--threads", "0"], ["--threads", "100000"], ["--samples", "0"],
                          ["--budget", "-1"], ["--max-memory", "lots"], ["--max-memory", "0"], ["--indexer", ""],
                          ["--indexer", "dsa,dsa"], ["--block-window", "left"], ["--pooling", "warm"], ["--color", "blue"], ["extra"],
                          ["--candidates", "5", "--top-k", "10"], ["-o", "a.json", "-o", "a.json"], ["-o", "json:"]):
            self.fails(2, "MP-E[03]", "profile", "--model", "tiny", "--workload", "ci", *arguments)
        self.fails(2, "MP-E045.*active-heads is 1", "profile", *FAST, "--indexer", "misa-lr", "--active-heads", "1")
        self.fails(2, "MP-E046.*gate.*try: --router covariance", "profile", *FAST, "--indexer", "misa,misa-lr",
                   "--router", "gate")
        self.fails(2, "MP-E001", "profile", *FAST, "--indexer", "misa-lr", "--sampled-keys", "0")
        self.fails(2, "MP-E044.*try: --backend cuda", "profile", *FAST, "--device", "0")
        self.fails(2, "MP-E044", "profile", *FAST, "--backend", "oracle", "--device", "1")
        self.fails(2, "MP-E001.*-1", "profile", *FAST, "--backend", "cuda", "--device", "-1")
        self.fails(2, "two workloads", "profile", "--trace", "x", "--model", "tiny")
        self.fails(2, "MP-E032", "generate")
        self.fails(2, "MP-E033", "inspect")

    def test_without_a_command_the_help_goes_to_standard_error(self):
        result = misa()
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertIn("profile", result.stderr)

    def test_unreadable_traces_are_input_errors(self):
        good = (ROOT / "profiles/traces/learned-32k-h64.safetensors").read_bytes()
        for name, data in (("short", good[:4]), ("cut", good[:100000]), ("noise", b"\xff" * 5000), ("empty", b"")):
            path = self.folder / name
            path.write_bytes(data)
            for command in (["inspect", path], ["profile", "--trace", path]):
                self.fails(3, re.escape(name), *command)
        self.fails(3, "MP-E102", "inspect", self.folder)
        self.fails(3, "MP-E1", "inspect", self.folder / "none")
        self.fails(3, "MP-E016", "profile", "--trace", "no-such-name")
        self.fails(3, "MP-E102", "inspect", "/dev/null")
        self.fails(3, "MP-E016", "inspect", "a" * 5000)
        self.fails(3, "MP-E016.*try: learned-32k-h64", "inspect", "lerned-32k-h64")

    def test_what_is_not_there_is_unavailable(self):
        if not has_cuda():
            for device in ([], ["--device", "0"], ["--device", "7"]):
                self.fails(4, "MP-E403.*absent", "profile", "--backend", "cuda", *device)
        self.fails(4, "MP-E403.*absent", "profile", "--backend", "cuda", "--device", "1000")
        self.fails(4, "q_norm", "profile", "--router", "qnorm", "--indexer", "misa")

    def test_what_cannot_fit_is_refused_with_the_needed_bytes(self):
        self.fails(10, r"needs (at least )?\d+ bytes", "profile", "--workload", "prefill-128k", "--max-memory", "40MiB")
        self.fails(10, r"needs (at least )?\d+ bytes", "profile", "--workload", "prefill-128k", "--max-memory", "1MiB")
        self.fails(10, r"\d+ bytes", "generate", "--workload", "prefill-128k", "--max-memory", "1MiB", "-o",
                   self.folder / "x")
        self.only_files()
        self.fails(10, r"MP-E142: the tensors take \d+ bytes", "profile", "--max-memory", "1MiB")
        self.fails(10, r"MP-E142: the tensors take \d+ bytes", "inspect", "learned-32k-h64", "--max-memory", "1MiB")

    def test_memory_stays_under_its_limit(self):
        rows, limit = ("1024", 2 << 30) if os.environ.get("MISA_SLOW_TESTS") else ("8", 512 << 20)
        report = self.folder / "r.json"
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        self.succeeds("profile", "--model", "deepseek-v3.2", "--workload", "prefill-128k", "--rows", rows, "--samples",
                      "1", "--warm-up", "0", "--indexer", "dsa,misa", "--max-memory", limit // 2, "-o", report)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        self.assertLess(peak, limit, f"before: {before * 1024}")


class Signals(Cli):
    def interrupt(self, number, again=False):
        path = self.folder / "report.json"
        process = subprocess.Popen([*PROGRAM, "profile", "--samples", "100000", "--budget", "600", "--rows", "16", "-o",
                                    str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(3 if len(PROGRAM) == 1 else 30)
        process.send_signal(number)
        if again:
            process.send_signal(number)
        output, errors = process.communicate(timeout=300)
        return process.returncode, output, errors, path

    def test_an_interrupted_run_writes_what_it_has_and_dies_of_the_signal(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            status, output, errors, path = self.interrupt(number)
            self.assertEqual((status, output), (-number, ""))
            self.assertIn("interrupted: results hold what was done until then", errors)
            report = strict_json(path.read_text())
            self.assertFalse(report["complete"])
            self.assertEqual(len(report["cases"]), 4)
            self.only_files("report.json")

    def test_a_signal_before_there_is_a_result_does_not_speak_of_results(self):
        with subprocess.Popen([*PROGRAM, "generate", "--model", "deepseek-v3.2", "--workload", "prefill-128k", "--rows",
                               "16384", "-o", str(self.folder / "w.safetensors")], stderr=subprocess.PIPE,
                              text=True) as process:
            time.sleep(0.3 if len(PROGRAM) == 1 else 10)
            process.send_signal(signal.SIGINT)
            errors = process.stderr.read()
        self.assertEqual(process.returncode, -signal.SIGINT)
        self.assertIn("interrupted: there is no result yet; run it again", errors)
        self.only_files()

    def test_a_second_signal_ends_at_once_and_leaves_no_file(self):
        status, _, _, path = self.interrupt(signal.SIGINT, again=True)
        self.assertEqual(status, -signal.SIGINT)
        names = [entry.name for entry in self.folder.iterdir()]
        self.assertIn(names, ([], ["report.json"]))  # the first one may have won the race
        if names:
            strict_json(path.read_text())


class Configuration(Cli):
    def config(self, text):
        path = self.folder / "options.toml"
        path.write_text(text)
        return path

    def test_a_config_file_sets_options_and_the_command_line_wins(self):
        path = self.config('indexer = ["dsa", "misa"]\nmodel = "tiny"\nworkload = "ci"\nsamples = 1\nwarm-up = 0\n'
                           'active-heads = 3\nformat = "json"\nno-fusion = true\n')
        report = strict_json(self.succeeds("profile", "--config", path))
        self.assertEqual([case["indexer"] for case in report["cases"]], ["dsa", "misa"])
        self.assertEqual(report["cases"][1]["parameters"]["active_heads"], 3)
        report = strict_json(self.succeeds("profile", "--config", path, "--active-heads", "2"))
        self.assertEqual(report["cases"][1]["parameters"]["active_heads"], 2)

    def test_a_wrong_config_is_a_usage_error_with_its_line(self):
        self.fails(2, r"options\.toml:2:1.*try: active-heads", "profile", "--config",
                   self.config('model = "tiny"\nactive_heads = 3\n'))
        self.fails(2, r"options\.toml:1", "profile", "--config", self.config('samples = "many"\n'))
        self.fails(2, r"options\.toml:1", "profile", "--config", self.config("samples = = 3\n"))
        self.fails(3, "none.toml", "profile", "--config", self.folder / "none.toml")
        for text in ('no-fusion = "maybe"', "no-fusion = 3", "indexer = []", "seed = -1", "samples = 0", "model = ''",
                     'model = ["tiny", "glm-5"]'):
            self.fails(2, r"MP-E019.*options\.toml:1:1", "profile", "--config", self.config(text + "\n"))
        self.fails(2, r"MP-E015.*options\.toml:1:1", "profile", "--config", self.config('max-memory = "lots"\n'))
        for key in ("config", "help", "o"):
            self.fails(2, r"MP-E018.*options\.toml:1:1", "profile", "--config", self.config(f'{key} = "x"\n'))

    def test_a_wrong_profile_is_a_usage_error_with_its_line_and_the_nearest_key(self):
        model = self.folder / "m.toml"
        model.write_text((ROOT / "profiles/models/tiny.toml").read_text() + "\nhead_dimm = 3\n")
        self.fails(2, r"m\.toml:\d+:\d+.*head_dim", "profile", "--model", model)

    def test_profiles_are_found_from_anywhere(self):
        self.succeeds("profile", *FAST, cwd=self.folder)
        if len(PROGRAM) == 1:
            link = self.folder / "linked"
            link.symlink_to(PROGRAM[0])
            shown = subprocess.run([str(link), "list"], capture_output=True, text=True, check=True, cwd="/")
            self.assertIn("deepseek-v3.2", shown.stdout)
        shutil.copytree(ROOT / "profiles/models", self.folder / "p" / "models")
        (self.folder / "p/models/mine.toml").write_text(
            (ROOT / "profiles/models/tiny.toml").read_text().replace('"tiny"', '"mine"'))
        self.assertIn("mine", self.succeeds("list", env={"MISA_PROF_PROFILES": str(self.folder / "p")}))
        self.fails(2, "MP-E034", "list", env={"MISA_PROF_PROFILES": str(self.folder / "nowhere")})


class Terminals(Cli):
    """What a person sees. Standard output and error are a terminal of their own."""

    def on_terminal(self, *arguments, **environment):
        try:
            main, side = pty.openpty()
        except OSError as error:
            self.skipTest(f"no terminal can be made here: {error}")
        variables = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "CI", "MISA_PROF_PROFILES")}
        variables.update({"TERM": "xterm", **environment})
        process = subprocess.Popen([*PROGRAM, *map(str, arguments)], stdout=side, stderr=side, stdin=subprocess.DEVNULL,
                                   env=variables)
        os.close(side)
        shown = b""
        while True:
            try:
                piece = os.read(main, 65536)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            shown += piece
        os.close(main)
        return process.wait(), shown.decode()

    def test_colour_and_progress_are_for_terminals_outside_ci(self):
        status, shown = self.on_terminal("profile", *FAST)
        self.assertEqual(status, 0)
        self.assertIn("\r\x1b[K", shown)
        self.assertRegex(shown, "\x1b\\[[0-9;]*m")
        for words, environment in (([], {"CI": "1"}), ([], {"TERM": "dumb"})):
            self.assertNotIn("\x1b", self.on_terminal("profile", *FAST, *words, **environment)[1])
        self.assertNotRegex(self.on_terminal("profile", *FAST, NO_COLOR="1")[1], "\x1b\\[[0-9;]*m")
        self.assertRegex(self.on_terminal("profile", *FAST, "--color", "always", NO_COLOR="1")[1], "\x1b\\[[0-9;]*m")

    def test_a_binary_trace_is_not_sent_to_a_terminal(self):
        status, shown = self.on_terminal("generate", "--model", "tiny", "--workload", "ci", "-o", "-")
        self.assertEqual(status, 2)
        self.assertIn("MP-E035", shown)


class Documentation(Cli):
    COMMANDS = ("profile", "sweep", "merge", "compare", "explain", "selftest", "shrink", "generate", "inspect", "nsight", "niah", "doctor", "list")

    def test_help_fits_a_hundred_columns(self):
        for command in self.COMMANDS:
            self.assertLessEqual(max(map(len, self.succeeds(command, "--help").splitlines())), 100, command)

    def test_help_of_every_command_has_examples_and_exit_codes(self):
        self.assertIn("Exit codes", self.succeeds("--help"))
        self.assertRegex(self.succeeds("--version"), r"\Amisa-prof \d+\.\d+\.\d+\n")
        for command in self.COMMANDS:
            text = self.succeeds(command, "--help")
            self.assertIn("Examples:", text)
            self.assertIn("Exit codes:", text)
            self.assertIn(f"Usage: misa-prof {command} ", text)
            self.assertIn("--help", text)
            self.assertLessEqual(max(map(len, text.splitlines())), 110)

    def test_the_manual_has_every_option_and_no_other(self):
        manual = (ROOT / "docs/cli.md").read_text()
        for command in self.COMMANDS:
            section = re.search(rf"^## misa-prof {command}\n(.*?)(?=^## |\Z)", manual, re.S | re.M)
            self.assertIsNotNone(section, command)
            offered = set(re.findall(r"^  (?:-\w,)?(--[a-z][a-z-]*)", self.succeeds(command, "--help"), re.M))
            named = set(re.findall(r"^\| `(?:-[a-z], )?(--[a-z-]+)", section.group(1), re.M))
            if shared := re.search(r"options are those of `profile`:(.*?)\n\n", section.group(1), re.S):
                named |= set(re.findall(r"--[a-z-]+", shared.group(1)))
            self.assertEqual(offered - {"--help"}, named, command)

    def test_every_error_id_is_documented_once_and_means_one_thing(self):
        page = (ROOT / "docs/errors.md").read_text()
        listed = re.findall(r"^\| (MP-[EW]\d{3}) \|", page, re.M)
        self.assertEqual(len(listed), len(set(listed)))
        used = set()
        for _, text in source_files("cli", "core", "backends"):
            used.update(re.findall(r'"(MP-[EW]\d{3})"', text))
        for path in (ROOT / "profiles/recorder/misa").glob("*.py"):
            used.update(re.findall(r"MP-[EW]\d{3}", path.read_text()))
        self.assertEqual(used, set(listed))

    def test_the_readme_names_only_what_exists(self):
        readme = (ROOT / "README.md").read_text()
        for target in re.findall(r"\]\(([^)#]+)\)", readme):
            self.assertTrue((ROOT / target).exists(), target)
        for script in re.findall(r"\./(scripts/\S+\.sh)", readme):
            self.assertTrue(os.access(ROOT / script, os.X_OK), script)
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", readme))
        known = set(re.findall(r"--[a-z][a-z-]*", "".join(self.succeeds(c, "--help") for c in self.COMMANDS)))
        self.assertLessEqual(options, known)


if __name__ == "__main__":
    main()
