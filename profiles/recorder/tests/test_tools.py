"""Parts and forms of a trace give the same scores; an anonymised one gives the same ranks and ties."""

import subprocess
import sys
from pathlib import Path

import misa_trace as m
import numpy as np
import pytest
from drawn import contiguous, paged
from misa_trace.__main__ import main

EVERY = {
    "FP8 keys": lambda seed: contiguous(seed, lengths=(30, 50, 20)),
    "bf16 keys": lambda seed: contiguous(seed, k_dtype="BF16", q_dtype="BF16"),
    "f32 keys": lambda seed: contiguous(seed, k_dtype="F32"),
    "MXFP4 keys": lambda seed: contiguous(seed, k_dtype="F4", q_dtype="F4", dim=64),
    "INT8 keys": lambda seed: contiguous(seed, k_dtype="I8", q_dtype="I8"),
    "MXFP4 pages": lambda seed: paged(seed, dtype="F4", dim=64, lengths=(13, 1, 9)),
    "INT8 pages": lambda seed: paged(seed, dtype="I8", lengths=(13, 1, 9)),
    "FP8 pages": lambda seed: paged(seed, lengths=(13, 1, 9)),
    "bf16 pages": lambda seed: paged(seed, dtype="BF16", lengths=(13, 9, 6, 15, 2), next_n=1),
    "entries": lambda seed: contiguous(seed, lengths=(10, 20), ratio=2),
    "pages of entries": lambda seed: paged(seed, lengths=(26, 2, 19), page_size=2, ratio=2),
}


def whole(name, seed=31):
    """A trace with every optional tensor."""
    arrays, metadata = EVERY[name](seed)
    trace = m.make_trace(metadata, **arrays)
    draw = np.random.default_rng(seed)
    shape = (trace.rows, trace.heads)
    rows = np.array([trace.rows - 1, 0, 2])
    first = "ks" in arrays and int(trace.windows()[0][0])
    return m.make_trace(
        {**metadata, "index_n_heads": trace.heads, "model": "secret", "topk_arithmetic": "f64"},
        **arrays,
        topk=trace.select()[rows],
        topk_row=rows,
        q_scale=draw.uniform(1, 2, shape).astype("f4"),
        q_norm=draw.uniform(1, 2, shape).astype("f4"),
        attention_mass=draw.uniform(0, 1, (2, trace.tokens)),
        attention_mass_row=[1, 0],
        needle=[[first + 1, 2, 3, 1, first + 1, 1]],
        **{"x.mine": np.arange(3)},
    )


def same_scores(a, b, rows_a, rows_b, first=0):
    for i, j in zip(rows_a, rows_b):
        assert np.array_equal(a.scores(i)[first:], b.scores(j)), (i, j)


def recorded(trace):
    """Query row -> its recorded tokens, of all rows that have some."""
    rows = trace.topk_row.data if trace.topk_row is not None else range(trace.rows)
    return {int(row): set(ids.tolist()) - {-1} for row, ids in zip(rows, trace.topk.data)}


@pytest.mark.parametrize("name", EVERY)
def test_rows_of_a_trace_score_as_before(name):
    trace = whole(name)
    rows = np.array([trace.rows - 1, 0, 3])
    part = m.slice_trace(trace, rows=rows)
    assert part.rows == 3
    same_scores(trace, part, rows, range(3))
    assert recorded(part) == {0: recorded(trace)[trace.rows - 1], 1: recorded(trace)[0]}
    assert part.attention_mass_row.data.tolist() == [1]
    before, after = (t.k_pages if t.paged else t.k for t in (trace, part))
    assert after.nbytes < before.nbytes


def test_whole_sequences_stay_together():
    trace = whole("FP8 pages")
    part = m.slice_trace(trace, rows=[4, 5])
    assert part.next_n == 2 and part.seq_lens.data.tolist() == [9]
    same_scores(trace, part, [4, 5], [0, 1])
    assert m.slice_trace(trace, rows=[1, 3]).next_n == 1


@pytest.mark.parametrize("name", EVERY)
def test_heads_of_a_trace_lose_its_topk(name):
    trace = whole(name)
    part = m.slice_trace(trace, heads=[3, 1])
    assert part.heads == 2 and part.metadata["index_n_heads"] == "2" and part.topk is None
    assert np.array_equal(part.q.data, trace.q.data[:, [3, 1]])
    assert np.array_equal(part.q_norm.data, trace.q_norm.data[:, [3, 1]])


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("first,end", [(0, 9), (4, 12), (8, 99)])
def test_tokens_of_a_trace_are_those_of_every_sequence(name, first, end):
    trace = whole(name)
    position = trace.positions()
    there = np.flatnonzero((position >= first) & (position < end))
    if len(there) == 0:
        with pytest.raises(m.TraceError, match="MP-E212: no row stands"):
            m.slice_trace(trace, tokens=(first, end))
        return
    part = m.slice_trace(trace, tokens=(first, end))
    assert part.rows == len(there)
    same_scores(trace, part, there, range(part.rows), first // trace.compress_ratio)
    assert (part.positions() == position[there] - first).all()
    assert (part.topk is None) == (first > 0 or not set(there) & set(trace.topk_row.data.tolist()))
    if part.topk is None:
        assert part.metadata["index_topk"] == trace.metadata["index_topk"]


@pytest.mark.parametrize("name", EVERY)
def test_the_other_form_scores_alike_and_back_again(name):
    trace = whole(name)
    other = m.contiguous(trace) if trace.paged else m.paged(trace, 8)
    assert other.paged != trace.paged
    seen = np.flatnonzero(trace.positions() >= 0).tolist()
    assert other.compress_ratio == trace.compress_ratio
    same_scores(trace, other, seen, range(other.rows))
    assert {seen.index(row): ids for row, ids in recorded(trace).items() if row in seen} == recorded(other)
    again = m.paged(other, 8) if trace.paged else m.contiguous(other)
    same_scores(trace, again, seen, range(again.rows))
    for row, mass in zip(other.attention_mass_row.data, other.attention_mass.data):
        place = trace.attention_mass_row.data.tolist().index(seen[int(row)])
        ours, theirs = (t.windows()[0][r] for t, r in ((trace, seen[int(row)]), (other, int(row))))
        length = len(trace.scores(seen[int(row)]))
        before = trace.attention_mass.data[place]
        assert np.array_equal(mass[theirs : theirs + length], before[ours : ours + length])


def test_sequences_that_share_pages_share_keys():
    arrays, metadata = contiguous(32, lengths=(30, 50))
    trace = m.make_trace(metadata, **arrays)
    back = m.contiguous(m.paged(trace, 8))
    ks, ke = trace.windows()
    assert back.tokens == sum(ke[ks == start].max() - start for start in np.unique(ks))
    assert len(np.unique(back.ks.data)) == 2
    arrays, metadata = paged(32, lengths=(13, 9), next_n=1)
    arrays["block_table"][1, :2] = arrays["block_table"][0, :2]  # page 2 of the second is its own
    other = m.contiguous(m.make_trace(metadata, **arrays))
    assert other.tokens == 13 + 9
    same_scores(m.make_trace(metadata, **arrays), other, range(2), range(2))


def test_a_trace_whose_rows_see_nothing_stays_whole():
    arrays, metadata = paged(34, lengths=(0, 0), next_n=1)
    arrays["block_table"][:] = -9
    for trace in (
        m.slice_trace(m.make_trace(metadata, **arrays), rows=[1]),
        m.anonymise(m.make_trace(metadata, **arrays)),
    ):
        assert trace.scores(0).size == 0 and len(trace.k_pages) == 1
    with pytest.raises(m.TraceError, match="MP-E231: no row sees a token"):
        m.contiguous(m.make_trace(metadata, **arrays))


def test_unseen_sequences_between_seen_ones_are_left_out_and_needles_move():
    trace = whole("FP8 keys")
    arrays = dict(trace.tensors())
    arrays["needle"] = [[81, 2, 3, 1], [31, 2, 3, 1], [1, 2, 4, 1]]
    trace = m.make_trace(trace.metadata, **arrays)
    ks, ke = trace.windows()
    rows = [row for row in range(trace.rows) if ks[row] != 30]
    part = m.slice_trace(trace, rows=rows)
    same_scores(trace, part, rows, range(part.rows))
    gone = 50 + 30 - int(ke[ks == 0].max())
    assert ke[ks == 80].max() >= 83 and gone > 50
    assert part.needle.data.tolist() == [[81 - gone, 2, 3, 1], [1, 2, 4, 1]]
    assert part.tokens == int(ke[ks == 0].max() + ke[ks == 80].max() - 80)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("seed", range(5))
def test_an_anonymised_trace_keeps_products_ranks_ties_and_topk(name, seed):
    trace = whole(name)
    mixed = m.anonymise(trace, seed)
    draw = np.random.default_rng(seed)
    order = draw.permutation(trace.heads)  # the first draw
    for row in range(trace.rows):
        before = trace.keys(row) @ trace.q[row].values().astype(float).T
        after = mixed.keys(row) @ mixed.q[row].values().astype(float).T
        if trace.q.dtype == "F8_E4M3" and name == "FP8 keys":
            assert np.array_equal(before[:, order], after)  # such sums are exact in double
        assert np.allclose(before[:, order], after, rtol=1e-12, atol=1e-12)
        scores = np.round(trace.scores(row), 9), np.round(mixed.scores(row), 9)
        assert np.allclose(*scores, rtol=1e-9, atol=1e-9)
    assert np.array_equal(trace.select(), mixed.select())
    assert recorded(trace) == recorded(mixed)
    assert "model" not in mixed.metadata and mixed.extra == {}


def test_numbers_stay_in_the_groups_that_matrix_units_add():
    arrays, metadata = contiguous(33, dim=64, rows_of_each=2, k_dtype="F32", q_dtype="F32")
    arrays["k"] = m.Tensor("F32", np.tile(np.arange(1, 65, dtype="f4"), (80, 1)))
    mixed = m.anonymise(m.make_trace(metadata, **arrays), 1).k.data
    sizes = np.abs(mixed[0]).reshape(4, 16)
    assert np.array_equal(np.sort(sizes, axis=1), np.arange(1, 65).reshape(4, 16))
    assert not np.array_equal(sizes, np.arange(1, 65).reshape(4, 16)) and (mixed[0] < 0).any()


@pytest.mark.parametrize("name", ["FP8 keys", "FP8 pages"])
def test_what_nobody_sees_is_not_given_away(name):
    trace = whole(name)
    mixed = m.anonymise(trace)
    if trace.paged:
        used = -(-trace.seq_lens.data // trace.page_size)
        assert len(mixed.k_pages) == used.sum() < len(trace.k_pages)
        values, _ = m.split_pages(mixed.k_pages)
        last = mixed.block_table.data[0, 3]  # 13 tokens in pages of 4
        assert not values.data[last, 1:].any() and values.data[last, 0].any()
    else:
        ks, ke = trace.windows()
        assert mixed.tokens == sum(ke[ks == start].max() - start for start in np.unique(ks)) < trace.tokens
    assert not np.array_equal(mixed.q.data, m.anonymise(trace).q.data)  # two draws


@pytest.mark.parametrize("name", EVERY)
def test_the_tools_run_from_the_command_line_and_the_program_reads_what_they_write(tmp_path, program, capsys, name):
    path, out = tmp_path / "t.safetensors", tmp_path / "o.safetensors"
    trace = whole(name)
    m.save_trace(path, trace)
    for words in (
        ["slice", "--rows", "0:2,-1"],
        ["slice", "--heads", "1,0", "--tokens", ":12"],
        ["convert", "--keys", "contiguous"],
        ["convert", "--keys", "paged", "--page-size", "16"],
        ["convert"],
        ["anonymise"],
    ):
        assert main([words[0], str(path), str(out), *words[1:]]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"{out}: ") and " rows, " in shown
        facts = m.run("inspect", out, binary=program)
        assert f"{facts['rows']['rows']} rows" in shown
        m.run("compare", trace=out, indexer="dsa", binary=program)
    assert main(["show", str(path)]) == 0
    assert "model" in capsys.readouterr().out


def test_wrong_words_are_refused(tmp_path, capsys):
    path, out = tmp_path / "t.safetensors", tmp_path / "o.safetensors"
    m.save_trace(path, whole("FP8 keys"))
    for words in (
        ["--rows", "15"],
        ["--rows", "1,1"],
        ["--rows", "a"],
        ["--heads", "9:"],
        ["--tokens", "x"],
        ["--tokens", "5:5"],
        ["--rows", "0::0"],
    ):
        assert main(["slice", str(path), str(out), *words]) == 3
        assert "misa_trace: error: MP-E2" in capsys.readouterr().err
    assert main(["show", str(tmp_path / "none")]) == 3
    with pytest.raises(SystemExit) as caught:
        main(["turn", "x"])
    assert caught.value.code == 2
    assert not out.exists()
    with pytest.raises(m.TraceError, match="MP-E230: token 3 does not begin a page"):
        m.slice_trace(whole("FP8 pages"), tokens=(3, 9))
    with pytest.raises(m.TraceError, match="MP-E212: pages of 0"):
        m.paged(whole("FP8 keys"), 0)


def test_an_input_is_not_overwritten(tmp_path, capsys):
    path = tmp_path / "trace.safetensors"
    path.write_bytes(b"anything")
    with pytest.raises(SystemExit) as ended:
        main(["slice", str(path), str(path), "--rows", "0"])
    assert ended.value.code == 2 and "would be overwritten" in capsys.readouterr().err
    assert path.read_bytes() == b"anything"


def test_a_reader_that_closes_the_pipe_is_no_error(tmp_path):
    path = tmp_path / "trace.safetensors"
    m.save_trace(path, whole("FP8 keys"))
    running = subprocess.Popen(
        [sys.executable, "-m", "misa_trace", "show", str(path)],
        cwd=Path(m.__file__).parent.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    running.stdout.close()
    assert (running.wait(timeout=60), running.stderr.read()) == (0, b"")
