"""Our indexers inside vLLM 0.33 and SGLang 0.5.23: put_in_vllm("misa-lr-dagger"), put_in_sglang("misa-lr-dagger"), in
every process of the engine and before its first step. docs/drop-in.md says where they call what is replaced here.

Both engines score a layer's tokens with DeepGEMM and then select. Here the scorer only keeps what it was given, and the
selector runs the indexer, which does both and writes ids where the engine reads them.
"""

import misa
import torch


class Swap:
    """A scorer and a selector of one engine. Windows are brought to the host, and planned, once a step."""

    def __init__(self, name, **settings):
        self.name, self.settings = name, settings
        self.step, self.windows, self.indexers, self.inputs = None, {}, {}, None

    def begin(self, step):
        """`step` is an object that the engine makes anew for each step."""
        if step is not self.step:
            self.step, self.windows = step, {}

    def score_contiguous(self, q, kv, weights, ks, ke, *_, **__):
        q = q[0] if isinstance(q, tuple) else q
        return self.keep(q, weights, tuple(kv), (ks, lambda: misa.Windows(ks, ke)), len(kv[0]))

    def score_paged(self, q, cache, weights, lengths, table, *_, **__):
        q = q[0] if isinstance(q, tuple) else q  # [B, next_n, H, D]
        batch, next_n = q.shape[:2]

        def windows():  # lengths are of rows, or of the last row of each sequence
            back = torch.arange(1 - next_n, 1, device=q.device) if lengths.numel() == batch else 0
            end = (lengths.reshape(batch, -1) + back).clamp(min=0).flatten()
            return misa.Windows(torch.zeros_like(end), end, torch.arange(batch).repeat_interleave(next_n))

        keys = misa.PagedKeys(cache.squeeze(-2), table[:batch])
        return self.keep(q.flatten(0, 1), weights, keys, (lengths, windows), table.shape[1] * cache.shape[1])

    def keep(self, q, weights, keys, windows, columns):
        of, make = windows
        key = (of.data_ptr(), len(of), len(q))
        if key not in self.windows:
            self.windows[key] = make()
        self.inputs = (q.contiguous(), weights.float().contiguous(), keys, self.windows[key])
        return weights.new_empty(()).expand(len(q), columns)  # has a shape and no memory

    def select(self, top_k, out=None):
        q = self.inputs[0]
        shape = (*q.shape[1:], top_k)
        if shape not in self.indexers:
            self.indexers[shape] = misa.Indexer(self.name, *shape, **self.settings)
        return self.indexers[shape](*self.inputs, out=out)


def put_in_vllm(name, **settings):
    import vllm.model_executor.layers.sparse_attn_indexer as layer
    from vllm import _custom_ops as ops
    from vllm.forward_context import get_forward_context
    from vllm.model_executor.layers.indexer_topk import SparseIndexerTopk

    swap = Swap(name, **settings)

    def scorer(score):
        def scored(*args, **kwargs):
            swap.begin(get_forward_context().attn_metadata)
            return score(*args, **kwargs)

        return scored

    layer.fp8_fp4_mqa_logits = scorer(swap.score_contiguous)
    layer.fp8_fp4_paged_mqa_logits = scorer(swap.score_paged)
    ops.top_k_per_row_prefill = lambda logits, ks, ke, ids, *_: swap.select(ids.shape[1], ids)
    SparseIndexerTopk.forward = lambda self, logits, lengths, next_n, ids, *_: swap.select(ids.shape[1], ids)


def put_in_sglang(name, **settings):
    """With SGLANG_DSA_FUSE_TOPK=0, for ids that count from the request's first token."""
    from sglang.srt.layers.attention.dsa import dsa_indexer as layer

    swap = Swap(name, **settings)
    layer.resolve_fp8_mqa_logits_fn = lambda: swap.score_contiguous
    layer.resolve_fp8_paged_mqa_logits_fn = lambda: swap.score_paged

    def selecting(method):
        def selected(self, *args, **kwargs):
            metadata = next(one for one in [*args, *kwargs.values()] if hasattr(one, "topk_transform"))
            swap.begin(metadata)
            metadata.topk_transform = lambda logits, top_k, **_: swap.select(top_k)
            return method(self, *args, **kwargs)

        return selected

    for one in ("_get_topk_ragged", "_get_topk_paged"):
        setattr(layer.Indexer, one, selecting(getattr(layer.Indexer, one)))
