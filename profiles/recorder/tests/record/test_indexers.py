"""Indexers of transformers and of code that comes with a checkpoint: what is recorded of them, and what is refused."""

import importlib
import sys
import types

import pytest

from .wheels import needs

torch = needs("torch")

from .stack_inputs import check_selection  # noqa: E402  pylint: disable=wrong-import-position

HEADS, DIM, TOP_K = 4, 32, 8


class Indexer(torch.nn.Module):
    """An indexer as transformers writes them. Options change one thing each."""

    def __init__(self, layer_idx=2, scale=DIM**-0.5, activation=torch.relu, weighted="matmul", uneven=False):
        super().__init__()
        self.layer_idx, self.index_topk = layer_idx, TOP_K
        self.scale, self.activation, self.weighted, self.uneven = scale, activation, weighted, uneven

    def forward(self, hidden_states, k, weights, attention_mask):
        q = hidden_states
        scores = self.activation(torch.matmul(q.float(), k.transpose(-1, -2).float().unsqueeze(1)) * self.scale)
        if self.weighted == "matmul":
            scores = torch.matmul(weights.unsqueeze(-2), scores).squeeze(-2)
        elif self.weighted == "mul":
            scores = (scores * weights.unsqueeze(-1)).sum(dim=2)
        else:
            scores = scores.sum(dim=2)
        if self.uneven:
            scores = scores * torch.arange(1, scores.shape[1] + 1).view(1, -1, 1)
        scores = scores + attention_mask
        return scores.topk(min(TOP_K, scores.shape[-1]), dim=-1).indices.to(torch.int32)


@pytest.fixture
def hooked(recording, monkeypatch):
    """start(...) as in `recording`, with Indexer hooked as a class of a checkpoint's own code."""
    module = types.ModuleType("transformers_modules.tiny.modeling_tiny")
    forward = Indexer.forward
    monkeypatch.setattr(Indexer, "__module__", module.__name__)
    module.Indexer = Indexer
    monkeypatch.setitem(sys.modules, module.__name__, module)
    yield recording
    Indexer.forward = forward


def drawn(batch=1, rows=12, tokens=12, seed=1):
    draw = torch.Generator().manual_seed(seed)
    q = torch.randn(batch, rows, HEADS, DIM, generator=draw)
    k = torch.randn(batch, tokens, DIM, generator=draw)
    weights = torch.randn(batch, rows, HEADS, generator=draw)
    mask = torch.full((batch, rows, tokens), -torch.inf).triu(tokens - rows + 1)
    return q, k, weights, mask


@pytest.mark.parametrize("weighted", ["matmul", "mul"])
@pytest.mark.parametrize("scale", [DIM**-0.5, 1.0, 0.3])
def test_a_factor_is_measured_and_folded(hooked, weighted, scale):
    traces = hooked()
    q, k, weights, mask = drawn()
    ids = Indexer(scale=scale, weighted=weighted)(q, k, weights, mask)
    trace = traces()["layer2.prefill"]
    assert torch.allclose(torch.from_numpy(trace.weights.values()), weights[0] * scale, rtol=1e-5)
    assert float(trace.metadata["folded_by_recorder"]) == pytest.approx(scale, rel=1e-5)
    kept = torch.where(ids[0] <= torch.arange(12)[:, None], ids[0], -1)  # early rows select masked tokens too
    check_selection(trace, kept, TOP_K)


def test_what_is_bf16_is_stored_so(hooked):
    traces = hooked()
    q, k, weights, mask = drawn()
    Indexer()(q.bfloat16(), k.bfloat16(), weights, mask)
    trace = traces()["layer2.prefill"]
    assert (trace.q.dtype, trace.k.dtype) == ("BF16", "BF16")


def test_a_batch_with_padding_on_the_left(hooked):
    traces = hooked()
    q, k, weights, mask = drawn(batch=2)
    mask[1, :, :5] = -torch.inf
    mask[1, :5] = -torch.inf
    ids = Indexer()(q, k, weights, mask)
    trace = traces()["layer2.prefill"]
    assert trace.rows == 12 + 7 and trace.tokens == 12 + 7
    assert trace.ks.data.tolist() == [0] * 12 + [12] * 7
    position = torch.arange(12)[:, None]
    first = torch.where(ids[0] <= position, ids[0], -1)
    second = torch.where((ids[1] >= 5) & (ids[1] <= position), ids[1] - 5, -1)[5:]
    check_selection(trace, torch.cat([first, second]), TOP_K)


def test_steps_of_decode_of_a_batch(hooked):
    traces = hooked()
    q, k, weights, _ = drawn(batch=2, rows=16, tokens=32)
    ids = [Indexer()(q[:, n : n + 1], k[:, : 17 + n], weights[:, n : n + 1], torch.zeros(2, 1, 17 + n))
           for n in range(16)]
    trace = traces()["layer2.decode"]
    assert trace.rows == 32 and trace.tokens == 64
    check_selection(trace, torch.cat([step[:, 0] for step in ids]), TOP_K)


def test_rows_that_see_no_key_are_left_out(hooked):
    traces = hooked()
    q, k, weights, mask = drawn(tokens=3)
    seen = torch.arange(3)[None] < (torch.arange(12)[:, None] + 1) // 4
    mask = torch.where(seen, 0.0, torch.finfo(torch.float32).min)
    Indexer()(q, k, weights, mask[None])
    trace = traces()["layer2.prefill"]
    assert trace.ke.data.tolist() == [1] * 4 + [2] * 4 + [3]


def test_the_default_device_is_not_the_recorder_s(hooked):
    """torch.set_default_device is the engine's; 'meta' holds no numbers."""
    traces = hooked()
    inputs = drawn()
    with torch.device("meta"):
        ids = Indexer()(*inputs)
    trace = traces()["layer2.prefill"]
    check_selection(trace, torch.where(ids[0] <= torch.arange(12)[:, None], ids[0], -1), TOP_K)


@pytest.mark.parametrize("options, why", [
    ({"activation": torch.abs}, "followed by relu"),
    ({"weighted": "no"}, "not weighted"),
    ({"uneven": True}, "does not reproduce"),
    ({"scale": -1.0}, "does not reproduce"),
])
def test_another_formula_is_refused(hooked, capsys, options, why):
    traces = hooked()
    q, k, weights, mask = drawn()
    assert Indexer(**options)(q, k, weights, mask).shape == (1, 12, TOP_K)
    assert traces() == {}
    assert why in capsys.readouterr().err


def test_windows_with_holes_are_refused(hooked, capsys):
    traces = hooked()
    q, k, weights, mask = drawn()
    mask[..., 3] = -torch.inf
    Indexer()(q, k, weights, mask)
    assert traces() == {}
    assert "not one window" in capsys.readouterr().err


def test_a_compiled_indexer_runs_as_if_there_were_no_hook(hooked, capsys):
    traces = hooked()
    inputs = drawn()
    compiled = torch.compile(Indexer(), backend="eager", fullgraph=True)
    assert torch.equal(compiled(*inputs), Indexer.forward.__wrapped__(Indexer(), *inputs))
    assert traces() == {}
    assert "torch.compile hide calls" in capsys.readouterr().err


def test_nothing_is_raised_into_the_model(hooked, capsys, monkeypatch):
    from misa_trace.record import stack_transformers

    def fail(*args):
        raise RuntimeError("no room")

    traces = hooked()
    monkeypatch.setattr(stack_transformers, "take", fail)
    assert Indexer()(*drawn()).shape == (1, 12, TOP_K)
    assert traces() == {}
    assert "no room" in capsys.readouterr().err


# Indexers of transformers, as far as the installed one has them.


def indexer_of(name, **config):
    """The indexer of a model, for a small configuration, with drawn parameters."""
    needs("transformers")
    try:
        module = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    except ModuleNotFoundError:
        pytest.skip(f"this transformers has no {name}")
    cls = next(cls for key, cls in vars(module).items()
               if key.endswith("Indexer") and getattr(cls, "__module__", "") == module.__name__)
    indexer = cls(types.SimpleNamespace(
        hidden_size=48, index_n_heads=HEADS, index_head_dim=DIM, qk_rope_head_dim=16, index_topk=TOP_K, q_lora_rank=24,
        rms_norm_eps=1e-6, model_type=name, **config), layer_idx=2)
    torch.manual_seed(1)
    for parameter in indexer.parameters():
        torch.nn.init.normal_(parameter)
    return indexer


def check_prefix_selection(trace, ids, visible):
    """ids [rows, k] of rows that see the first `visible` keys; later ids are masked keys."""
    visible = torch.as_tensor(visible)[:, None]
    some = visible[:, 0] > 0
    check_selection(trace, torch.where(ids < visible, ids, -1)[some], ids.shape[1])


@pytest.mark.parametrize("name", ["deepseek_v32", "glm_moe_dsa", "axk2", "dots3_note", "hy_v4", "mistral_large4"])
def test_an_indexer_of_transformers(recording, name):
    traces = recording()
    indexer = indexer_of(name, no_rope_layers=[1, 1, 1])
    states, residual, angles = torch.randn(1, 40, 48), torch.randn(1, 40, 24), torch.rand(1, 40, 16)
    ids = indexer(hidden_states=states, position_embeddings=(angles.cos(), angles.sin()),
                  attention_mask=torch.full((1, 40, 40), -torch.inf).triu(1), position_ids=torch.arange(40)[None],
                  **({} if name == "mistral_large4" else {"q_resid": residual}))
    trace = traces()["layer2.prefill"]
    assert trace.metadata["model"] == name and trace.metadata["index_topk"] == str(TOP_K)
    check_prefix_selection(trace, ids[0], range(1, 41))


def test_pooled_keys_of_glm_5_3(recording):
    traces = recording()
    indexer = indexer_of("glm5_next", index_kpool=2, index_kpool_always_select_tail=False)
    ids = indexer(torch.randn(1, 40, 48), torch.randn(1, 40, 24), torch.ones(1, 40, dtype=torch.bool), None)
    trace = traces()["layer2.prefill"]
    assert trace.tokens == 20 and trace.rows == 39  # the first row sees no whole pool
    pools = torch.where(ids[0, :, ::2] >= 0, ids[0, :, ::2] // 2, -1)
    check_prefix_selection(trace, pools[:, : TOP_K // 2], torch.arange(1, 41) // 2)


def test_compressed_keys_of_deepseek_v4(recording):
    needs("transformers")
    traces = recording()
    try:
        from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4Config, DeepseekV4Indexer
    except ImportError:
        pytest.skip("this transformers has no deepseek_v4")
    config = DeepseekV4Config(hidden_size=48, index_n_heads=HEADS, index_head_dim=64, index_topk=TOP_K, q_lora_rank=24)
    torch.manual_seed(1)
    indexer = DeepseekV4Indexer(config)
    for parameter in indexer.parameters():
        torch.nn.init.normal_(parameter)
    rate = indexer.compress_rate
    ids = indexer(torch.randn(1, 96, 48), torch.randn(1, 96, 24), torch.arange(96)[None], None, 2)
    trace = traces()["layer2.prefill"]
    assert trace.tokens == 96 // rate and trace.compress_ratio == rate
    assert trace.positions().tolist() == trace_rows(trace, 96)  # in tokens
    check_prefix_selection(trace, ids[0][trace_rows(trace, 96)], (torch.arange(1, 97) // rate)[trace_rows(trace, 96)])


def trace_rows(trace, rows):
    """Which rows of a call of `rows` were kept: 64, evenly spaced, and of those the ones that see a key."""
    kept = [(i + 1) * rows // 64 - 1 for i in range(64)]
    return kept[-trace.rows :]
