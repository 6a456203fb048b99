"""What misa-prof refuses is refused before a file is written, with the same id."""

import misa_trace as m
import numpy as np
import pytest
from drawn import contiguous, paged, raw_write


def changed(name, index, value):
    def change(arrays, metadata):
        tensor = m.tensor_of(arrays[name], name)
        data = tensor.data.copy()
        data[index] = value
        arrays[name] = m.Tensor(tensor.dtype, data)

    return change


def put(**more):
    return lambda arrays, metadata: arrays.update({name: array(arrays) for name, array in more.items()})


def without(name):
    return lambda arrays, metadata: arrays.pop(name)


def said(**more):
    return lambda arrays, metadata: metadata.update(more)


def cut(name, *index):
    return lambda arrays, metadata: arrays.update({name: m.tensor_of(arrays[name])[index]})


def topk(change, row=4, **more):
    """Tokens of all rows, as the formula has them, changed."""

    def apply(arrays, metadata):
        right = m.make_trace(metadata, **arrays).select()
        arrays["topk"] = change(right, row)
        arrays.update({name: np.asarray(value) for name, value in more.items()})

    return apply


def set_to(column, value):
    def change(ids, row):
        ids = ids.copy()
        ids[row, column] = value
        return ids

    return change


def as_ue8m0(arrays, metadata):
    scales = np.full(len(arrays["k_scale"]) * 4, 120, np.uint8)
    scales[2] = 119
    arrays["k_scale"] = scales.view(np.float32)
    metadata["k_scale_format"] = "ue8m0x4"


def page_scale(value):
    def change(arrays, metadata):
        values, scales = m.split_pages(arrays["k_pages"])
        scales = scales.copy()
        scales[arrays["block_table"][0, 0], 1] = value
        arrays["k_pages"] = m.join_pages(values, scales)

    return change


def needle(*numbers):
    return put(needle=lambda arrays: np.array([numbers], np.int32))


CONTIGUOUS = {
    "unknown tensor": ("MP-E204", put(weight=lambda arrays: arrays["weights"])),
    "no weights": ("MP-E205", without("weights")),
    "no scales of FP8 keys": ("MP-E205", without("k_scale")),
    "no keys": ("MP-E205", without("k")),
    "keys of unsigned bytes": ("MP-E560", put(k=lambda arrays: arrays["k"].data)),
    "FNUZ queries": ("MP-E207", put(q=lambda arrays: m.Tensor("F8_E4M3FNUZ", arrays["q"].data))),
    "FNUZ in words": ("MP-E207", said(k_quant="e4m3FNUZ")),
    "weights of other rows": ("MP-E208", cut("weights", slice(1, None))),
    "weights of other heads": ("MP-E208", cut("weights", slice(None), slice(1, None))),
    "windows of other rows": ("MP-E208", cut("ks", slice(1, None))),
    "a shape of two dimensions": ("MP-E208", put(q=lambda arrays: arrays["q"].reshape(-1, 32))),
    "both forms of keys": (
        "MP-E209",
        put(
            k_pages=lambda arrays: np.zeros((2, 4, 36), np.uint8),
            block_table=lambda arrays: np.zeros((1, 1), np.int32),
            seq_lens=lambda arrays: np.ones(1, np.int32),
        ),
    ),
    "lengths without pages": ("MP-E209", put(seq_lens=lambda arrays: np.ones(1, np.int32))),
    "scales of bf16 keys": ("MP-E209", put(k=lambda arrays: m.to_bf16(arrays["k"].values()))),
    "rows of no topk": ("MP-E209", put(topk_row=lambda arrays: np.arange(3, dtype=np.int32))),
    "130 heads": (
        "MP-E210",
        put(q=lambda arrays: m.to_e4m3(np.ones((10, 130, 32))), weights=lambda arrays: np.ones((10, 130), np.float32)),
    ),
    "a head dimension of 48": (
        "MP-E211",
        put(q=lambda arrays: m.to_e4m3(np.ones((10, 4, 48))), k=lambda arrays: m.to_e4m3(np.ones((80, 48)))),
    ),
    "no rows": (
        "MP-E212",
        lambda arrays, metadata: [
            cut(name, slice(0, 0))(arrays, metadata) for name in ("q", "weights", "ks", "ke", "q_pos")
        ],
    ),
    "k in words": ("MP-E213", said(index_topk="many")),
    "k below one": ("MP-E213", said(index_topk="0")),
    "heads with a sign": ("MP-E213", said(index_n_heads="+4")),
    "another head dimension": ("MP-E213", said(index_head_dim="64")),
    "unknown provenance": ("MP-E213", said(provenance="a friend")),
    "unknown arithmetic": ("MP-E213", said(topk_arithmetic="fp4")),
    "unknown scales": ("MP-E213", said(k_scale_format="e8m0")),
    "a scale of 0": ("MP-E220", changed("k_scale", 0, 0)),
    "a scale below 0": ("MP-E220", changed("k_scale", 0, -1)),
    "a scale of infinity": ("MP-E220", changed("k_scale", 0, np.inf)),
    "UE8M0 bytes that differ": ("MP-E254", as_ue8m0),
    "an FP8 NaN in q": ("MP-E221", changed("q", (3, 2, 1), 0xFF)),
    "an FP8 NaN in k": ("MP-E221", changed("k", (0, 3), 0x7F)),
    "a weight of NaN": ("MP-E222", changed("weights", (2, 1), np.nan)),
    "a query scale of 0": ("MP-E223", put(q_scale=lambda arrays: np.zeros((10, 4), np.float32))),
    "a norm below 0": ("MP-E223", put(q_norm=lambda arrays: np.full((10, 4), -1, np.float32))),
    "a window before the keys": ("MP-E230", changed("ks", 0, -1)),
    "a window behind the keys": (
        "MP-E230",
        lambda arrays, metadata: [changed(name, 9, 90)(arrays, metadata) for name in ("ks", "ke")],
    ),
    "a window that ends behind the keys": (
        "MP-E230",
        lambda arrays, metadata: [
            changed(name, 9, value)(arrays, metadata) for name, value in (("ke", 81), ("q_pos", 50))
        ],
    ),
    "an empty window": ("MP-E231", changed("ke", 9, 30)),
    "a window that runs backwards": ("MP-E231", changed("ke", 9, 20)),
    "a position of another sequence": ("MP-E232", changed("q_pos", 9, 3)),
    "a position below 0": ("MP-E232", changed("q_pos", 9, -3)),
    "a token twice": ("MP-E240", topk(lambda ids, row: np.tile(np.arange(1), (len(ids), 2)).astype(np.int32))),
    "a token of no sequence": ("MP-E241", topk(set_to(0, 80))),
    "a token below 0": ("MP-E241", topk(set_to(0, -2))),
    "a token that is not causal": ("MP-E242", topk(lambda ids, row: np.full((len(ids), 1), 29, np.int32))),
    "a token behind a pad": ("MP-E243", topk(lambda ids, row: np.tile(np.array([-1, 0], np.int32), (len(ids), 1)))),
    "a row twice": ("MP-E244", topk(lambda ids, row: ids[:2], topk_row=np.array([3, 3], np.int32))),
    "a row of none": ("MP-E244", topk(lambda ids, row: ids[:2], topk_row=np.array([3, 10], np.int32))),
    "fewer rows than queries": ("MP-E208", topk(lambda ids, row: ids[:2])),
    "more tokens than k": (
        "MP-E247",
        lambda arrays, metadata: [topk(lambda ids, row: ids)(arrays, metadata), metadata.update(index_topk="7")],
    ),
    "a candidate that is not causal": ("MP-E242", put(candidates=lambda arrays: np.full((10, 1), 51, np.int32))),
    "candidates that do not ascend": (
        "MP-E251",
        put(candidates=lambda a: np.where((a["ke"] - a["ks"])[:, None] > 1, [[1, 0]], [[0, -1]]).astype(np.int32)),
    ),
    "a length of runs without candidates": ("MP-E566", lambda arrays, metadata: metadata.update(candidate_length="8")),
    "mass below 0": ("MP-E246", put(attention_mass=lambda arrays: np.full((10, 80), -1, np.float16))),
    "mass of other keys": ("MP-E208", put(attention_mass=lambda arrays: np.ones((10, 81), np.float16))),
    "a needle outside": ("MP-E245", needle(79, 2, 3, 4)),
    "a needle of nothing": ("MP-E245", needle(7, 0, 3, 4)),
    "a question outside": ("MP-E245", needle(7, 2, 79, 2)),
    "an answer outside its needle": ("MP-E245", needle(7, 2, 20, 2, 6, 1)),
    "a needle of five numbers": ("MP-E208", needle(7, 2, 20, 2, 6)),
}


def mxfp4(seed):
    return contiguous(seed, q_dtype="F4", k_dtype="F4", dim=64)


def mxfp4_pages(seed):
    return paged(seed, dtype="F4", dim=64)


def block_scale(name, *index, value=255):
    def change(arrays, metadata):
        words = arrays[name].data.copy()
        words.view(np.uint8)[index] = value
        arrays[name] = m.Tensor("I32", words)

    return change


def fp8_keys(arrays, metadata):
    arrays["k"] = m.to_e4m3(np.ones((80, 64)))
    arrays["k_scale"] = np.ones(80, np.float32)
    del arrays["k_block_scale"]


MXFP4 = {
    "no scales of the queries": ("MP-E560", without("q_block_scale")),
    "no scales of the keys": ("MP-E560", without("k_block_scale")),
    "scales of bf16 queries": ("MP-E560", put(q=lambda arrays: m.to_bf16(np.ones((10, 4, 64))))),
    "FP8 keys": ("MP-E561", fp8_keys),
    "a scale of each key besides": ("MP-E209", put(k_scale=lambda arrays: np.ones(80, np.float32))),
    "a scale that is NaN": ("MP-E562", block_scale("q_block_scale", 3, 1, 1)),
    "a key's scale that is NaN": ("MP-E562", block_scale("k_block_scale", 0, 0)),
    "numbers above f32": ("MP-E562", block_scale("k_block_scale", 0, 1, value=254)),
    "scales of other keys": ("MP-E208", cut("k_block_scale", slice(1, None))),
    "scales in f32": ("MP-E206", put(q_block_scale=lambda arrays: np.ones((10, 4, 1), np.float32))),
    "scales of one byte that fill no words": (
        "MP-E208",
        put(k_block_scale=lambda arrays: np.ones((80, 2), np.uint8)),
    ),
}
MXFP4_PAGES = {
    "pages of FP8": ("MP-E561", put(k_pages=lambda arrays: np.full((len(arrays["k_pages"]), 4, 68), 0x3C, np.uint8))),
    "pages of another dtype": ("MP-E213", said(k_pages_dtype="INT4")),
    "pages of another width": ("MP-E208", cut("k_pages", slice(None), slice(None), slice(1, None))),
}
PAGED = {
    "no table": ("MP-E205", without("block_table")),
    "no lengths": ("MP-E205", without("seq_lens")),
    "scales beside pages": ("MP-E209", put(k_scale=lambda arrays: np.ones(3, np.float32))),
    "pages of another width": ("MP-E208", cut("k_pages", slice(None), slice(None), slice(1, None))),
    "an FP8 NaN in a page": (
        "MP-E221",
        lambda arrays, metadata: changed("k_pages", (arrays["block_table"][1, 0], 0, 5), 0x7F)(arrays, metadata),
    ),
    "a scale of 0": ("MP-E220", page_scale(0)),
    "a scale of NaN": ("MP-E220", page_scale(np.nan)),
    "a scale out of proportion": ("MP-E253", page_scale(2.0**40)),
    "another key count": ("MP-E233", put(ke=lambda arrays: np.array([12, 13, 8, 8], np.int32))),
    "a page of none": ("MP-E234", changed("block_table", (1, 2), 13)),
    "a page below 0": ("MP-E234", changed("block_table", (1, 2), -1)),
    "a length behind the pages": ("MP-E235", changed("seq_lens", 0, 21)),
    "a length below 0": ("MP-E235", changed("seq_lens", 0, -1)),
    "rows of no sequence": (
        "MP-E236",
        lambda arrays, metadata: [cut(name, slice(1, None))(arrays, metadata) for name in ("q", "weights")],
    ),
    "a token that its row does not see": ("MP-E242", topk(lambda ids, row: np.full((len(ids), 1), 12, np.int32))),
}
FAULTS = [
    (draw, name, *fault)
    for draw, faults in ((contiguous, CONTIGUOUS), (paged, PAGED), (mxfp4, MXFP4), (mxfp4_pages, MXFP4_PAGES))
    for name, fault in faults.items()
]


@pytest.mark.parametrize("draw,name,id,change", FAULTS, ids=[f"{f[0].__name__}: {f[1]}" for f in FAULTS])
def test_a_fault_is_refused_with_the_programs_id(tmp_path, program, draw, name, id, change):
    arrays, metadata = draw(21)
    m.make_trace(metadata, **arrays)  # without the fault it is right
    change(arrays, metadata)
    path = tmp_path / "t.safetensors"
    with pytest.raises((m.TraceError, TypeError)) as caught:
        m.write_trace(path, metadata=metadata, **{"q": None, "weights": None, **arrays})
    if name != "unknown tensor":
        assert caught.value.id == id, caught.value
        assert caught.value.what and caught.value.where and caught.value.how
    assert list(tmp_path.iterdir()) == []
    raw_write(path, arrays, metadata)
    with pytest.raises(m.ProgramError) as program_error:
        m.run("inspect", path, binary=program)
    assert program_error.value.id == id and program_error.value.status == 3
    with pytest.raises(m.TraceError) as caught:
        m.read_trace(path)
    assert caught.value.id == id


def test_what_no_row_sees_may_hold_anything(tmp_path, program):
    arrays, metadata = contiguous(22)
    unseen = int(arrays["ke"][4])  # the first sequence's last row does not see all of it
    assert unseen < 30
    changed("k", (unseen, 0), 0x7F)(arrays, metadata)
    changed("k_scale", unseen, np.nan)(arrays, metadata)
    m.write_trace(tmp_path / "t", metadata=metadata, **arrays)
    m.run("inspect", tmp_path / "t", binary=program)
    arrays, metadata = paged(22)
    changed("block_table", (0, 4), -7)(arrays, metadata)
    changed("k_pages", arrays["block_table"][1, 3], 0xFF)(arrays, metadata)
    m.write_trace(tmp_path / "p", metadata=metadata, **arrays)
    m.run("inspect", tmp_path / "p", binary=program)


def test_ue8m0_scales_are_taken_as_the_program_takes_them(tmp_path, program):
    arrays, metadata = contiguous(23)
    codes = np.random.default_rng(1).integers(115, 125, 80).astype(np.uint8)
    numbers = m.make_trace(metadata, **{**arrays, "k_scale": 2.0 ** (codes.astype(np.float32) - 127)})
    for more in ({}, {"k_scale_format": "ue8m0x4"}):
        four = {**arrays, "k_scale": np.repeat(codes, 4).view(np.float32)}
        trace = m.write_trace(tmp_path / "t", metadata={**metadata, **more}, **four)
        assert np.array_equal(trace.select(), numbers.select())
        warned = "warnings" in m.run("inspect", tmp_path / "t", binary=program)
        assert warned == (not more)
    m.write_trace(tmp_path / "e", metadata=metadata, **{**arrays, "k_scale": m.Tensor("F8_E8M0", codes)})
    read = m.read_trace(tmp_path / "e")
    assert read.k_scale.dtype == "F8_E8M0" and np.array_equal(read.select(), numbers.select())
    m.run("inspect", tmp_path / "e", binary=program)


def test_the_names_of_arithmetics_are_the_programs(tmp_path, program):
    from misa_trace.schema import ARITHMETICS, PROVENANCES

    arrays, metadata = contiguous(24)
    raw_write(tmp_path / "t", arrays, {**metadata, "topk_arithmetic": "none"})
    with pytest.raises(m.ProgramError) as caught:
        m.run("inspect", tmp_path / "t", binary=program)
    assert caught.value.message.rsplit("try: ", 1)[1] == ", ".join(ARITHMETICS) + ", or no such key"
    raw_write(tmp_path / "t", arrays, {**metadata, "provenance": "none"})
    with pytest.raises(m.ProgramError) as caught:
        m.run("inspect", tmp_path / "t", binary=program)
    assert caught.value.message.rsplit("try: ", 1)[1] == ", ".join(PROVENANCES)


SELECTIONS = {
    "MP-E242": lambda ids, ks, ke: (np.full_like(ids, 60), ks, ke, {}),
    "MP-E240": lambda ids, ks, ke: (np.zeros_like(ids), ks, ke, {}),
    "MP-E241": lambda ids, ks, ke: (ids - 2, ks, ke, {}),
    "MP-E252": lambda ids, ks, ke: (ids[1:], ks, ke, {}),
    "MP-E230": lambda ids, ks, ke: (ids, ks - 1, ke, {}),
    "MP-E231": lambda ids, ks, ke: (ids, ks, ke - 70, {}),
    "MP-E250": lambda ids, ks, ke: (None, ks, ke, {}),
    "MP-E205": lambda ids, ks, ke: (ids, ks, None, {}),
    "MP-E213": lambda ids, ks, ke: (ids, ks, ke, {"arithmetic": "fp4"}),
}


@pytest.mark.parametrize("id", SELECTIONS)
def test_a_wrong_selection_is_refused(tmp_path, id):
    arrays, metadata = contiguous(25)
    right = m.make_trace(metadata, **arrays).select()
    ids, ks, ke, more = SELECTIONS[id](right, arrays["ks"], arrays["ke"])
    with pytest.raises(m.TraceError) as caught:
        m.write_selection(tmp_path / "s", ids, ks=ks, ke=ke, **more)
    assert caught.value.id == id and list(tmp_path.iterdir()) == []


FILES = {
    "MP-E110": lambda data: data[:7],
    "MP-E113": lambda data: data[:-1],
    "MP-E116": lambda data: data + b"\0",
    "MP-E124": lambda data: data.replace(b'"index_topk":"8"', b'"index_topk": 8 '),
    "MP-E130": lambda data: data.replace(b'"F8_E4M3"', b'"F8_E4M4"'),
    "MP-E201": lambda data: data.replace(b"misa-trace/1", b"misa-truce/1"),
    "MP-E202": lambda data: data.replace(b"misa-trace/1", b"misa-trace/2"),
}


@pytest.mark.parametrize("id", FILES)
def test_a_broken_file_is_refused_with_the_programs_id(tmp_path, program, id):
    arrays, metadata = contiguous(26)
    path = tmp_path / "t.safetensors"
    m.write_trace(path, metadata=metadata, **arrays)
    path.write_bytes(FILES[id](path.read_bytes()))
    with pytest.raises(m.TraceError) as caught:
        m.read_trace(path)
    assert caught.value.id == id
    with pytest.raises(m.ProgramError) as program_error:
        m.run("inspect", path, binary=program)
    assert program_error.value.id == id


def test_a_missing_program_is_said(monkeypatch):
    monkeypatch.setenv("MISA_PROF", "no-such-misa-prof")
    with pytest.raises(m.ProgramError, match="there is no program 'no-such-misa-prof'.*MISA_PROF"):
        m.run("list")


def test_results_are_dictionaries_and_options_keywords(program):
    assert m.run("list", names="indexers", binary=program)["text"].split()[0] == "dsa"
    result = m.run(
        "profile",
        model="tiny",
        workload="ci",
        samples=1,
        indexer=["dsa", "misa"],
        no_fusion=True,
        top_k=None,
        binary=program,
    )
    assert [case["indexer"] for case in result["cases"]] == ["dsa", "misa"]
    with pytest.raises(m.ProgramError) as caught:
        m.run("profile", model="tiny", workload="ci", indexer="dsaa", binary=program)
    assert (caught.value.id, caught.value.status) == ("MP-E010", 2) and "dsa" in caught.value.message
