"""vLLM's steps: chunks of prefill and decode of several requests, with the selections that it writes to a buffer."""

import importlib

import pytest

from .wheels import needs

torch = needs("torch")

from .stack_inputs import Drawn, check_selection  # noqa: E402  pylint: disable=wrong-import-position

TOP_K = 6


def step(drawn, prefill=(), decode=None, layer=7, backend="auto", next_n=1, packed=False):
    """One layer of one step. prefill: (lengths, positions) of each chunk; decode: lengths. Returns the ids."""
    indexer = importlib.import_module("vllm.model_executor.layers.sparse_attn_indexer")
    rows = 0 if decode is None else len(decode) * next_n
    chunks = []
    for lengths, positions in prefill:
        keys, scales, begins = drawn.gathered(lengths)
        ks, ke = drawn.windows(begins, positions)
        chunks.append({"token_start": rows, "token_end": rows + len(ks), "k_quant": keys, "k_scale": scales,
                       "cu_seqlen_ks": ks, "cu_seqlen_ke": ke})
        rows += len(ks)
    state = None
    if decode is not None:
        drawn.fill(decode)
        state = {"batch": len(decode), "next_n": next_n, "block_table": drawn.table,
                 "seq_lens": torch.tensor(decode, dtype=torch.int32).unsqueeze(-1)}
        if next_n > 1:
            state["seq_lens"] = state["seq_lens"] - next_n + 1 + torch.arange(next_n, dtype=torch.int32)
    q, weights = drawn.queries(rows)
    buffer = torch.empty(rows, TOP_K + 2, dtype=torch.int32)
    return indexer.sparse_attn_indexer(f"model.layers.{layer}.self_attn.indexer.k_cache", drawn.cache, q, weights,
                                       chunks, state, TOP_K, 64, buffer, backend, packed)[:, :TOP_K]


def test_chunks_of_prefill_with_their_selections(recording):
    traces = recording()
    ids = step(Drawn([9, 20]), prefill=[([9, 10], [range(9), range(10)]), ([0, 20], [[], range(10, 20)])])
    trace = traces()["layer7.prefill"]
    assert trace.metadata["layer"] == "7" and trace.metadata["stack"] == "vllm stand-in"
    assert trace.tokens == 9 + 20
    check_selection(trace, ids, TOP_K)


@pytest.mark.parametrize("backend", ["auto", "operation"])
@pytest.mark.parametrize("next_n", [1, 3])
def test_decode_with_its_selection(recording, backend, next_n):
    library = torch.library.Library("_C", "FRAGMENT")
    if not hasattr(torch.ops._C, "persistent_topk"):
        library.define("persistent_topk(Tensor logits, Tensor lens, Tensor(a!) ids, int k, int longest) -> ()")
        library.impl("persistent_topk", _persistent_topk, "CPU")
    traces = recording()
    ids = step(Drawn([9, 20]), decode=[9, 20], backend=backend, next_n=next_n)
    trace = traces()["layer7.decode"]
    assert trace.next_n == next_n
    check_selection(trace, ids, TOP_K)
    library._destroy()


def _persistent_topk(logits, seq_lens, ids, top_k, longest):
    for row, length in enumerate(seq_lens.reshape(-1).tolist()):
        best = torch.topk(logits[row, :length], min(top_k, length)).indices.int()
        ids[row, : len(best)] = best


def test_a_step_of_both_phases_and_sixteen_of_decode(recording):
    traces = recording(CALLS="prefill:8,decode:17")
    drawn = Drawn([30, 40])
    ids = [step(drawn, prefill=[([0, 20], [[], range(20)])], decode=[10, 0])]
    decoded = [ids[0][:1]] + [step(drawn, decode=[11 + n, 21 + n]) for n in range(16)]
    found = traces()
    check_selection(found["layer7.prefill"], ids[0][2:], TOP_K)
    assert found["layer7.decode"].rows == 33
    check_selection(found["layer7.decode"], torch.cat(decoded), TOP_K)


def test_packed_scales_as_on_sm100(recording):
    """Scales are words of four UE8M0 bytes, weights and scores are bf16, and scores are converted before selecting."""
    traces = recording()
    drawn = Drawn([30, 40])
    codes = [torch.randint(120, 124, (len(scales), 1), generator=drawn.draw) for scales in drawn.scales]
    drawn.scales = [code.to(torch.uint8).expand(-1, 4).contiguous().view(torch.int32)[:, 0] for code in codes]
    step(drawn, prefill=[([30, 20], [range(30), range(20)])], decode=[12, 33], packed=True)
    found = traces()
    for phase, rows in (("prefill", 50), ("decode", 2)):
        trace = found["layer7." + phase]
        assert trace.rows == rows and trace.topk is not None and trace.metadata["result_dtype"] == "bfloat16"
    assert torch.equal(torch.from_numpy(found["layer7.prefill"].k_scale.data),
                       2.0 ** (torch.cat([codes[0], codes[1][:20]]).flatten().float() - 127))


def test_every_layer_has_its_traces(recording):
    traces = recording(LAYERS="0,2")
    drawn = Drawn([12])
    for layer in range(4):
        step(drawn, prefill=[([12], [range(12)])], layer=layer)
    assert sorted(traces()) == ["layer0.prefill", "layer2.prefill"]


def test_selections_may_be_left_out(recording):
    traces = recording(TOPK="0")
    step(Drawn([12]), prefill=[([12], [range(12)])])
    assert traces()["layer7.prefill"].topk is None


def test_the_best_tokens_of_another_kind_are_left_out(recording, capsys, monkeypatch):
    traces = recording()
    custom_ops = importlib.import_module("vllm._custom_ops")
    monkeypatch.setattr(custom_ops, "_select", lambda scores, ids, top_k: ids.copy_(torch.arange(len(ids))))
    step(Drawn([40]), prefill=[([40], [range(40)])])
    assert traces()["layer7.prefill"].topk is None
    assert "was left out" in capsys.readouterr().err


def test_hooks_reach_modules_that_were_imported_before(recording):
    importlib.import_module("vllm.model_executor.layers.sparse_attn_indexer")
    traces = recording()
    ids = step(Drawn([12]), prefill=[([12], [range(12)])], decode=[5])
    found = traces()
    assert sorted(found) == ["layer7.decode", "layer7.prefill"]
    check_selection(found["layer7.prefill"], ids[1:], TOP_K)
    assert found["layer7.decode"].rows == 1


def test_the_package_is_a_plugin_of_vllm_and_sglang():
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        points = distribution("misa-trace").entry_points
    except PackageNotFoundError:
        pytest.skip("misa-trace is not installed; scripts/test_recorder.sh installs it")
    found = {point.group: point.load() for point in points if point.group != "console_scripts"}
    from misa_trace.record import install

    assert found == {"vllm.general_plugins": install, "sglang.srt.plugins": install}
