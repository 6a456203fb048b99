"""DeepGEMM as SGLang ships it (0.1.5): its functions by name and arguments."""

import misa_stand_in
import torch


def fp8_mqa_logits(q, kv, weights, ks, ke, clean_logits=False, max_seqlen_k=0):
    return misa_stand_in.contiguous((q, None), kv, weights, ks, ke, max_seqlen_k)


def fp8_paged_mqa_logits(q, kv_cache, weights, context_lens, block_table, schedule_meta, max_context_len,
                         clean_logits=False, indices=None):
    return misa_stand_in.paged((q, None), kv_cache, weights, context_lens, block_table, max_context_len)


def fp8_fp4_mqa_logits(q, kv, weights, cu_seq_len_k_start, cu_seq_len_k_end, clean_logits=False, max_seqlen_k=0,
                       logits_dtype=torch.float):
    return misa_stand_in.contiguous(q, kv, weights, cu_seq_len_k_start, cu_seq_len_k_end, max_seqlen_k, logits_dtype)


def fp8_fp4_paged_mqa_logits(q, kv_cache, weights, context_lens, block_table, schedule_meta, max_context_len,
                             clean_logits=False, logits_dtype=torch.float, indices=None):
    return misa_stand_in.paged(q, kv_cache, weights, context_lens, block_table, max_context_len, logits_dtype)
