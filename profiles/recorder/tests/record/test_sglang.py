"""SGLang's extend and decode, and selections that its fusion has mapped to slots."""

import importlib

import pytest

from .wheels import needs

torch = needs("torch")

from .stack_inputs import PAGE, Drawn, check_selection  # noqa: E402  pylint: disable=wrong-import-position


def indexer(**options):
    return importlib.import_module("sglang.srt.layers.attention.dsa.dsa_indexer").Indexer(**options)


def metadata_of(**parts):
    return importlib.import_module("sglang.srt.layers.attention.dsa.dsa_indexer").Metadata(parts)


def ragged(own, drawn, lengths, positions, layer_id=3):
    keys, scales, begins = drawn.gathered(lengths)
    ks, ke = drawn.windows(begins, positions)
    q, weights = drawn.queries(len(ks))
    metadata = metadata_of(ks=ks, ke=ke, kv=(keys, scales))
    return own._get_topk_ragged(False, None, layer_id, q, weights.unsqueeze(-1), metadata)


def paged(own, drawn, lengths, layer_id=3, fused=False):
    drawn.fill(lengths)
    q, weights = drawn.queries(len(lengths))
    metadata = metadata_of(cache=drawn.cache.view(len(drawn.cache), -1), page_size=PAGE, page_table=drawn.table,
                           seqlens=torch.tensor(lengths, dtype=torch.int32), fused=fused)
    return own._get_topk_paged(None, layer_id, q, weights.unsqueeze(-1), metadata)


@pytest.mark.parametrize("rows_of_chunk", [7, 100])
def test_extend_in_one_call_and_in_chunks(recording, rows_of_chunk):
    traces = recording(CALLS="prefill:9")
    ids = ragged(indexer(rows_of_chunk=rows_of_chunk), Drawn([30, 40]), [30, 40], [range(20, 30), range(40)])
    trace = traces()["layer3.prefill"]
    assert trace.rows == 50 and trace.metadata["stack"] == "sglang stand-in"
    check_selection(trace, ids, 16)


def test_chunks_beyond_the_calls_that_are_asked_for(recording):
    traces = recording(CALLS="prefill:2")
    ids = ragged(indexer(rows_of_chunk=8), Drawn([40]), [40], [range(40)])
    trace = traces()["layer3.prefill"]
    assert trace.rows == 16
    check_selection(trace, ids[:16], 16)


def test_a_chunk_that_cannot_be_recorded_does_not_shift_the_others(recording, monkeypatch):
    from misa_trace.record import stack_deepgemm

    checked, calls = stack_deepgemm._checked, []

    def refuse_first(call, logits):
        calls.append(call)
        if len(calls) == 1:
            raise stack_deepgemm.Refused("the first")
        return checked(call, logits)

    monkeypatch.setattr(stack_deepgemm, "_checked", refuse_first)
    traces = recording()
    ids = ragged(indexer(rows_of_chunk=20), Drawn([40]), [40], [range(40)])
    trace = traces()["layer3.prefill"]
    assert trace.rows == 20
    check_selection(trace, ids[20:], 16)


@pytest.mark.parametrize("substitute", ["0", "1"])
def test_sixteen_steps_of_decode(recording, monkeypatch, substitute):
    """By DeepGEMM, and by what SGLang takes in its place."""
    monkeypatch.setenv("SGLANG_FP8_PAGED_MQA_LOGITS_TORCH", substitute)
    traces = recording()
    own, drawn = indexer(), Drawn([40, 50])
    ids = [paged(own, drawn, [20 + n, 30 + n]) for n in range(16)]
    trace = traces()["layer3.decode"]
    assert trace.rows == 32
    check_selection(trace, torch.cat(ids), 16)


def test_fused_ids_are_noticed_and_left_out(recording, capsys):
    traces = recording()
    paged(indexer(), Drawn([40, 50]), [40, 50], fused=True)
    assert traces()["layer3.decode"].topk is None
    assert "SGLANG_DSA_FUSE_TOPK=0" in capsys.readouterr().err


def test_an_error_of_the_engine_passes_and_ends_the_scope(recording):
    traces = recording()
    own, drawn = indexer(), Drawn([40, 50])
    first = paged(own, drawn, [20, 30])
    with pytest.raises(TypeError):
        own._get_topk_paged(None, 3, None, None, None)
    ids = paged(own, drawn, [40, 50])
    trace = traces()["layer3.decode"]
    assert trace.rows == 4
    check_selection(trace, torch.cat([first, ids]), 16)
