"""`--dtype`: workloads of INT8 and MXFP4, from the generator to a verdict."""
import struct
import unittest

from program import FAST, Cli, main, misa, strict_json, tensors

NAMES = ["--model", "tiny", "--workload", "ci"]
PHASES = (["--phase", "prefill"], ["--phase", "decode", "--context", "500"])


class Dtype(Cli):
    def test_every_indexer_agrees_with_the_formulas(self):
        for dtype, spelled, phase in (("int8", "I8", PHASES[1]), ("mxfp4", "F4", PHASES[0])):
            compared = strict_json(self.succeeds("compare", *NAMES, *phase, "--dtype", dtype, "--indexer", "all",
                                                 "--format", "json"))
            self.assertEqual({case["verdict"] for case in compared["cases"]}, {"passed"})
            self.assertEqual(compared["workload"]["dtype"], spelled)

    def test_rounding_to_fewer_bits_keeps_most_of_what_is_selected(self):
        ids = {}
        for dtype in ("f32", "int8", "mxfp4"):
            path = self.folder / f"{dtype}.safetensors"
            self.succeeds("profile", *FAST, "--dtype", dtype, "--indexer", "dsa", "--dump-selection", path)
            ids[dtype] = self.rows_of(path)
        for dtype, least in (("int8", 0.95), ("mxfp4", 0.7)):
            shared = sum(len(a & b) for a, b in zip(ids["f32"], ids[dtype])) / sum(map(len, ids["f32"]))
            self.assertTrue(least < shared < 1, f"{dtype}: {shared}")

    def rows_of(self, path):
        _, (rows, k), data = tensors(path)["out.topk"]
        ids = struct.unpack(f"<{rows * k}i", data)
        return [{i for i in ids[row * k:(row + 1) * k] if i >= 0} for row in range(rows)]

    def test_a_generated_trace_is_inspected_and_gives_what_its_options_give(self):
        for dtype, phase in (("int8", PHASES[0]), ("mxfp4", PHASES[1])):
            trace = self.folder / "t.safetensors"
            self.succeeds("generate", *NAMES, *phase, "--dtype", dtype, "-o", trace)
            sheet = strict_json(self.succeeds("inspect", trace, "--format", "json"))
            section = "key_block_scales" if dtype == "mxfp4" else "key_scales"
            self.assertIn(section, sheet)
            common = ["--indexer", "misa", "--samples", "1", "--warm-up", "0", "-o", self.folder / "r.json"]
            drawn, read = self.folder / "a.safetensors", self.folder / "b.safetensors"
            self.succeeds("profile", *NAMES, *phase, "--dtype", dtype, *common, "--dump-selection", drawn)
            self.succeeds("profile", "--trace", trace, *common, "--dump-selection", read)
            self.assertEqual(self.rows_of(drawn), self.rows_of(read))
        low, middle, high = (sheet[section][f"exponent_{name}"] for name in ("minimum", "median", "maximum"))
        self.assertTrue(low <= middle <= high)

    def test_a_scale_that_is_a_power_of_two_too_large_is_seen(self):
        injected = ["compare", *NAMES, "--indexer", "dsa", "--inject", "off-by-one-scale"]
        result = misa(*injected, "--dtype", "mxfp4")
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        self.assertIn("first in the scores", result.stdout)
        other = misa(*injected)
        self.assertEqual(other.returncode, 2, other.stdout + other.stderr)
        self.assertIn("MXFP4", other.stdout + other.stderr)

    def test_formats_are_an_axis_and_other_names_are_refused(self):
        self.fails(2, "MP-E563.*'mxfp5'.*try: mxfp4", "profile", "--dtype", "mxfp5")
        self.fails(2, "MP-E017", "profile", "--dtype", "mxfp4", "--trace", "learned-32k-h64")
        path = self.folder / "sweep.jsonl"
        self.succeeds("sweep", *NAMES, "--context", "512", "--dtype", "bf16,mxfp4", "--samples", "1", "--rows", "4",
                      "-o", path)
        text = path.read_text()
        self.assertIn("mxfp4", text)
        self.assertIn("bf16", text)


if __name__ == "__main__":
    main()
