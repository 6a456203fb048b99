"""vLLM's wrappers of DeepGEMM (0.33), found on first use."""

import importlib

_found = {}


def _of(name):
    if name not in _found:
        _found[name] = getattr(importlib.import_module("vllm.third_party.deep_gemm"), name)
    return _found[name]


def fp8_fp4_mqa_logits(q, kv, weights, cu_seqlen_ks, cu_seqlen_ke, max_seqlen_k):
    return _of("fp8_fp4_mqa_logits")(q, kv, weights, cu_seqlen_ks, cu_seqlen_ke, max_seqlen_k)


def fp8_fp4_paged_mqa_logits(q, kv_cache, weights, context_lens, block_tables, schedule_metadata, max_model_len,
                             indices=None):
    indices = {} if indices is None else {"indices": indices}
    return _of("fp8_fp4_paged_mqa_logits")(q, kv_cache, weights, context_lens, block_tables, schedule_metadata,
                                           max_model_len, **indices)
