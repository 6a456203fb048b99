#!/usr/bin/env python3
"""Drawn traces, what the program chooses on them, and a second reading of the formulas (formulas.py) that judges it.

usage: reference_test.py BINARY [EMULATOR...] [-- unittest arguments]

The program's backends share how a trace is placed and how lines are fitted; nothing here does. MISA_REFERENCE_SEED runs
one seed, MISA_REFERENCE_CASES so many.
"""
import json
import os
import pathlib
import shutil
import sys
import tempfile
import unittest

try:
    import numpy as np
except ImportError:  # Debian's belongs to Debian's python3, which need not be the first on PATH
    debian = "/usr/bin/python3"
    if os.path.exists(debian) and sys.executable != debian:
        os.execv(debian, [debian, *sys.argv])
    print("skipped: there is no NumPy (Debian: python3-numpy)", file=sys.stderr)
    sys.exit(1 if os.environ.get("MISA_NO_SKIPS") else 77)

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))
import formulas  # noqa: E402
from program import Cli, main, misa  # noqa: E402

ROUTERS = ["pooled", "qnorm", "selfk", "gate", "oracle", "linear-residual", "covariance"]
FIRST = int(os.environ.get("MISA_REFERENCE_SEED", 1))
COUNT = 1 if "MISA_REFERENCE_SEED" in os.environ else int(os.environ.get("MISA_REFERENCE_CASES", 20))


class Drawn:
    """A trace of random numbers and the options to run it with, by seed."""

    def __init__(self, seed, path):
        self.seed, self.path, draw = seed, path, np.random.default_rng(seed)
        self.draw = draw
        self.heads, self.dim = int(draw.choice([4, 7, 16, 24])), int(draw.choice([32, 64]))
        self.q_dtype = str(draw.choice(["F8_E4M3", "F8_E4M3", "BF16", "F32"]))
        self.k_dtype = self.q_dtype
        self.special = draw.random() < 0.5  # heads and keys whose products are all equal, or equal to others
        self.paged = draw.random() < 0.5
        lengths = [int(n) for n in draw.integers(1, 180, draw.integers(1, 4))]
        self.tensors = {}
        if self.paged:
            lengths += [int(n) for n in draw.integers(0, 3, 1)]
            self.place_paged(lengths, next_n=int(draw.integers(1, 4)))
        else:
            self.place_contiguous(lengths)
        self.place_queries()
        formulas.write(path, self.tensors, {"format": "misa-trace/1", "provenance": "synthetic"})
        self.options = {"top-k": int(draw.integers(1, 50)), "active-heads": int(draw.integers(2, 6)),
                        "sampled-keys": int(draw.choice([2, 8, 30, 64])),
                        "block-size": int(draw.choice([1, 8, 16, 32])), "blocks": int(draw.integers(1, 6)), "threads": 1}
        self.options["candidates"] = self.options["top-k"] + int(draw.integers(0, 50))
        self.options["block-window"] = str(draw.choice(["visible", "visible", "upstream"]))

    def stored(self, values, dtype):
        if dtype == "F32":
            return values.astype("<f4").tobytes()
        return (formulas.to_bf16(values) if dtype == "BF16" else formulas.to_e4m3(values)).tobytes()

    def keys(self, count):
        k = self.draw.normal(size=(count, self.dim)) * (40 if self.k_dtype == "F8_E4M3" else 1)
        if self.draw.random() < 0.5:  # few different keys: ties
            k = k[self.draw.integers(0, min(count, 6), count)]
        if self.special:
            k[:, 0], k[:, self.dim // 2:] = 1, 0
        scale = 2.0 ** self.draw.integers(-4, 5, count)
        if self.draw.random() < 0.5:
            scale = self.draw.uniform(0.01, 4, count)
        if self.special or self.k_dtype != "F8_E4M3":
            scale = np.ones(count)
        return k, scale.astype(np.float32)

    def place_contiguous(self, lengths):
        k, scale = self.keys(sum(lengths))
        begins = np.cumsum([0, *lengths[:-1]])
        rows = [(begin, begin + n) for begin, length in zip(begins, lengths)
                for n in sorted(self.draw.integers(1, length + 1, 3))]
        self.rows = len(rows)
        ks, ke = np.array(rows, "<i4").T
        self.tensors |= {"k": (self.k_dtype, k.shape, self.stored(k, self.k_dtype)),
                         **{name: ("I32", [self.rows], value.astype("<i4").tobytes())
                            for name, value in (("ks", ks), ("ke", ke), ("q_pos", ke - ks - 1))}}
        if self.k_dtype == "F8_E4M3":
            self.tensors["k_scale"] = ("F32", scale.shape, scale.tobytes())
            if np.all(np.log2(scale) % 1 == 0) and self.draw.random() < 0.5:
                codes = (np.log2(scale) + 127).astype(np.uint8)
                self.tensors["k_scale"] = ("F8_E8M0", scale.shape, codes.tobytes())

    def place_paged(self, lengths, next_n):
        self.rows, size = len(lengths) * next_n, int(self.draw.choice([16, 64]))
        used = [-(-n // size) for n in lengths]
        pages = sum(used) + 2
        order, table = list(self.draw.permutation(pages)), np.full((len(lengths), max(1, *used) + 1), -1, "<i4")
        width = {"F32": 4, "BF16": 2, "F8_E4M3": 1}[self.k_dtype]
        scale_bytes = 4 if self.k_dtype == "F8_E4M3" else 0
        data = np.full((pages, size * (self.dim * width + scale_bytes)), 0x3C, np.uint8)  # finite garbage
        for b, length in enumerate(lengths):
            k, scale = self.keys(max(1, length))
            for t in range(length):
                if t % size == 0:
                    table[b, t // size] = order.pop()
                page, slot, row = data[table[b, t // size]], t % size, self.dim * width
                page[slot * row:(slot + 1) * row] = np.frombuffer(self.stored(k[t], self.k_dtype), np.uint8)
                if scale_bytes:
                    at = size * row + 4 * slot
                    page[at:at + 4] = np.frombuffer(scale[t].tobytes(), np.uint8)
        shape = [pages, size, self.dim + scale_bytes]
        self.tensors |= {"k_pages": ("U8" if scale_bytes else self.k_dtype, shape, data.tobytes()),
                         "block_table": ("I32", table.shape, table.tobytes()),
                         "seq_lens": ("I32", [len(lengths)], np.array(lengths, "<i4").tobytes())}

    def place_queries(self):
        draw, shape = self.draw, (self.rows, self.heads, self.dim)
        q, w = draw.normal(size=shape), draw.normal(size=shape[:2])
        if self.special:
            kinds = draw.permutation(self.heads)[:4]
            q[:, kinds] = 0
            q[:, kinds[0], 0] = 1                                # products are all 1
            q[:, kinds[1], 0] = -1                               # all -1
            q[:, kinds[2], self.dim // 2:] = draw.normal(size=self.dim - self.dim // 2)  # all 0
            twin = (kinds[3] + 1) % self.heads                   # two heads that nothing tells apart
            q[:, kinds[3]], w[:, kinds[3]] = q[:, twin], w[:, twin]
        scale = np.ones(shape[:2], np.float32)
        if self.q_dtype == "F8_E4M3":
            scale = draw.uniform(0.01, 0.1, shape[:2]).astype(np.float32)
            if self.special:
                scale[:, kinds[3]] = scale[:, twin]
            else:
                q *= 50
        # weights hold the scale of their query
        weights = (w * scale * (self.heads * self.dim) ** -0.5).astype("<f4")
        self.tensors |= {"q": (self.q_dtype, shape, self.stored(q, self.q_dtype)),
                         "weights": ("F32", shape[:2], weights.tobytes())}
        recorded = draw.random() < 0.3
        if self.q_dtype == "F8_E4M3" and not recorded:
            self.tensors["q_scale"] = ("F32", shape[:2], scale.tobytes())
        if recorded:
            self.tensors["q_norm"] = ("F32", shape[:2], draw.uniform(1, 2, shape[:2]).astype("<f4").tobytes())


def ids(row):
    """Without the pads, which come last."""
    kept = row[row >= 0]
    assert np.all(row[:len(kept)] >= 0), f"a pad before an id: {row}"
    return kept


class Reference(Cli):
    """Counts what could be judged exactly, for rounding must not excuse everything."""

    def setUp(self):
        super().setUp()
        self.exact = self.judged = 0

    def assert_mostly_exact(self, share):
        print(f"{self._testMethodName}: {self.exact} of {self.judged} choices have no near miss", file=sys.stderr)
        self.assertGreater(self.exact, share * self.judged)

    def choice(self, what, chosen, offered, values, slack, wanted):
        """`chosen` must be the `wanted` of `offered` of highest value, lower ids first, but for rounding by `slack`."""
        wanted = min(wanted, len(offered))
        self.assertEqual(len(chosen), wanted, what)
        self.assertTrue(np.all(np.diff(chosen) > 0), f"{what} do not ascend: {chosen}")
        self.assertTrue(np.all(np.isin(chosen, offered)), f"{what}: {chosen} of {offered}")
        self.judged += 1
        if wanted == 0:
            return
        ranked = formulas.highest(values, wanted)
        last = values[ranked].min()
        near = (values == last) | (np.abs(values - last) <= slack if np.isfinite(last) else False)
        if not near.any() or values[near].min() == values[near].max():
            self.assertEqual(list(chosen), list(offered[ranked]), what)
            self.exact += 1
            return
        inside = np.isin(offered, chosen)
        self.assertTrue(np.all(inside[values > last + slack]), f"{what}: missed one, {chosen}")
        self.assertFalse(np.any(inside[values < last - slack]), f"{what}: took one that is too low, {chosen}")

    def judge_row(self, drawn, indexer, router, row, out, m, unit):
        options = drawn.options
        heads = linear = None
        upstream = options["block-window"] == "upstream"
        kept = min(options["active-heads"], row.heads)
        tokens, offered = np.arange(row.tokens), np.arange(row.tokens)
        if "lr" in indexer or indexer.startswith("misa"):
            with_linear = "lr" in indexer and options["active-heads"] < row.heads
            kept -= 2 if with_linear else 0
            heads = ids(out["out.heads"][m].astype(int)) if "out.heads" in out else np.arange(0)
            if router in ("linear-residual", "covariance"):
                samples = formulas.Samples(row, options["sampled-keys"], with_linear, unit)
                if unit > 1e-10:
                    expected, unsure = heads, True  # what f32 does to lines is for the bounds of compare to say
                elif router == "covariance":
                    expected, unsure = samples.covariance_heads(kept)
                else:
                    expected, unsure = formulas.highest(samples.energies, kept), samples.unsure or formulas.boundary(
                        samples.energies, kept, 8 * unit * samples.size.max(initial=0))
                self.judged += unit < 1e-10
                if not unsure:
                    self.assertEqual(list(heads), list(expected), "heads")
                    self.exact += 1
                if with_linear:
                    linear = out["out.linear"][m]
                    if unit < 1e-10 and not samples.unsure:
                        wanted, open_ = formulas.rounded_linear_query(*samples.linear_query(heads), row.q_dtype)
                        self.judged += 1
                        self.exact += not open_.any()
                        self.assertTrue(np.all((linear == wanted) | open_), f"linear query {linear}, not {wanted}")
            else:
                energy, size = row.energies(router, options["block-size"], upstream)
                slack = (unit + 2.0 ** -23 * (router in ("pooled", "qnorm"))) * size.max(initial=0)
                self.choice("heads", heads, np.arange(row.heads), energy, slack, kept)
        if indexer == "hisa" and row.tokens:
            size = options["block-size"]
            means = row.block_means(size, upstream)
            score = (row.w[:, None] * formulas.relu(formulas.dots(row.q, means))).sum(0)
            room = (np.abs(row.w)[:, None] * formulas.dots(np.abs(row.q), np.abs(means))).sum(0)
            score[[0, -1]] = np.inf  # the first and the last block are kept whatever they score
            blocks = ids(out["out.blocks"][m].astype(int))
            slack = (unit + 2.0 ** -23) * room.max()
            self.choice("blocks", blocks, np.arange(len(means)), score, slack, options["blocks"])
            shift = row.begin % size if upstream else 0
            offered = tokens[np.isin((tokens + shift) // size, blocks)]
        if "dagger" in indexer:
            values, size = row.scores(heads, linear)
            candidates = ids(out["out.candidates"][m].astype(int))
            self.choice("candidates", candidates, tokens, values, unit * size.max(initial=0), options["candidates"])
            offered, heads, linear = candidates, None, None
        values, size = row.scores(heads, linear, offered)
        chosen = ids(out["out.topk"][m].astype(int))
        self.choice("tokens", chosen, offered, values, unit * size.max(initial=0), options["top-k"])
        values, size = row.scores(heads, linear, chosen)
        off = np.abs(out["out.scores"][m][:len(chosen)] - values) > unit * size
        self.assertFalse(off.any(), f"scores {out['out.scores'][m][:len(chosen)][off]}, expected {values[off]}")

    def judge(self, drawn, backend, against, indexers, router, unit):
        folder = self.folder / f"{backend}-{router}"
        options = [word for name, value in drawn.options.items() for word in (f"--{name}", str(value))]
        words = ["compare", "--trace", drawn.path, "--backend", backend, "--against", against, "--indexer",
                 ",".join(indexers), "--router", router, *options, "--write-golden", folder]
        result = misa(*words)
        self.assertEqual(result.returncode, 0, f"{' '.join(map(str, words))}\n{result.stdout}{result.stderr}")
        arrays, dtypes = formulas.read(drawn.path)
        for indexer in indexers:
            out, _ = formulas.read(folder / f"{indexer}.safetensors")
            for m in range(drawn.rows):
                with self.subTest(f"{indexer}, router {router}, {backend}, row {m}; again: "
                                  f"MISA_REFERENCE_SEED={drawn.seed}"):
                    self.judge_row(drawn, indexer, router, formulas.Row(arrays, dtypes, m), out, m, unit)
        shutil.rmtree(folder)

    def drawn_cases(self):
        for seed in range(FIRST, FIRST + COUNT):
            drawn = Drawn(seed, self.folder / "trace.safetensors")
            yield drawn, ROUTERS[seed % len(ROUTERS)], ["covariance", "linear-residual"][seed % 2]

    def test_the_oracle_chooses_what_the_formulas_choose(self):
        for drawn, router, sampling in self.drawn_cases():
            self.judge(drawn, "oracle", "cpu", ["dsa", "misa", "misa-dagger", "hisa"], router, 1e-13)
            self.judge(drawn, "oracle", "cpu", ["misa-lr", "misa-lr-dagger"], sampling, 1e-13)
            self.judge(drawn, "oracle", "cpu", ["misa"], "qnorm", 1e-13)
        self.assert_mostly_exact(0.8)

    def test_the_cpu_chooses_what_the_formulas_choose_but_for_its_rounding(self):
        for drawn, router, sampling in self.drawn_cases():
            unit = (drawn.dim + 8) * 2.0 ** -24
            self.judge(drawn, "cpu", "oracle", ["dsa", "misa", "misa-dagger", "hisa"], router, unit)
            self.judge(drawn, "cpu", "oracle", ["misa-lr", "misa-lr-dagger"], sampling, unit)
        self.assert_mostly_exact(0.5)

    def test_profile_dumps_what_compare_judges(self):
        drawn = Drawn(FIRST, self.folder / "trace.safetensors")
        options = [word for name, value in drawn.options.items() for word in (f"--{name}", str(value))]
        self.succeeds("profile", "--trace", drawn.path, "--indexer", "misa", *options, "--samples", "1",
                      "--dump-selection", self.folder / "dumped.safetensors", "--format", "json")
        result = misa("compare", "--trace", drawn.path, "--indexer", "misa", *options, "--write-golden", self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        dumped, golden = (formulas.read(self.folder / f"{name}.safetensors")[0] for name in ("dumped", "misa"))
        for name in ("ks", "ke", "out.topk", "out.heads"):
            np.testing.assert_array_equal(dumped[name], golden[name])


if __name__ == "__main__":
    main()
