"""What is written is read again, and the program agrees with the formula on it."""

import pathlib
import subprocess
import sys

import misa_trace as m
import numpy as np
import pytest
from drawn import contiguous, paged, raw_write

CASES = {
    "FP8 queries and keys": lambda seed: contiguous(seed),
    "bf16 queries, FP8 keys": lambda seed: contiguous(seed, q_dtype="BF16"),
    "bf16": lambda seed: contiguous(seed, q_dtype="BF16", k_dtype="BF16", dim=64),
    "f32": lambda seed: contiguous(seed, q_dtype="F32", k_dtype="F32"),
    "FP8 pages": lambda seed: paged(seed),
    "FP8 pages, one row of padding": lambda seed: paged(seed, lengths=(13, 0, 7), next_n=1),
    "MXFP4": lambda seed: contiguous(seed, q_dtype="F4", k_dtype="F4", dim=128),
    "MXFP4 of 32 numbers": lambda seed: contiguous(seed, q_dtype="F4", k_dtype="F4"),
    "INT8": lambda seed: contiguous(seed, q_dtype="I8", k_dtype="I8", dim=64),
    "MXFP4 pages": lambda seed: paged(seed, dtype="F4", dim=64),
    "INT8 pages": lambda seed: paged(seed, dtype="I8"),
    "bf16 pages": lambda seed: paged(seed, dtype="BF16", next_n=1),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_trace_is_read_as_it_was_written(tmp_path, name, seed):
    arrays, metadata = CASES[name](seed)
    written = m.write_trace(tmp_path / "t.safetensors", metadata=metadata, **arrays)
    read = m.read_trace(tmp_path / "t.safetensors")
    assert read.metadata == {"format": "misa-trace/1", **metadata}
    assert [n for n, _ in read.tensors()] == [n for n, _ in written.tensors()]
    for field, tensor in read.tensors():
        assert tensor.dtype == getattr(written, field).dtype
        assert np.array_equal(tensor.data, getattr(written, field).data)
        assert np.array_equal(tensor.data.reshape(-1), m.tensor_of(arrays[field]).data.reshape(-1))
    assert [path.name for path in tmp_path.iterdir()] == ["t.safetensors"]


def select_by_hand(arrays, row, k):
    """The k best tokens of a row by the formula, without the package: FP8 is decoded number by number."""

    def number(code):
        sign, exponent, mantissa = -1 if code & 128 else 1, code >> 3 & 15, code & 7
        return sign * (mantissa / 8 * 2**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7))

    decode = np.vectorize(number, otypes=[float])
    query = decode(arrays["q"].data[row])
    if "k" in arrays:
        ks, ke = arrays["ks"][row], arrays["ke"][row]
        keys = decode(arrays["k"].data[ks:ke]) * arrays["k_scale"][ks:ke, None].astype(float)
    else:
        sequences, (_pages, size, width) = len(arrays["seq_lens"]), arrays["k_pages"].shape
        next_n = len(arrays["q"].data) // sequences
        length = arrays["seq_lens"][row // next_n] - next_n + row % next_n + 1
        keys = []
        for token in range(max(length, 0)):
            page = arrays["k_pages"].data[arrays["block_table"][row // next_n, token // size]].reshape(-1)
            slot, dim = token % size, width - 4
            scale = page[size * dim + 4 * slot : size * dim + 4 * slot + 4].copy().view("<f4")[0]
            keys.append(decode(page[slot * dim : slot * dim + dim]) * float(scale))
        keys = np.array(keys).reshape(-1, query.shape[1])
    scores = np.maximum(keys @ query.T, 0) @ arrays["weights"][row].astype(float)
    return sorted(np.argsort(-scores, kind="stable")[:k].tolist())


@pytest.mark.parametrize("name", ["FP8 queries and keys", "FP8 pages", "FP8 pages, one row of padding"])
def test_the_formula_of_a_trace_is_that_of_its_bytes(name):
    arrays, metadata = CASES[name](3)
    trace = m.make_trace(metadata, **arrays)
    for row, chosen in enumerate(trace.select()):
        assert [id for id in chosen.tolist() if id != -1] == select_by_hand(arrays, row, trace.top_k)


@pytest.mark.parametrize("name", CASES)
def test_the_program_inspects_profiles_and_compares_what_was_written(tmp_path, program, name):
    arrays, metadata = CASES[name](4)
    path = tmp_path / "t.safetensors"
    trace = m.write_trace(path, metadata=metadata, **arrays)
    facts = m.run("inspect", path, binary=program)
    assert facts["rows"]["rows"] == trace.rows and facts["rows"]["heads"] == trace.heads
    assert "warnings" not in facts
    compared = m.run("compare", trace=path, indexer="dsa", binary=program)
    assert compared["schema"] == "misa-prof/agreement"
    m.run(
        "profile",
        trace=path,
        indexer="dsa",
        samples=1,
        dump_selection=tmp_path / "chosen.safetensors",
        backend="oracle",
        binary=program,
    )
    chosen = m.read_selection(tmp_path / "chosen.safetensors")
    assert np.array_equal(chosen.topk.data, trace.select())


def test_a_recorded_topk_is_judged_by_the_program(tmp_path, program):
    arrays, metadata = contiguous(5)
    right = m.make_trace(metadata, **arrays).select()
    rows = np.array([1, 9, 4])
    path = tmp_path / "t.safetensors"
    m.write_trace(
        path,
        topk=right[rows].astype(np.int64),
        topk_row=rows,
        metadata={**metadata, "topk_arithmetic": "f64"},
        **arrays,
    )
    m.run("compare", trace=path, indexer="dsa", binary=program)
    wrong = right[rows].copy()
    seen = int(arrays["ke"][9] - arrays["ks"][9])
    wrong[1, 0] = next(id for id in range(seen) if id not in wrong[1])
    m.write_trace(path, topk=wrong, topk_row=rows, metadata={**metadata, "topk_arithmetic": "f64"}, **arrays)
    with pytest.raises(m.ProgramError) as caught:
        m.run("compare", trace=path, indexer="dsa", binary=program)
    assert caught.value.id == "MP-E610" and caught.value.status == 1
    assert caught.value.result["schema"] == "misa-prof/agreement"


def test_windows_follow_from_each_other():
    arrays, metadata = contiguous(6, lengths=(40,))
    whole = m.make_trace(metadata, **arrays)
    for absent in (["q_pos"], ["ke"], ["ks"], ["ks", "ke"], ["ks", "q_pos"]):
        some = m.make_trace(metadata, **{name: array for name, array in arrays.items() if name not in absent})
        for name in ("ks", "ke", "q_pos"):
            assert np.array_equal(getattr(some, name).data, getattr(whole, name).data), absent
    arrays, metadata = contiguous(6, lengths=(40,), k_dtype="BF16")
    tokens = {**arrays, "q_pos": np.array([2, 3, 7, 158, 159])}
    del tokens["ke"]
    compressed = m.make_trace({**metadata, "compress_ratio": 4}, **tokens)
    assert compressed.ke.data.tolist() == [0, 1, 2, 39, 40]


def test_other_dtypes_and_dimensions_of_one_become_those_of_the_format():
    arrays, metadata = contiguous(7)
    want = m.make_trace(metadata, **arrays)
    rows, heads = want.rows, want.heads
    bits = m.to_bf16(arrays["weights"])
    got = m.make_trace(
        metadata,
        q=m.e4m3(arrays["q"].data.view(np.int8)[None]),
        k=m.e4m3(arrays["k"].data[:, None]),
        k_scale=arrays["k_scale"].view(np.uint8).reshape(-1, 4),
        weights=m.bf16(bits.data.reshape(1, rows, heads)),
        ks=arrays["ks"].astype(np.int64),
        ke=arrays["ke"].astype(np.uint16)[None],
        q_pos=arrays["q_pos"].tolist(),
        topk=want.select()[None].astype("i8"),
    )
    for name in ("q", "k", "k_scale", "ks", "ke", "q_pos"):
        assert getattr(got, name).dtype == getattr(want, name).dtype
        assert np.array_equal(getattr(got, name).data, getattr(want, name).data), name
    assert np.array_equal(got.weights.data, bits.values())
    assert got.topk.dtype == "I32" and got.topk.shape == (rows, 8)


def test_pages_as_stacks_show_them_are_read():
    arrays, metadata = paged(8, next_n=2)
    want = m.make_trace(metadata, **arrays)
    lengths = np.stack([arrays["seq_lens"] - 1, arrays["seq_lens"]], axis=1)
    got = m.make_trace(
        metadata,
        q=m.e4m3(arrays["q"].data.reshape(2, 2, 4, 32)),
        weights=arrays["weights"][..., None],
        k_pages=arrays["k_pages"].data.view(np.int8)[:, :, None],
        seq_lens=lengths,
        block_table=arrays["block_table"].astype(np.int64),
    )
    for name in ("q", "weights", "k_pages", "seq_lens", "block_table"):
        assert np.array_equal(getattr(got, name).data, getattr(want, name).data), name


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    arrays, metadata = contiguous(9)
    path = tmp_path / "t.safetensors"
    m.write_trace(path, metadata=metadata, **arrays)
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda file: (_ for _ in ()).throw(OSError("the disk is full")))
    with pytest.raises(OSError, match="full"):
        m.write_trace(path, metadata={**metadata, "model": "other"}, **arrays)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["t.safetensors"]


def test_tensors_of_the_callers_own_are_kept(tmp_path):
    arrays, metadata = contiguous(10)
    m.write_trace(tmp_path / "t", metadata=metadata, extra={"x.mine": np.arange(3.0)}, **arrays)
    assert m.read_trace(tmp_path / "t").extra["x.mine"].data.tolist() == [0, 1, 2]


def test_torch_tensors_are_written_as_they_are(tmp_path):
    torch = pytest.importorskip("torch")
    arrays, metadata = contiguous(11)
    as_torch = {name: m.tensor_of(value).torch() for name, value in arrays.items()}
    assert as_torch["q"].dtype == torch.float8_e4m3fn
    m.write_trace(tmp_path / "a", metadata=metadata, **arrays)
    m.write_trace(tmp_path / "b", metadata=metadata, **{**as_torch, "ks": as_torch["ks"].long()})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    bits = m.to_bf16(np.linspace(-3, 3, 50))
    assert np.array_equal(m.tensor_of(bits.torch()).data, bits.data)
    with pytest.raises(m.TraceError, match="MP-E207"):
        m.write_trace(
            tmp_path / "c",
            metadata=metadata,
            **{**as_torch, "q": torch.zeros(as_torch["q"].shape).to(torch.float8_e4m3fnuz)},
        )


def test_nothing_but_numpy_is_imported():
    code = "import sys, misa_trace; print([n for n in ('torch', 'safetensors', 'ml_dtypes') if n in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        check=True,
        cwd=pathlib.Path(m.__file__).resolve().parents[1],
    )
    assert shown.stdout.split() == [b"[]"]


def test_a_selection_is_read_as_it_was_written(tmp_path, program):
    arrays, metadata = contiguous(12)
    trace = m.write_trace(tmp_path / "t", metadata=metadata, **arrays)
    right = trace.select()
    order = np.random.default_rng(1).permuted(np.arange(8))
    scores = np.arange(right.size, dtype=np.float32).reshape(right.shape)
    m.write_selection(tmp_path / "s", right[:, order].astype(np.int64), trace=trace, scores=scores[:, order])
    read = m.read_selection(tmp_path / "s")
    assert np.array_equal(read.topk.data, right)
    assert np.array_equal(read.scores.data[right >= 0], scores[right >= 0])
    assert m.run("inspect", tmp_path / "s", binary=program)["selection"]["k"] == 8
    m.write_selection(tmp_path / "p", right[3:5], topk_row=[3, 4], arithmetic="fp8-mma")
    plain = m.read_selection(tmp_path / "p")
    assert np.array_equal(plain.topk.data, right[3:5]) and plain.topk_row.data.tolist() == [3, 4]
    assert plain.metadata["topk_arithmetic"] == "fp8-mma"


def test_the_program_judges_a_written_selection(tmp_path, program):
    arrays, metadata = contiguous(14)
    trace = m.write_trace(tmp_path / "t", metadata=metadata, **arrays)
    right, rows = trace.select(), np.array([7, 2])
    judged = {"trace": tmp_path / "t", "selection": tmp_path / "s", "binary": program}
    m.write_selection(tmp_path / "s", right[rows][:, ::-1].astype(np.int64), topk_row=rows, arithmetic="f64")
    m.run("compare", **judged)
    m.write_selection(tmp_path / "s", right, trace=trace, arithmetic="f64")
    m.run("compare", **judged)
    m.write_selection(
        tmp_path / "s",
        np.where(np.arange(8) == 3, np.setdiff1d(np.arange(20), right[7])[0], right[rows]),
        topk_row=rows,
        arithmetic="f64",
    )
    with pytest.raises(m.ProgramError) as caught:
        m.run("compare", **judged)
    assert caught.value.id == "MP-E610"
    (case,) = caught.value.result["cases"]
    assert case["choices"][0]["missed"] + case["choices"][0]["violated"] >= 1


def test_raw_files_of_other_writers_are_read(tmp_path):
    arrays, metadata = contiguous(13)
    raw_write(
        tmp_path / "t", {**arrays, "ks": arrays["ks"].astype(np.int64), "out.scores": np.zeros(3, "f4")}, metadata
    )
    assert m.read_trace(tmp_path / "t").ks.dtype == "I32"
