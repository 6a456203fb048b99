"""Workloads of FlashInfer-Bench become traces and traces become workloads."""

import json

import misa_trace as m
import numpy as np
import pytest
from drawn import contiguous, paged
from misa_trace.__main__ import main

NAME = "dsa_topk_indexer_fp8_h64_d128_topk2048_ps64"


def public_workload(folder, name=NAME, batch=3, heads=64, dim=128):
    """A data set such as the public one: lengths and tables are stored, all other inputs are random."""
    draw = np.random.default_rng(3)
    lengths = np.array([5, 130, 70], np.int32)
    table = draw.permutation(9)[: batch * 3].reshape(batch, 3).astype(np.int32)
    blob = f"blob/workloads/dsa_paged/{name}/{name}_abc.safetensors"
    (folder / blob).parent.mkdir(parents=True)
    m.write_file(folder / blob, {}, {"seq_lens": m.tensor_of(lengths), "block_table": m.tensor_of(table)})
    stored = {
        key: {"type": "safetensors", "path": "./" + blob, "tensor_key": key} for key in ("seq_lens", "block_table")
    }
    random = {key: {"type": "random"} for key in ("q_index_fp8", "k_index_cache_fp8", "weights")}
    line = {
        "definition": name,
        "solution": None,
        "workload": {
            "uuid": "abc-1",
            "axes": {"batch_size": batch, "max_num_pages": 3, "num_pages": 9},
            "inputs": {**random, **stored},
        },
        "evaluation": None,
    }
    listed = folder / "workloads/dsa_paged" / (name + ".jsonl")
    listed.parent.mkdir(parents=True)
    other = {**line, "workload": {**line["workload"], "uuid": "abd-2"}}
    listed.write_text(json.dumps(line) + "\n\n" + json.dumps(other) + "\n", encoding="utf-8")
    return listed, lengths, table


def test_a_public_workload_gets_drawn_values_only_when_asked(tmp_path, program):
    listed, lengths, table = public_workload(tmp_path)
    with pytest.raises(m.TraceError, match="MP-E205: the input 'q_index_fp8' is random.*seed="):
        m.import_workload(listed, "abc")
    trace = m.import_workload(listed, "abc", seed=5)
    assert np.array_equal(trace.seq_lens.data, lengths) and np.array_equal(trace.block_table.data, table)
    assert (trace.heads, trace.head_dim, trace.page_size, trace.top_k) == (64, 128, 64, 2048)
    assert trace.metadata["provenance"] == "synthetic" and "seed 5" in trace.metadata["drawn"]
    assert np.array_equal(trace.q.data, m.import_workload(listed, "abc", seed=5).q.data)
    assert not np.array_equal(trace.q.data, m.import_workload(listed, "abc", seed=6).q.data)
    m.save_trace(tmp_path / "t", trace)
    m.run("compare", trace=tmp_path / "t", indexer="dsa", top_k=32, binary=program)


def reference(tensors, top_k):
    """The output of such a workload by its definition, a token at a time: physical tokens of the best scores."""

    def number(code):
        code = int(code) & 255
        sign, exponent, mantissa = -1 if code & 128 else 1, code >> 3 & 15, code & 7
        return sign * (mantissa / 8 * 2**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7))

    decode = np.vectorize(number, otypes=[float])
    cache = tensors["k_index_cache_fp8"].data
    pages, size, _, width = cache.shape
    dim = width - 4
    out = np.full((len(tensors["q_index_fp8"].data), top_k), -1, np.int32)
    for row, query in enumerate(decode(tensors["q_index_fp8"].data)):
        scores = {}
        for token in range(tensors["seq_lens"].data[row]):
            page = tensors["block_table"].data[row, token // size]
            raw, slot = cache[page].reshape(-1), token % size
            key = decode(raw[slot * dim : (slot + 1) * dim])
            scale = raw[size * dim + 4 * slot : size * dim + 4 * slot + 4].copy().view("<f4")[0]
            products = np.maximum(query @ (key * float(scale)), 0)
            scores[int(page) * size + slot] = float(products @ tensors["weights"].data[row].astype(float))
        best = sorted(scores, key=scores.get, reverse=True)[:top_k]
        out[row, : len(best)] = best
    return out


@pytest.mark.parametrize("form", ["paged", "contiguous"])
def test_a_trace_goes_there_and_comes_back_with_what_was_selected(tmp_path, program, form):
    arrays, metadata = paged(41, page_size=64, lengths=(150, 70), next_n=2) if form == "paged" else contiguous(41)
    trace = m.make_trace(metadata, **arrays)
    trace = m.make_trace(metadata, topk=trace.select(), **arrays)
    m.save_trace(tmp_path / "t.safetensors", trace)
    assert main(["export", str(tmp_path / "t.safetensors"), str(tmp_path / "set")]) == 0
    (listed,) = (tmp_path / "set/workloads/dsa_paged").iterdir()
    k = trace.top_k
    assert listed.name == f"dsa_topk_indexer_fp8_h4_d32_topk{k}_ps64.jsonl"
    line = json.loads(listed.read_text(encoding="utf-8"))
    axes = line["workload"]["axes"]
    assert axes["batch_size"] == trace.rows and axes["max_num_pages"] * 64 >= k
    (blob,) = (tmp_path / "set/blob").rglob("*.safetensors")
    _, tensors = m.read_file(blob)
    assert tensors["k_index_cache_fp8"].dtype == "I8"
    assert tensors["k_index_cache_fp8"].shape == (axes["num_pages"], 64, 1, 36)
    chosen = reference(tensors, k)
    assert [set(ids) for ids in chosen.tolist()] == [set(ids) for ids in tensors["topk_indices"].data.tolist()]

    m.write_file(tmp_path / "out.safetensors", {}, {"topk_indices": m.tensor_of(chosen)})
    back = tmp_path / "back.safetensors"
    assert main(["import", str(listed), str(back), "--topk", str(tmp_path / "out.safetensors")]) == 0
    again = m.read_trace(back)
    for row in range(trace.rows):
        assert np.array_equal(again.scores(row), trace.scores(row))
    assert [set(ids) for ids in again.topk.data.tolist()] == [set(ids) for ids in trace.select().tolist()]
    judged = {"trace": back, "indexer": "dsa", "arithmetic": "f64", "binary": program}
    m.run("compare", **judged)

    wrong = chosen.copy()
    row = int(np.argmax(tensors["seq_lens"].data))
    length = int(tensors["seq_lens"].data[row])
    everything = m.physical(np.arange(length)[None].repeat(trace.rows, 0), m.import_workload(listed))[row]
    wrong[row, 0] = next(id for id in everything.tolist() if id not in wrong[row])
    m.write_file(tmp_path / "out.safetensors", {}, {"topk_indices": m.tensor_of(wrong)})
    assert main(["import", str(listed), str(back), "--topk", str(tmp_path / "out.safetensors")]) == 0
    with pytest.raises(m.ProgramError) as caught:
        m.run("compare", **judged)
    assert caught.value.id == "MP-E610"
    # The program takes the output as it is, too.
    m.write_file(tmp_path / "out.safetensors", {}, {"topk_indices": m.tensor_of(chosen)})
    m.save_trace(back, m.import_workload(listed))
    m.run("compare", selection=tmp_path / "out.safetensors", ids="page", **judged)


def test_physical_tokens_of_another_row_are_refused():
    arrays, metadata = paged(42, next_n=1)
    trace = m.make_trace(metadata, **arrays)
    tokens = m.physical(trace.select(), trace)
    assert np.array_equal(m.from_physical(tokens, trace), trace.select())
    with pytest.raises(m.TraceError, match="MP-E241: token .* is not one of the row's 13"):
        m.from_physical(tokens[::-1], trace)
    behind = tokens.copy()
    behind[0, 0] = int(trace.block_table.data[0, 3]) * 4 + 1  # 13 tokens in pages of 4: slot 1 of page 3 is behind
    with pytest.raises(m.TraceError, match="MP-E241"):
        m.from_physical(behind, trace)


def test_what_is_no_workload_of_an_indexer_is_refused(tmp_path):
    listed, _, _ = public_workload(tmp_path)
    with pytest.raises(m.TraceError, match="MP-E205: 2 workloads of 2 are meant.*abc-1, abd-2"):
        m.import_workload(listed)
    with pytest.raises(m.TraceError, match="MP-E205: 0 workloads"):
        m.import_workload(listed, "x")
    with pytest.raises(m.TraceError, match="MP-E101: there is no file 'blob"):
        m.import_workload(listed, "abc", seed=1, root=tmp_path / "workloads")
    text = listed.read_text(encoding="utf-8")
    listed.write_text(text.replace("dsa_topk_indexer_fp8", "gemm"), encoding="utf-8")
    with pytest.raises(m.TraceError, match="MP-E213: the definition is 'gemm"):
        m.import_workload(listed, "abc", seed=1)
    listed.write_text(text.replace('"num_pages": 9', '"num_pages": 8').replace('"batch_size": 3', '"batch_size": 2'))
    with pytest.raises(m.TraceError, match="MP-E208: the shape of 'seq_lens'"):
        m.import_workload(listed, "abc", seed=1)
    listed.write_text(text[:40], encoding="utf-8")
    with pytest.raises(m.TraceError, match="MP-E110: no workload.*line 1"):
        m.import_workload(listed)
    arrays, metadata = contiguous(43, k_dtype="BF16")
    with pytest.raises(m.TraceError, match="MP-E206"):
        m.export_workload(m.make_trace(metadata, **arrays), tmp_path)
