"""vLLM's wrappers of DeepGEMM, found on first use."""

import importlib

_found = {}


def _of(name):
    if name not in _found:
        _found[name] = getattr(importlib.import_module("deep_gemm"), name)
    return _found[name]


def fp8_fp4_mqa_logits(q, kv, weights, cu_seqlen_ks, cu_seqlen_ke, clean_logits):
    return _of("fp8_fp4_mqa_logits")(q, kv, weights, cu_seqlen_ks, cu_seqlen_ke, clean_logits=clean_logits)


def fp8_fp4_paged_mqa_logits(q, kv_cache, weights, context_lens, block_tables, schedule_metadata, max_model_len,
                             clean_logits):
    return _of("fp8_fp4_paged_mqa_logits")(q, kv_cache, weights, context_lens, block_tables, schedule_metadata,
                                           max_model_len, clean_logits=clean_logits)
