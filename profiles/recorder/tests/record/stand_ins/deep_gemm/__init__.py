"""A stand-in for DeepGEMM: its scoring functions by name, argument and result, in f32 on the CPU.

What lies outside a row's window is not cleaned: it holds numbers that a selection must never see.
"""

import torch

GARBAGE = 1e30


def _score(q, keys, scales, weights):
    products = torch.einsum("hd,nd->hn", q.float(), keys.float()).relu()
    return torch.einsum("hn,h->n", products, weights.float()) * scales


def fp8_fp4_mqa_logits(q, kv, weights, cu_seq_len_k_start, cu_seq_len_k_end, clean_logits=True, max_seqlen_k=0,
                       logits_dtype=torch.float32):
    queries, _ = q
    keys, scales = kv
    columns = max_seqlen_k or len(keys)
    logits = torch.full((len(queries), columns), -torch.inf if clean_logits else GARBAGE)
    for row, (begin, end) in enumerate(zip(cu_seq_len_k_start.tolist(), cu_seq_len_k_end.tolist())):
        at = 0 if max_seqlen_k else begin
        logits[row, at : at + end - begin] = _score(queries[row], keys[begin:end], scales[begin:end], weights[row])
    return logits.to(logits_dtype)


def fp8_fp4_paged_mqa_logits(q, kv_cache, weights, context_lens, block_table, schedule_meta, max_context_len,
                             clean_logits=False, logits_dtype=torch.float32, indices=None):
    queries, _ = q
    batch, next_n, _, dim = queries.shape
    size = kv_cache.shape[1]
    logits = torch.full((batch * next_n, max_context_len), GARBAGE)
    for row in range(batch * next_n):
        sequence, j = divmod(row, next_n)
        lengths = context_lens[sequence].reshape(-1).tolist()
        length = lengths[j] if len(lengths) == next_n else lengths[0] - next_n + j + 1
        if length <= 0:
            continue
        pages = kv_cache[block_table[sequence, : -(-length // size)].long()].reshape(-1, size * (dim + 4))
        keys = pages[:, : size * dim].contiguous().view(torch.float8_e4m3fn).view(-1, dim)[:length]
        scales = pages[:, size * dim :].contiguous().view(torch.float32).reshape(-1)[:length]
        logits[row, :length] = _score(queries[sequence, j], keys, scales, weights[row])
    return logits.to(logits_dtype)


def fp8_mqa_logits(q, kv, weights, cu_seq_len_k_start, cu_seq_len_k_end, clean_logits=True, max_seqlen_k=0):
    return fp8_fp4_mqa_logits((q, None), kv, weights, cu_seq_len_k_start, cu_seq_len_k_end, clean_logits, max_seqlen_k)


def fp8_paged_mqa_logits(q, kv_cache, weights, context_lens, block_table, schedule_meta, max_context_len,
                         clean_logits=False, indices=None):
    return fp8_fp4_paged_mqa_logits((q, None), kv_cache, weights, context_lens, block_table, schedule_meta,
                                    max_context_len, clean_logits, indices=indices)
