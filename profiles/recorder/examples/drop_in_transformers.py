"""Our indexers inside transformers' DeepseekV32: put_in(model, "misa-lr-dagger") replaces the selection of each layer.

docs/drop-in.md explains it. Needs transformers 5.24 and libmisa_kernels.so; no kernel is compiled.
"""

import types

import misa
import torch
from transformers.models.deepseek_v32 import modeling_deepseek_v32 as modeling


def put_in(model, name, **settings):
    """Lets every DeepseekV32Indexer of `model` select with our indexer `name`. The windows of a step are looked up in
    its mask once, in the first layer, and each layer uses the plan that the first one made."""
    step = {}

    def forward(self, hidden_states, q_resid, position_embeddings, attention_mask, position_ids, cache=None):
        rope = self.qk_rope_head_dim
        q = self.wq_b(q_resid).unflatten(-1, (self.n_heads, self.head_dim))
        k = self.k_norm(self.wk(hidden_states)).unsqueeze(2)
        turned = modeling.apply_rotary_pos_emb(q[..., :rope], k[..., :rope], *position_embeddings, unsqueeze_dim=2)
        q, k = (torch.cat([first, whole[..., rope:]], -1) for first, whole in zip(turned, (q, k)))
        k = k.squeeze(2)
        if cache is not None:
            k = cache.update_indexer(k, self.layer_idx)  # [B, T, D], all tokens so far
        weights = self.weights_proj(hidden_states).float() * self.n_heads**-0.5 * self.softmax_scale
        if self.layer_idx == first_layer:
            mask = attention_mask if attention_mask.dtype == torch.bool else attention_mask == 0
            step["begin"], seen = mask.int().argmax(-1), mask.sum(-1)  # [B, S]
            begin = step["begin"] + torch.arange(len(k), device=k.device)[:, None] * k.shape[1]
            step["windows"] = misa.Windows(begin.flatten(), (begin + seen).flatten())
        ids = self.misa_indexer(q.flatten(0, 1), weights.flatten(0, 1), k.flatten(0, 1), step["windows"])
        # Pads become the row's first token, which a mask may name twice; ids count from the start of the sequence.
        return (ids.clamp(min=0).view(*q.shape[:2], -1) + step["begin"][..., None]).int()

    indexers = [part for part in model.modules() if isinstance(part, modeling.DeepseekV32Indexer)]
    first_layer = min(part.layer_idx for part in indexers)
    for part in indexers:
        part.misa_indexer = misa.Indexer(name, part.n_heads, part.head_dim, part.index_topk, **settings)
        part.forward = types.MethodType(forward, part)
    return model
