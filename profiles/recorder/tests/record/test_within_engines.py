"""docs/drop-in.md: our indexers inside transformers, and inside stand-ins of vLLM and SGLang."""

import inspect
import os
import pathlib
import sys

import numpy as np
import pytest

import misa
import misa_trace
from conftest import lacks
from .wheels import needs

torch = needs("torch")

from . import test_sglang, test_vllm  # noqa: E402  pylint: disable=wrong-import-position
from .stack_inputs import Drawn  # noqa: E402  pylint: disable=wrong-import-position

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(autouse=True)
def kernels(program, monkeypatch):
    library = pathlib.Path(program).resolve().parents[1] / "backends/libmisa_kernels.so"
    if "MISA_KERNELS_LIBRARY" not in os.environ:
        if not library.is_file():
            lacks("libmisa_kernels.so beside the program")
        monkeypatch.setenv("MISA_KERNELS_LIBRARY", str(library))
    monkeypatch.syspath_prepend(str(EXAMPLES))


def example(name):
    sys.modules.pop(name, None)
    return __import__(name)


@pytest.fixture(scope="module")
def model():
    transformers = needs("transformers")
    torch.manual_seed(3)
    config = transformers.DeepseekV32Config(
        vocab_size=512, hidden_size=128, intermediate_size=256, moe_intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, n_routed_experts=4, num_experts_per_tok=2, n_group=1,
        topk_group=1, kv_lora_rank=32, q_lora_rank=64, qk_rope_head_dim=16, qk_nope_head_dim=32, v_head_dim=32,
        first_k_dense_replace=1, max_position_embeddings=8192, index_n_heads=16, index_head_dim=128, index_topk=64,
    )
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def generated(model, prompt, **options):
    with torch.no_grad():
        return model.generate(prompt, max_new_tokens=12, do_sample=False, pad_token_id=0, **options)


def own_indexers(model):
    for part in model.modules():
        part.__dict__.pop("forward", None)
        part.__dict__.pop("misa_indexer", None)


def test_transformers_generates_the_same_tokens_with_our_dsa(model):
    prompt = torch.randint(1, 512, (2, 200))
    mask = torch.ones_like(prompt)
    mask[1, :37] = 0  # padded on the left: its rows see windows that do not begin at 0
    own_indexers(model)
    theirs = generated(model, prompt, attention_mask=mask)
    ours = generated(example("drop_in_transformers").put_in(model, "dsa"), prompt, attention_mask=mask)
    assert torch.equal(ours, theirs)
    assert len(set(theirs[0, 200:].tolist())) > 1


@pytest.mark.parametrize("name", ["misa", "misa-lr-dagger"])
def test_transformers_runs_with_cheaper_indexers(model, name):
    ours = generated(example("drop_in_transformers").put_in(model, name, active_heads=4), torch.ones(1, 150).long())
    assert ours.shape == (1, 162)


def test_ids_are_those_of_the_program_on_the_recorded_inputs(model, program, recording, monkeypatch):
    """What transformers' own indexers were given is recorded; ours are then given the same, inside the model."""
    prompt = torch.randint(1, 512, (1, 160), generator=torch.Generator().manual_seed(5))
    own_indexers(model)
    from transformers.models.deepseek_v32 import modeling_deepseek_v32 as modeling

    own = modeling.DeepseekV32Indexer
    monkeypatch.setattr(own, "forward", inspect.unwrap(own.forward))  # an earlier test's recorder may have wrapped it
    traces = recording(ROWS="160", PROVENANCE="random-init")
    with torch.no_grad():
        model(prompt)
    folder = pathlib.Path(os.environ["MISA_TRACE_DIR"])
    recorded = traces()
    names = ("dsa", "misa", "misa-lr-dagger")
    chosen = {}
    for name in names:
        example("drop_in_transformers").put_in(model, name, active_heads=4)
        hooks = [part.register_forward_hook(lambda part, _, ids: chosen.update({(name, part.layer_idx): ids}))
                 for part in model.modules() if isinstance(part, modeling.DeepseekV32Indexer)]
        with torch.no_grad():
            model(prompt)
        for hook in hooks:
            hook.remove()
    for layer in (0, 1):
        file = folder / f"layer{layer}.prefill.safetensors"
        trace = recorded[f"layer{layer}.prefill"]
        misa_trace.run("profile", trace=file, indexer=names, active_heads=4, samples=1, warm_up=0, binary=program,
                       dump_selection=folder / f"chosen{layer}.safetensors")
        for name in names:
            expected = misa_trace.read_selection(folder / f"chosen{layer}.{name}.safetensors").topk.data
            ids = misa.Indexer(name, 16, 128, 64, active_heads=4)(trace.q, trace.weights, trace.k, trace.windows())
            assert (ids == expected).all()
            if layer == 0 or name == "dsa":  # else the layer's inputs are others: those of what was selected before
                found = chosen[name, layer][0].numpy()
                assert all(set(a[b >= 0]) == set(b[b >= 0]) for a, b in zip(found, expected)), (name, layer)


def check_best(trace, ids, top_k):
    """No token that the ids leave out has a larger score."""
    assert trace.topk.shape == tuple(ids.shape)
    for row, given in enumerate(ids.tolist()):
        kept = [token for token in given if token >= 0]
        scores = trace.scores(row)
        assert len(kept) == len(set(kept)) == min(top_k, len(scores))
        best = np.sort(scores)[::-1][: len(kept)]
        np.testing.assert_allclose(np.sort(scores[kept])[::-1], best, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("next_n", [1, 2])
def test_vllm_steps_of_prefill_and_decode(recording, next_n):
    from vllm.forward_context import get_forward_context

    prefill, decode = [([20, 25], [range(12, 20), range(25)]), ([30], [range(30)])], [20, 40, 7]
    traces = recording(CALLS="prefill:2,decode:1")
    theirs = test_vllm.step(Drawn([60, 50, 40]), prefill, decode, next_n=next_n)
    recorded = traces()
    example("drop_in_engines").put_in_vllm("dsa")
    for layer in (0, 1):  # the second one uses the plans of the first
        get_forward_context().attn_metadata = get_forward_context().attn_metadata or {}
        ours = test_vllm.step(Drawn([60, 50, 40]), prefill, decode, next_n=next_n, layer=layer)
        assert ours.shape == theirs.shape
        rows = len(decode) * next_n
        check_best(recorded["layer7.decode"], ours[:rows], test_vllm.TOP_K)
        check_best(recorded["layer7.prefill"], ours[rows:], test_vllm.TOP_K)


@pytest.mark.parametrize("rows_of_chunk", [7, 100])
def test_sglang_extend_and_decode(recording, rows_of_chunk):
    lengths, positions = [30, 40], [range(20, 30), range(40)]
    traces = recording(CALLS="prefill:9,decode:1")
    test_sglang.ragged(test_sglang.indexer(rows_of_chunk=rows_of_chunk), Drawn(lengths), lengths, positions)
    test_sglang.paged(test_sglang.indexer(), Drawn(lengths), lengths)
    recorded = traces()
    example("drop_in_engines").put_in_sglang("dsa")
    for layer in (0, 1):
        ids = test_sglang.ragged(test_sglang.indexer(rows_of_chunk=rows_of_chunk), Drawn(lengths), lengths, positions)
        check_best(recorded["layer3.prefill"], ids, 16)
        check_best(recorded["layer3.decode"], test_sglang.paged(test_sglang.indexer(), Drawn(lengths), lengths), 16)
