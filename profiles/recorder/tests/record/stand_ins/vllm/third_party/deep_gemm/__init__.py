"""DeepGEMM 2.8, of which vLLM brings a copy: scores count from the window, and are bf16 where scales are packed."""

import misa_stand_in
import torch


def _dtype(q):
    return torch.float32 if q[1] is None else torch.bfloat16


def fp8_fp4_mqa_logits(q, kv, weights, cu_seq_len_k_start, cu_seq_len_k_end, max_seqlen_k, schedule_meta=None):
    return misa_stand_in.contiguous(q, kv, weights, cu_seq_len_k_start, cu_seq_len_k_end, max_seqlen_k, _dtype(q))


def fp8_fp4_paged_mqa_logits(q, kv_cache, weights, context_lens, block_table, schedule_meta, max_context_len,
                             indices=None):
    return misa_stand_in.paged(q, kv_cache, weights, context_lens, block_table, max_context_len, _dtype(q))
