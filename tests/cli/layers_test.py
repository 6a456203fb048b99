#!/usr/bin/env python3
"""Layers of a model: `--layers` profiles each, `--layer` takes one of a file, and a layer may reuse a selection.

usage: layers_test.py BINARY [EMULATOR...]  [-- unittest arguments]
"""
import json
import pathlib
import shutil
import struct
import subprocess

from program import FAST, ROOT, Cli, main, misa, needs_jsonschema, strict_json

RUN = ["--active-heads", "2", "--top-k", "16", "--samples", "1", "--warm-up", "0"]


def parts(path):
    """Metadata, and name -> (dtype, shape, bytes), of a safetensors file."""
    data = pathlib.Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    metadata = header.pop("__metadata__")
    return metadata, {name: (one["dtype"], one["shape"], data[8 + length:][slice(*one["data_offsets"])])
                      for name, one in header.items()}


def write(path, metadata, tensors):
    header, data = {"__metadata__": metadata}, b""
    for name, (dtype, shape, part) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


class Layers(Cli):
    def setUp(self):
        super().setUp()
        self.layers = self.folder / "layers"
        self.layers.mkdir()

    def generate(self, number, name=None):
        """A trace of its own numbers, which says that it is layer `number`."""
        path = self.layers / (name or f"seed{number}.safetensors")
        self.succeeds("generate", *FAST[:4], "--rows", "8", "--seed", number, "-o", path)
        metadata, tensors = parts(path)
        write(path, {**metadata, "layer": str(number)}, tensors)
        return path

    def run_layers(self, path, *options):
        options = options if "--indexer" in options else ("--indexer", "misa", *options)
        return strict_json(self.succeeds("profile", "--layers", path, *RUN, *options, "--format", "json"))

    def test_each_layer_is_profiled_in_its_order_and_as_if_it_were_alone(self):
        for number, name in ((10, "a.safetensors"), (9, "b.safetensors")):
            self.generate(number, name)
        found = self.run_layers(self.layers)
        self.assertEqual([layer["name"] for layer in found["layers"]], ["b", "a"])
        for layer in found["layers"]:
            alone = strict_json(self.succeeds("profile", "--trace", self.layers / f"{layer['name']}.safetensors", *RUN,
                                              "--indexer", "misa", "--format", "json"))["cases"][0]
            self.assertEqual([one["indexer"] for one in layer["cases"]], ["dsa", "misa"])
            self.assertEqual(layer["cases"][1]["kept"]["recall"], alone["quality"]["recall"]["mean"])
        schema = ["scripts/check_json.py", "-"]
        checked = subprocess.run([needs_jsonschema(self), *schema], input=json.dumps(found), text=True, cwd=ROOT,
                                 capture_output=True, check=False)
        self.assertEqual(checked.returncode, 0, checked.stderr)

    def test_a_layer_that_equals_the_one_before_reuses_all_and_another_one_does_not(self):
        first = self.generate(1, "1.safetensors")
        metadata, tensors = parts(first)
        write(self.layers / "2.safetensors", {**metadata, "layer": "2"}, tensors)
        self.generate(3)
        first, second, third = self.run_layers(self.layers)["layers"]
        self.assertIsNone(first["cases"][0]["reused"])
        self.assertEqual(second["cases"][0]["reused"]["recall"], 1)
        self.assertEqual(second["cases"][1]["reused"]["recall"], second["cases"][1]["kept"]["recall"])
        self.assertLess(third["cases"][0]["reused"]["recall"], 1)

    def test_given_scores_what_the_layer_before_found(self):
        metadata, tensors = parts(self.generate(1, "1.safetensors"))
        write(self.layers / "2.safetensors", {**metadata, "layer": "2"}, tensors)
        self.generate(3)
        found = self.run_layers(self.layers, "--indexer", "dsa,given", "--candidates", "40")
        first, second, third = found["layers"]
        self.assertEqual([[one["indexer"] for one in layer["cases"]] for layer in found["layers"]],
                         [["dsa"], ["dsa", "given"], ["dsa", "given"]])
        self.assertRegex(found["skipped"][0], "1: given: no layer before")
        self.assertEqual(second["cases"][1]["kept"]["recall"], 1)  # 40 places hold the 16 of the same layer
        self.assertLess(third["cases"][1]["kept"]["recall"], 1)

    def test_sums_are_those_of_the_layers_and_every_second_one_takes_nothing(self):
        for number in (1, 2, 3):
            self.generate(number)
        found = self.run_layers(self.layers)
        sums = {(one["indexer"], one["period"]): one for one in found["sums"]}
        self.assertEqual(set(sums), {("dsa", 1), ("misa", 1), ("dsa", 2), ("misa", 2)})
        for c, indexer in enumerate(("dsa", "misa")):
            cases = [layer["cases"][c] for layer in found["layers"]]
            every = sums[indexer, 1], sums[indexer, 2]
            self.assertAlmostEqual(every[0]["ns"], sum(one["ns"] for one in cases), delta=3)
            self.assertAlmostEqual(every[1]["ns"], cases[0]["ns"] + cases[2]["ns"], delta=3)
            own = [one["kept"]["recall"] for one in cases]
            self.assertAlmostEqual(every[0]["kept"]["recall"], sum(own) / 3)
            self.assertAlmostEqual(every[1]["kept"]["recall"], (own[0] + cases[1]["reused"]["recall"] + own[2]) / 3)
        self.assertEqual(sums["dsa", 1]["kept"]["recall"], 1)

    def test_a_file_that_holds_several_layers_is_read_layer_by_layer(self):
        shared, merged = {}, {}
        for number in (2, 11):
            metadata, tensors = parts(self.generate(number))
            for name, part in tensors.items():
                if name in ("ks", "ke", "q_pos"):
                    shared[name] = part
                else:
                    merged[f"layers.{number}.{name}"] = part
        path = self.folder / "all.safetensors"
        write(path, metadata, {**shared, **merged})
        apart, together = self.run_layers(self.layers), self.run_layers(path)
        self.assertEqual([layer["name"] for layer in together["layers"]], ["layer 2", "layer 11"])
        for one, other in zip(apart["layers"], together["layers"]):
            self.assertEqual([case["kept"] for case in one["cases"]], [case["kept"] for case in other["cases"]])
        self.succeeds("compare", "--trace", path, "--layer", "11", "--rows", "2", "--indexer", "dsa")
        self.fails(3, "MP-E567.*layers 2, 11", "profile", "--trace", path)
        self.fails(3, "MP-E567.*and not 3", "profile", "--trace", path, "--layer", "3")
        self.fails(3, "MP-E567.*one layer", "profile", "--trace", self.layers / "seed2.safetensors", "--layer", "3")

    def test_the_table_and_markdown_show_layers_and_their_sum(self):
        self.generate(1)
        self.generate(2)
        page = self.folder / "page.md"
        table = self.succeeds("profile", "--layers", self.layers, *RUN, "--indexer", "misa", "-o", "-", "-o", page)
        for shown in (table, page.read_text()):
            for text in ("seed1", "seed2", "all 2 layers", "every 2nd layer reuses"):
                self.assertIn(text, shown)

    def test_what_layers_exclude_is_refused(self):
        self.generate(1)
        for option in (["--model", "tiny"], ["--aa"], ["--row", "1"], ["--dry-run"], ["--trace", "x"]):
            self.fails(2, f"MP-E568.*{option[0]}", "profile", "--layers", self.layers, *option)
        self.fails(2, "MP-E568.*csv", "profile", "--layers", self.layers, "--format", "csv")
        shutil.rmtree(self.layers)
        self.layers.mkdir()
        self.fails(3, "MP-E567", "profile", "--layers", self.layers)
        self.fails(3, "MP-E1", "profile", "--layers", self.folder / "none")
        self.fails(2, "MP-E017", "profile", "--layer", "3", "--model", "tiny")

    def test_the_whole_model_takes_its_layers_times_one(self):
        found = strict_json(self.succeeds("profile", "--model", "glm-5.2", "--rows", "2", "--context", "1k", "--indexer",
                                          "dsa,misa", "--samples", "1", "--warm-up", "0", "--format", "json"))
        whole = found["whole_model"]
        self.assertEqual((whole["layers"], whole["indexer_layers"], whole["per"]), (78, 21, "token"))
        for one, case in zip(whole["cases"], found["cases"]):
            self.assertAlmostEqual(one["ns"], case["end_to_end_ns"]["median"] * 21 / 2, delta=21)
        step = ["--model", "glm-5.2", "--phase", "decode", "--sequences", "2", "--context", "1k", "--indexer", "dsa",
                "--samples", "1", "--warm-up", "0"]
        path = self.folder / "step.json"
        self.assertIn("21 of 78 layers have an indexer", self.succeeds("profile", *step, "-o", "-", "-o", path))
        found = strict_json(path.read_text())
        self.assertEqual(found["whole_model"]["per"], "step")
        self.assertAlmostEqual(found["whole_model"]["cases"][0]["ns"],
                               found["cases"][0]["end_to_end_ns"]["median"] * 21, delta=21)
        self.assertNotIn("whole_model", strict_json(self.succeeds("profile", *FAST, "--format", "json")))

    def test_given_scores_what_a_trace_brings(self):
        path = self.generate(1)
        metadata, tensors = parts(path)
        ks, ke = (struct.unpack("<8i", tensors[name][2]) for name in ("ks", "ke"))
        windows = [end - begin for begin, end in zip(ks, ke)]
        runs = [[run if run * 8 < window else -1 for run in range(max(windows) // 8 + 1)] for window in windows]
        ids = [id for row in runs for id in row]
        tensors["candidates"] = ("I32", [8, len(runs[0])], struct.pack(f"<{len(ids)}i", *ids))
        write(path, {**metadata, "candidate_length": "8"}, tensors)
        given = ["--trace", path, "--top-k", "16", "--indexer", "dsa,given", "--samples", "1", "--format", "json"]
        cases = strict_json(self.succeeds("profile", *given))["cases"]
        self.assertEqual(cases[1]["quality"]["recall"]["worst"], 1)
        self.succeeds("compare", "--trace", path, "--top-k", "16", "--indexer", "given")
        self.fails(4, "MP-E565", "profile", *FAST, "--indexer", "given")


if __name__ == "__main__":
    main()
