import functools

import torch

from vllm import _custom_ops as ops


@functools.cache
def get_indexer_topk(backend):
    return SparseIndexerTopk(backend)


class SparseIndexerTopk(torch.nn.Module):
    def __init__(self, backend=None):
        super().__init__()
        self._backend = backend

    def forward(self, logits, seq_lens, next_n, topk_indices, topk_tokens, max_seq_len):
        if self._backend == "operation":
            torch.ops._C.persistent_topk(logits, seq_lens, topk_indices, topk_tokens, max_seq_len)
        else:
            ops.top_k_per_row_decode(logits, next_n, seq_lens, topk_indices, len(logits), logits.stride(0),
                                     logits.stride(1), topk_tokens)
