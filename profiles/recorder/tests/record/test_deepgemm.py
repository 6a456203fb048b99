"""Calls of DeepGEMM's functions become traces whose scores are those that the kernel gave."""

import importlib

import numpy as np
import pytest

from .wheels import needs

torch = needs("torch")

from .stack_inputs import DIM, PAGE, Drawn  # noqa: E402  pylint: disable=wrong-import-position


class Layer:
    def __init__(self, layer_id):
        self.layer_id = layer_id

    def score(self, function, *args, **kwargs):
        return function(*args, **kwargs)


def deep_gemm():
    return importlib.import_module("deep_gemm")


def prefill(drawn, lengths, positions, layer=5, **options):
    """One call over sequences of `lengths` tokens; returns logits."""
    keys, scales, begins = drawn.gathered(lengths)
    ks, ke = drawn.windows(begins, positions)
    q, weights = drawn.queries(len(ks))
    return Layer(layer).score(deep_gemm().fp8_mqa_logits, q, (keys, scales), weights, ks, ke, **options), ks, ke


def decode(drawn, lengths, next_n=1, context=None, layer=5):
    drawn.fill(lengths)
    q, weights = drawn.queries(len(lengths) * next_n)
    context = torch.tensor(lengths, dtype=torch.int32) if context is None else context
    return Layer(layer).score(deep_gemm().fp8_paged_mqa_logits, q.view(len(lengths), next_n, *q.shape[1:]),
                              drawn.cache.unsqueeze(2), weights, context, drawn.table, None, 64)


def check_scores(trace, logits, first=None):
    for row in range(trace.rows):
        ks, ke = (int(ends[row]) for ends in trace.windows())
        begin = 0 if first is None else int(first[row])
        theirs = logits[row, begin : begin + ke - ks].double()
        np.testing.assert_allclose(trace.scores(row), theirs, rtol=1e-5, atol=1e-5)


def test_windows_of_two_sequences(recording):
    traces = recording()
    logits, ks, _ = prefill(Drawn([9, 14]), [9, 14], [range(9), range(3, 14)])
    trace = traces()["layer5.prefill"]
    assert (trace.rows, trace.tokens) == (20, 23)
    assert trace.metadata["layer"] == "5" and trace.metadata["phase"] == "prefill"
    assert trace.topk is None
    check_scores(trace, logits, ks)


def test_logits_that_count_from_the_window(recording):
    traces = recording()
    logits, _, _ = prefill(Drawn([9, 14]), [9, 14], [range(9), range(14)], max_seqlen_k=14)
    check_scores(traces()["layer5.prefill"], logits)


def test_scores_that_are_bf16(recording):
    traces = recording()
    drawn = Drawn([40])
    keys, scales, begins = drawn.gathered([40])
    ks, ke = drawn.windows(begins, [range(40)])
    q, weights = drawn.queries(40)
    deep_gemm().fp8_fp4_mqa_logits((q, None), (keys, scales), weights.bfloat16(), ks, ke, logits_dtype=torch.bfloat16)
    trace = traces()["layer-unknown.prefill"]
    assert trace.metadata["result_dtype"] == "bfloat16"
    assert trace.metadata["layer"] == "unknown"


def test_chosen_rows_are_spread_and_end_with_the_last(recording):
    traces = recording(ROWS="4")
    logits, _, _ = prefill(Drawn([40]), [40], [range(40)])
    trace = traces()["layer5.prefill"]
    assert trace.q_pos.data.tolist() == [9, 19, 29, 39]
    assert trace.metadata["recorded_rows"] == "1 x 4 of 40"
    check_scores(trace, logits[[9, 19, 29, 39]])


def test_chunks_of_prefill_share_their_keys(recording):
    traces = recording()
    drawn = Drawn([30])
    logits = [prefill(drawn, [end], [range(end - 10, end)])[0] for end in (10, 20, 30)]
    trace = traces()["layer5.prefill"]
    assert trace.tokens == 30
    check_scores(trace, torch.cat([torch.nn.functional.pad(chunk, (0, 30 - chunk.shape[1])) for chunk in logits]))


def test_another_sequence_is_stored_apart(recording):
    traces = recording()
    first, second = Drawn([12], seed=1), Drawn([12], seed=2)
    prefill(first, [12], [range(12)])
    logits, _, _ = prefill(second, [12], [range(12)])
    trace = traces()["layer5.prefill"]
    assert trace.tokens == 24
    np.testing.assert_allclose(trace.scores(23), logits[11].double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("next_n", [1, 2])
def test_pages_and_their_tables(recording, next_n):
    traces = recording()
    logits = decode(Drawn([13, 9]), [13, 9], next_n)
    trace = traces()["layer5.decode"]
    assert trace.paged and trace.next_n == next_n
    assert trace.k_pages.shape == (4 + 3, PAGE, DIM + 4)  # the others of the cache are not copied
    check_scores(trace, logits)


def test_decode_steps_are_appended_and_share_pages(recording):
    traces = recording()
    drawn = Drawn([13, 9])
    logits = [decode(drawn, [8 + step, 4 + step]) for step in range(6)]
    trace = traces()["layer5.decode"]
    assert trace.rows == 12 and trace.metadata["recorded_calls"] == "6"
    assert trace.k_pages.shape[0] == 4 + 3
    check_scores(trace, torch.cat(logits))


def test_a_page_that_was_given_to_another_request_is_stored_twice(recording):
    traces = recording()
    drawn = Drawn([4, 4])
    before = decode(drawn, [4, 4])
    drawn.table[[0, 1]] = drawn.table[[1, 0]]
    after = decode(drawn, [4, 4])
    trace = traces()["layer5.decode"]
    assert trace.k_pages.shape[0] == 4
    check_scores(trace, torch.cat([before, after]))


def test_requests_with_different_numbers_of_rows(recording):
    traces = recording()
    drawn = Drawn([13, 9])
    context = torch.tensor([[12, 13], [9, 9]], dtype=torch.int32)  # the second has one real row, and one of padding
    logits = decode(drawn, [13, 9], 2, context)
    trace = traces()["layer5.decode"]
    assert trace.next_n == 1 and trace.seq_lens.data.tolist() == [12, 13, 9, 9]
    check_scores(trace, logits)


def test_calls_of_different_next_n(recording):
    traces = recording()
    drawn = Drawn([13, 9])
    logits = [decode(drawn, [11, 7], 1), decode(drawn, [13, 9], 2)]
    trace = traces()["layer5.decode"]
    assert trace.next_n == 1 and trace.rows == 6
    check_scores(trace, torch.cat(logits))


def test_requests_that_are_padding_are_left_out(recording):
    traces = recording()
    logits = decode(Drawn([13, 9, 5]), [13, 0, 5])
    trace = traces()["layer5.decode"]
    assert trace.rows == 2
    check_scores(trace, logits[[0, 2]])


def test_layers_and_calls_that_are_asked_for(recording):
    traces = recording(LAYERS="1,3", CALLS="prefill:2,decode:0")
    drawn = Drawn([8])
    for _ in range(3):
        for layer in range(4):
            prefill(drawn, [8], [range(8)], layer=layer)
            decode(drawn, [8], layer=layer)
    found = traces()
    assert sorted(found) == ["layer1.prefill", "layer3.prefill"]
    assert found["layer1.prefill"].metadata["recorded_calls"] == "2"


def test_a_trace_is_written_as_soon_as_it_is_complete(recording, tmp_path):
    recording(CALLS="prefill:1")
    drawn = Drawn([8])
    prefill(drawn, [8], [range(8)], layer=0)
    prefill(drawn, [8], [range(8)], layer=1)  # the call before is then known to have no selection
    assert [file.name for file in (tmp_path / "traces").glob("*")] == ["layer0.prefill.safetensors"]


def test_files_of_an_earlier_run_stay(recording, tmp_path):
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "layer5.prefill.safetensors").write_text("earlier")
    traces = recording()
    prefill(Drawn([8]), [8], [range(8)])
    from misa_trace.record import hooks

    hooks.current().finish()
    assert (tmp_path / "traces" / "layer5.prefill.safetensors").read_text() == "earlier"
    assert (tmp_path / "traces" / "layer5.prefill.2.safetensors").stat().st_size > 0
    del traces


def test_the_limit_of_bytes_ends_the_recording(recording, capsys):
    traces = recording(MAX_BYTES="3K")
    drawn = Drawn([8])
    for layer in range(8):
        prefill(drawn, [8], [range(8)], layer=layer)
    assert 1 <= len(traces()) <= 2
    assert "MISA_TRACE_MAX_BYTES" in capsys.readouterr().err


def test_other_ranks_record_nothing_unless_told(recording, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    traces = recording()
    prefill(Drawn([8]), [8], [range(8)])
    assert traces() == {}


def test_a_rank_that_is_told_is_named(recording, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    traces = recording(RANKS="0,1")
    prefill(Drawn([8]), [8], [range(8)])
    assert traces()["layer5.prefill.rank1"].metadata["rank"] == "1 of 2"


def test_scores_of_another_formula_are_refused(recording, capsys, monkeypatch):
    def without_relu(q, keys, scales, weights):
        return torch.einsum("hd,nd,h->n", q.float(), keys.float(), weights) * scales

    traces = recording()
    deep_gemm()
    monkeypatch.setattr(importlib.import_module("misa_stand_in"), "score", without_relu)
    logits, _, _ = prefill(Drawn([8]), [8], [range(8)])
    assert logits.shape == (8, 8)
    assert traces() == {}
    assert "does not reproduce the scores" in capsys.readouterr().err


def test_a_scale_that_the_weights_lack_is_refused(recording, capsys, monkeypatch):
    traces = recording()
    stand_in = importlib.import_module("misa_stand_in")
    score = stand_in.score
    monkeypatch.setattr(stand_in, "score", lambda *args: score(*args) * 0.5)
    prefill(Drawn([8]), [8], [range(8)])
    assert traces() == {}
    assert "0.5 times" in capsys.readouterr().err


def packed(numbers):
    """Words of four equal UE8M0 bytes for powers of two."""
    codes = (torch.log2(numbers) + 127).to(torch.uint8)
    return codes[..., None].expand(*codes.shape, 4).contiguous().view(torch.int32)[..., 0]


def test_packed_scales_of_queries_and_keys_are_folded(recording):
    traces = recording()
    drawn = Drawn([40])
    keys, _, begins = drawn.gathered([40])
    ks, ke = drawn.windows(begins, [range(40)])
    q, weights = drawn.queries(40)
    q_scale, k_scale = (2.0 ** torch.randint(-4, 3, shape, generator=drawn.draw).float() for shape in ((40, 4), (40,)))
    logits = deep_gemm().fp8_fp4_mqa_logits((q, packed(q_scale)), (keys, packed(k_scale)), weights, ks, ke)
    trace = traces()["layer-unknown.prefill"]
    assert torch.equal(torch.from_numpy(trace.k_scale.data), k_scale)
    assert torch.equal(torch.from_numpy(trace.weights.data), weights * q_scale)
    check_scores(trace, logits)


def test_four_scales_of_a_query_are_refused(recording, capsys):
    traces = recording()
    drawn = Drawn([8])
    keys, _, begins = drawn.gathered([8])
    ks, ke = drawn.windows(begins, [range(8)])
    q, weights = drawn.queries(8)
    words = torch.full((8, 4), 0x7F7F7F7E, dtype=torch.int32)
    deep_gemm().fp8_fp4_mqa_logits((q, words), (keys, packed(torch.ones(8))), weights, ks, ke)
    assert traces() == {}
    assert "four scales each" in capsys.readouterr().err


def test_fp4_queries_are_refused(recording, capsys, monkeypatch):
    traces = recording()
    deep_gemm()
    monkeypatch.setattr(importlib.import_module("misa_stand_in"), "contiguous", lambda *args: torch.zeros(8, 8))
    q, scales = torch.zeros(8, 4, 16, dtype=torch.int8), torch.zeros(8, 4, dtype=torch.int32)
    ks, ke = torch.zeros(8, dtype=torch.int32), torch.arange(1, 9, dtype=torch.int32)
    logits = deep_gemm().fp8_fp4_mqa_logits((q, scales), (torch.zeros(8, 16, dtype=torch.int8), scales[:, 0]),
                                            torch.ones(8, 4), ks, ke)
    assert logits.shape == (8, 8)
    assert traces() == {}
    assert "FP4" in capsys.readouterr().err


def test_nothing_is_raised_into_the_engine(recording, capsys, monkeypatch):
    from misa_trace.record import stack_deepgemm

    def fail(*args):
        raise MemoryError("no room")

    traces = recording()
    monkeypatch.setattr(stack_deepgemm, "take", fail)
    logits, _, _ = prefill(Drawn([8]), [8], [range(8)])
    assert logits.shape == (8, 8)
    assert traces() == {}
    assert capsys.readouterr().err.count("no room") == 1


def test_the_engine_s_own_errors_pass(recording):
    recording()
    with pytest.raises(TypeError):
        deep_gemm().fp8_mqa_logits()


def test_a_run_without_a_call_is_warned_of(recording, capsys):
    traces = recording()
    deep_gemm()
    assert traces() == {}
    assert "no call of an indexer was seen" in capsys.readouterr().err


def test_what_misa_prof_would_refuse_is_not_written(recording, capsys, tmp_path):
    traces = recording()
    draw = torch.Generator().manual_seed(1)
    q, k = (torch.randn(*shape, 16, generator=draw).to(torch.float8_e4m3fn) for shape in ((8, 4), (8,)))
    ks, ke = torch.zeros(8, dtype=torch.int32), torch.arange(1, 9, dtype=torch.int32)
    deep_gemm().fp8_mqa_logits(q, (k, torch.ones(8)), torch.randn(8, 4, generator=draw), ks, ke)
    assert traces() == {}
    assert "MP-E211" in capsys.readouterr().err  # a head dimension of 16
    assert list((tmp_path / "traces").iterdir()) == []
