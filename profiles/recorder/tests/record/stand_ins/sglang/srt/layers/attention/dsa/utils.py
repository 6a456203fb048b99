"""What SGLang (0.5.23) scores with: DeepGEMM, or substitutes of it in torch."""

import functools
import os

import misa_stand_in


def _fp8_paged_mqa_logits_torch(q_fp8, kv_cache_fp8, weights, context_lens, block_table, schedule_metadata, max_seq_len,
                                clean_logits=False, indices=None):
    return misa_stand_in.paged((q_fp8, None), kv_cache_fp8, weights, context_lens, block_table, max_seq_len)


def _fp8_mqa_logits_torch(q_fp8, kv, weights, ks, ke, clean_logits=False, max_seqlen_k=0):
    return misa_stand_in.contiguous((q_fp8, None), kv, weights, ks, ke)


def _use_torch_mqa_logits():
    return os.environ.get("SGLANG_FP8_PAGED_MQA_LOGITS_TORCH") == "1"


@functools.lru_cache(maxsize=1)
def resolve_fp8_paged_mqa_logits_fn():
    if _use_torch_mqa_logits():
        return _fp8_paged_mqa_logits_torch
    import deep_gemm

    return deep_gemm.fp8_paged_mqa_logits


@functools.lru_cache(maxsize=1)
def resolve_fp8_mqa_logits_fn():
    if _use_torch_mqa_logits():
        return _fp8_mqa_logits_torch
    import deep_gemm

    return deep_gemm.fp8_mqa_logits
