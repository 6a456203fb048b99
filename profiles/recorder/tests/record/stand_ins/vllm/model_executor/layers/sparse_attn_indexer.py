"""What vLLM's custom operation (0.33) does with one layer of one step: chunks of prefill, then decode.

`packed` is what it does on SM100: queries with unit scales, bf16 weights, scores that are converted to f32.
"""

import torch

from vllm import _custom_ops as ops
from vllm.model_executor.layers.indexer_topk import get_indexer_topk
from vllm.utils.deep_gemm import fp8_fp4_mqa_logits, fp8_fp4_paged_mqa_logits


def _inputs(q, weights, packed):
    if not packed:
        return None, weights
    return torch.full(q.shape[:-1], 0x7F7F7F7F, dtype=torch.int32), weights.bfloat16()


def sparse_attn_indexer(k_cache_prefix, kv_cache, q_quant, weights, prefill_chunks, decode, topk_tokens, max_model_len,
                        topk_indices_buffer, topk_backend="auto", packed=False):
    topk_indices_buffer.fill_(-1)
    for chunk in prefill_chunks:
        rows = slice(chunk["token_start"], chunk["token_end"])
        cu_seqlen_ks, cu_seqlen_ke = chunk["cu_seqlen_ks"], chunk["cu_seqlen_ke"]
        q_scale, chunk_weights = _inputs(q_quant[rows], weights[rows], packed)
        row_ends = cu_seqlen_ke - cu_seqlen_ks
        logits = fp8_fp4_mqa_logits((q_quant[rows], q_scale), (chunk["k_quant"], chunk["k_scale"]), chunk_weights,
                                    cu_seqlen_ks, cu_seqlen_ke, int(row_ends.max())).float()
        ops.top_k_per_row_prefill(logits, torch.zeros_like(row_ends), row_ends, topk_indices_buffer[rows, :topk_tokens],
                                  logits.shape[0], logits.stride(0), logits.stride(1), topk_tokens)
    if decode is not None:
        batch, next_n = decode["batch"], decode["next_n"]
        rows = batch * next_n
        padded = q_quant[:rows].reshape(batch, next_n, *q_quant.shape[1:])
        q_scale, decode_weights = _inputs(padded, weights[:rows], packed)
        logits = fp8_fp4_paged_mqa_logits((padded, q_scale), kv_cache.unsqueeze(-2), decode_weights, decode["seq_lens"],
                                          decode["block_table"], None, max_model_len=max_model_len,
                                          indices=torch.arange(batch) if packed else None).float()
        get_indexer_topk(topk_backend)(logits, decode["seq_lens"], next_n, topk_indices_buffer[:rows, :topk_tokens],
                                       topk_tokens, max_model_len)
    return topk_indices_buffer
