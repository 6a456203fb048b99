"""What vLLM's custom operation does with one layer of one step: chunks of prefill, then decode with padded requests."""

from vllm import _custom_ops as ops
from vllm.model_executor.layers.indexer_topk import get_indexer_topk
from vllm.utils.deep_gemm import fp8_fp4_mqa_logits, fp8_fp4_paged_mqa_logits


def sparse_attn_indexer(k_cache_prefix, kv_cache, q_quant, weights, prefill_chunks, decode, topk_tokens, max_model_len,
                        topk_indices_buffer, backend="auto"):
    topk_indices_buffer.fill_(-1)
    for chunk in prefill_chunks:
        rows = slice(chunk["token_start"], chunk["token_end"])
        logits = fp8_fp4_mqa_logits((q_quant[rows], None), (chunk["k_quant"], chunk["k_scale"]), weights[rows],
                                    chunk["cu_seqlen_ks"], chunk["cu_seqlen_ke"], clean_logits=False)
        ops.top_k_per_row_prefill(logits, chunk["cu_seqlen_ks"], chunk["cu_seqlen_ke"],
                                  topk_indices_buffer[rows, :topk_tokens], logits.shape[0], logits.stride(0),
                                  logits.stride(1), topk_tokens)
    if decode is not None:
        batch, next_n = decode["batch"], decode["next_n"]
        rows = batch * next_n
        logits = fp8_fp4_paged_mqa_logits((q_quant[:rows].reshape(batch, next_n, *q_quant.shape[1:]), None),
                                          kv_cache.unsqueeze(-2), weights[:rows], decode["seq_lens"],
                                          decode["block_table"], None, max_model_len=max_model_len, clean_logits=False)
        get_indexer_topk(backend)(logits, decode["seq_lens"], next_n, topk_indices_buffer[:rows, :topk_tokens],
                                  topk_tokens, max_model_len)
    return topk_indices_buffer
