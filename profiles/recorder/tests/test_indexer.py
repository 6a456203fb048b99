"""misa.Indexer on arrays: what it selects, when it plans anew, and what it refuses."""

import os
import pathlib
import re

import numpy as np
import pytest

import misa
import misa_trace
from conftest import ROOT, lacks
from misa_trace import to_bf16, to_e4m3

INDEXERS = ("dsa", "misa", "misa-dagger", "hisa", "misa-lr", "misa-lr-dagger")
M, H, D, N, K = 9, 8, 32, 300, 24
SETTINGS = {"active_heads": 4, "block_size": 32, "blocks": 3, "candidates": 60, "samples": 8}


@pytest.fixture(autouse=True)
def kernels(program, monkeypatch):
    """The library of the same build as the program."""
    library = pathlib.Path(program).resolve().parents[1] / "backends/libmisa_kernels.so"
    if "MISA_KERNELS_LIBRARY" not in os.environ:
        if not library.is_file():
            lacks("libmisa_kernels.so beside the program")
        monkeypatch.setenv("MISA_KERNELS_LIBRARY", str(library))


class Drawn:
    """Whole numbers, whose products and sums are exact; windows that are empty, short, long and of two begins."""

    def __init__(self, dtype="F32", seed=1):
        rng = np.random.default_rng(seed)
        make = {"F32": np.asarray, "BF16": to_bf16, "F8_E4M3": to_e4m3}[dtype]
        self.dtype = dtype
        self.numbers = {"q": rng.integers(-3, 4, (M, H, D)), "k": rng.integers(-3, 4, (N, D))}
        self.q, self.k = (make(self.numbers[name].astype(np.float32)) for name in ("q", "k"))
        self.weights = (rng.integers(-16, 17, (M, H)) / 8).astype(np.float32)
        self.scales = (2.0 ** rng.integers(-1, 2, N)).astype(np.float32) if dtype == "F8_E4M3" else None
        self.begin = np.array([0, 0, 0, 0, 100, 100, 40, 299, 7], np.int32)
        self.end = np.array([1, 20, 300, 0, 300, 190, 41, 300, 280], np.int32)

    @property
    def keys(self):
        return self.k if self.scales is None else (self.k, self.scales)

    def dsa(self, k=K):
        scales = np.ones(N) if self.scales is None else self.scales
        dots = np.maximum(np.einsum("mhd,nd->mhn", self.numbers["q"], self.numbers["k"]), 0)
        scores = scales * np.einsum("mh,mhn->mn", self.weights.astype(float), dots)
        ids = np.full((M, k), -1, np.int32)
        for m, (begin, end) in enumerate(zip(self.begin, self.end)):
            best = np.sort(np.argsort(-scores[m, begin:end], kind="stable")[:k])
            ids[m, : len(best)] = best
        return ids


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F8_E4M3"])
def test_dsa_selects_what_the_formula_says(dtype):
    drawn = Drawn(dtype)
    ids = misa.Indexer("dsa", H, D, K)(drawn.q, drawn.weights, drawn.keys, (drawn.begin, drawn.end))
    assert ids.dtype == np.int32 and (ids[3] == -1).all()
    assert (ids == drawn.dsa()).all()


@pytest.mark.parametrize("dtype", ["F32", "F8_E4M3"])
def test_every_indexer_selects_what_the_program_does(program, tmp_path, dtype):
    drawn = Drawn(dtype, seed=2)
    drawn.begin, drawn.end = np.repeat([0, 110], [5, 4]), np.array([1, 20, 33, 80, 110, 111, 180, 299, 300])
    scale = {} if drawn.scales is None else {"k_scale": drawn.scales}
    misa_trace.write_trace(tmp_path / "trace.safetensors", q=drawn.q, weights=drawn.weights, k=drawn.k, ks=drawn.begin,
                           ke=drawn.end, **scale)
    settings = {"active_heads": 4, "blocks": 3, "candidates": 60, "top_k": K, "sampled_keys": 8, "block_size": 32}
    misa_trace.run("profile", trace=tmp_path / "trace.safetensors", indexer="all", samples=1, warm_up=0, binary=program,
                   dump_selection=tmp_path / "ids.safetensors", **settings)
    for name in INDEXERS:
        ids = misa.Indexer(name, H, D, K, **SETTINGS)(drawn.q, drawn.weights, drawn.keys, (drawn.begin, drawn.end))
        assert (ids == misa_trace.read_selection(tmp_path / f"ids.{name}.safetensors").topk.data).all(), name


@pytest.mark.parametrize("layout", ["f32", "fused", "flat", "apart"])
def test_pages_hold_the_same_keys(layout):
    """Two sequences of one stretch of keys each, in pages that are out of order."""
    drawn = Drawn("F32" if layout == "f32" else "F8_E4M3", seed=3)
    page, lengths = 16, np.array([100, 190])
    table, starts = np.full((2, 13), -1, np.int32), np.array([0, 100])
    order = iter(np.random.default_rng(4).permutation(19))
    bits = drawn.k if layout == "f32" else drawn.k.data
    cache = np.zeros((19, page, D), bits.dtype)
    scales = np.zeros((19, page), np.float32)
    for sequence, (start, length) in enumerate(zip(starts, lengths)):
        for first in range(0, length, page):
            table[sequence, first // page] = place = next(order)
            count = min(page, length - first)
            cache[place, :count] = bits[start + first : start + first + count]
            if drawn.scales is not None:
                scales[place, :count] = drawn.scales[start + first : start + first + count]
    flat = np.concatenate([cache.reshape(19, -1).view("u1"), scales.view("u1")], 1)
    sequence = np.array([0, 0, 1, 1, 1, 0, 1, 0, 1])
    end = np.array([100, 3, 190, 0, 64, 99, 20, 50, 17])
    keys = {
        "f32": lambda: misa.PagedKeys(cache, table),
        "fused": lambda: misa.PagedKeys(flat.reshape(19, page, D + 4), table),
        "flat": lambda: misa.PagedKeys(flat, table, page_size=page),
        "apart": lambda: misa.PagedKeys(misa_trace.e4m3(cache), table, scales),
    }[layout]()
    indexer = misa.Indexer("misa", H, D, K, **SETTINGS)
    paged = indexer(drawn.q, drawn.weights, keys, (sequence, np.zeros(M, int), end))
    begin = starts[sequence]
    assert (paged == indexer(drawn.q, drawn.weights, drawn.keys, (sequence, begin, begin + end))).all()


def test_arrays_of_other_frameworks_come_by_dlpack():
    class Foreign:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__()

    drawn = Drawn()
    ids = misa.Indexer("dsa", H, D, K)(*map(Foreign, (drawn.q, drawn.weights, drawn.k)), (drawn.begin, drawn.end))
    assert (ids == drawn.dsa()).all()


def test_bits_of_numpy_are_taken_for_the_dtype_that_is_given():
    drawn = Drawn("F8_E4M3")
    indexer = misa.Indexer("dsa", H, D, K, dtype="float8_e4m3fn", device="cpu")
    ids = indexer(drawn.q.data, drawn.weights, (drawn.k.data, drawn.scales), (drawn.begin, drawn.end))
    assert (ids == drawn.dsa()).all()


def test_windows_that_changed_in_place_are_noticed():
    drawn, indexer = Drawn(), misa.Indexer("dsa", H, D, K)
    begin, end = drawn.begin.copy(), drawn.end.copy()
    indexer(drawn.q, drawn.weights, drawn.k, (begin, end))
    end[2] = 60
    drawn.end = end
    assert (indexer(drawn.q, drawn.weights, drawn.k, (begin, end)) == drawn.dsa()).all()
    begin[4] = 150
    drawn.begin = begin
    assert (indexer(drawn.q, drawn.weights, drawn.k, (begin, end)) == drawn.dsa()).all()


def test_prepared_windows_are_planned_once_and_are_a_copy():
    drawn = Drawn()
    expected, begin, end = drawn.dsa(), drawn.begin.copy(), drawn.end.copy()
    windows = misa.Windows(begin, end)
    begin[:], end[:] = 0, 1
    layers = [misa.Indexer("dsa", H, D, K) for _ in range(3)]
    for indexer in layers:
        assert (indexer(drawn.q, drawn.weights, drawn.k, windows) == expected).all()
    assert len(windows.plans) == 1
    misa.Indexer("dsa", H, D, K + 1)(drawn.q, drawn.weights, drawn.k, windows)
    layers[0](drawn.q, drawn.weights, np.concatenate([drawn.k, drawn.k]), windows)
    assert len(windows.plans) == 3
    with pytest.raises(ValueError):
        windows.begin[0] = 1


def test_equal_windows_use_the_plan_of_the_call_before():
    drawn, indexer = Drawn(), misa.Indexer("dsa", H, D, K)
    indexer(drawn.q, drawn.weights, drawn.k, (drawn.begin, drawn.end))
    before = indexer._latest
    indexer(drawn.q, drawn.weights, drawn.k, (drawn.begin.tolist(), drawn.end.tolist()))
    assert indexer._latest is before and len(before.plans) == 1


def test_ids_go_where_they_are_wanted():
    drawn, room = Drawn(), np.full((M, K + 3), -7, np.int32)
    out = room[:, :K]
    assert misa.Indexer("dsa", H, D, K)(drawn.q, drawn.weights, drawn.k, (drawn.begin, drawn.end), out=out) is out
    assert (out == drawn.dsa()).all() and (room[:, K:] == -7).all()


def test_no_rows_are_no_work():
    drawn = Drawn()
    ids = misa.Indexer("dsa", H, D, K)(drawn.q[:0], drawn.weights[:0], drawn.k, ([], []))
    assert ids.shape == (0, K)


def test_qnorm_reads_the_norms_of_each_call():
    drawn, indexer = Drawn(), misa.Indexer("misa", H, D, K, active_heads=1, router="qnorm")
    windows = misa.Windows(drawn.begin, drawn.end)
    for head in (2, 5):
        norms = np.zeros((M, H), np.float32)
        norms[:, head] = 1
        alone = np.zeros_like(drawn.weights)
        alone[:, head] = drawn.weights[:, head]
        ids = indexer(drawn.q, drawn.weights, drawn.k, windows, norms=norms)
        assert (ids == misa.Indexer("dsa", H, D, K)(drawn.q, alone, drawn.k, windows)).all()
    with pytest.raises(ValueError, match="norms is null"):
        indexer(drawn.q, drawn.weights, drawn.k, windows)


def test_windows_of_prefill_and_decode():
    prefill = misa.Windows.prefill([3, 4], first=[0, 2])
    assert prefill.sequence.tolist() == [0, 0, 0, 1, 1]
    assert prefill.begin.tolist() == [0, 0, 0, 3, 3] and prefill.end.tolist() == [1, 2, 3, 6, 7]
    decode = misa.Windows.decode([10, 5], next_n=2)
    assert (decode.sequence.tolist(), decode.end.tolist()) == ([0, 0, 1, 1], [9, 10, 4, 5])
    assert decode.begin.tolist() == [0, 0, 0, 0] and decode.lengths.tolist() == [10, 5]


REFUSED = {
    "indexer": (ValueError, "no indexer called 'dsb'", lambda d: misa.Indexer("dsb", H, D, K), {}),
    "heads": (ValueError, r"q is \[9, 8, 32\], and must be \[M, 4, 32\]", lambda d: misa.Indexer("dsa", 4, D, K), {}),
    "top_k": (ValueError, "top_k is 0", lambda d: misa.Indexer("dsa", H, D, 0), {}),
    "router": (ValueError, "no router called 'maze'", lambda d: misa.Indexer("misa", H, D, K, router="maze"), {}),
    "dtype": (ValueError, "dtype is int8", lambda d: misa.Indexer("dsa", H, D, K, dtype="int8"), {}),
    "other dtype": (ValueError, "keys are float32, and this indexer is for bfloat16",
                    lambda d: misa.Indexer("dsa", H, D, K, dtype="bfloat16"), {}),
    "other device": (ValueError, "on another device", lambda d: misa.Indexer("dsa", H, D, K, device="cuda"), {}),
    "device": (ValueError, "device is tpu", lambda d: misa.Indexer("dsa", H, D, K, device="tpu"), {}),
    "doubles": (ValueError, "q is float64", None, {"q": lambda d: d.q.astype(float)}),
    "gaps": (ValueError, "q has gaps", None, {"q": lambda d: np.repeat(d.q, 2, axis=0)[::2]}),
    "no tensor": (ValueError, "q is str, not a tensor", None, {"q": lambda d: "q"}),
    "weights": (ValueError, r"weights: float32 \[9, 7\]", None, {"weights": lambda d: d.weights[:, :7].copy()}),
    "keys": (ValueError, r"keys are \[300, 16\]", None, {"keys": lambda d: d.k[:, :16]}),
    "dtypes differ": (ValueError, "q is float32, and keys are bfloat16", None, {"keys": lambda d: to_bf16(d.k)}),
    "scales": (ValueError, r"scales of keys are \[5\]", None, {"keys": lambda d: (d.k, np.ones(5, np.float32))}),
    "window": (ValueError, r"row 2 sees \[0, 301\) of 300 tokens", None,
               {"windows": lambda d: (d.begin, d.end + (np.arange(M) == 2))}),
    "rows": (ValueError, "q has 9 rows, and windows have 2", None, {"windows": lambda d: ([0, 0], [1, 1])}),
    "windows": (ValueError, "windows are", None, {"windows": lambda d: 5}),
    "fractions": (ValueError, "end must be one list of integers", None, {"windows": lambda d: (d.begin, d.end * 0.5)}),
    "negative": (ValueError, "begin has -1 to 299", None, {"windows": lambda d: (d.begin - (d.begin == 0), d.end)}),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_call_that_contradicts_itself_says_why(fault):
    kind, words, make, changes = REFUSED[fault]
    drawn = Drawn()
    given = {"q": drawn.q, "weights": drawn.weights, "keys": drawn.k, "windows": (drawn.begin, drawn.end)}
    given.update((name, change(drawn)) for name, change in changes.items())
    with pytest.raises(kind, match=words):
        (make(drawn) if make else misa.Indexer("dsa", H, D, K))(**given)


def test_what_no_kernel_does_is_not_implemented():
    with pytest.raises(NotImplementedError, match="5000 heads"):
        misa.Indexer("dsa", 5000, 4, 1)(np.zeros((1, 5000, 4), np.float32), np.zeros((1, 5000), np.float32),
                                        np.zeros((2, 4), np.float32), ([0], [2]))


def test_the_code_of_the_page_runs():
    page = (ROOT / "docs/drop-in.md").read_text(encoding="utf-8")
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/drop-in.md", "exec"), names)
    assert names["ids"].shape == (2, 128)


def test_the_page_shows_the_examples_as_they_are():
    page = (ROOT / "docs/drop-in.md").read_text(encoding="utf-8")
    shown = re.findall(r"^<!-- (\S+) -->\n```py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert [pathlib.Path(path).stem for path, _ in shown] == ["drop_in_transformers", "drop_in_engines"]
    for path, code in shown:
        assert code in (ROOT / path).read_text(encoding="utf-8"), path
