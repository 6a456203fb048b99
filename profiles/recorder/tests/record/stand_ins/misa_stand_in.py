"""What the stand-ins compute: scores in f32 on the device of their inputs.

What lies outside a row's window is not cleaned: it holds numbers that a selection must never see.
"""

import torch

GARBAGE = 1e30


def scale_of(words):
    """Scales as they are, or those of words of UE8M0 bytes, the first of which counts here."""
    if words.dtype != torch.int32:
        return words
    codes = words.contiguous().view(torch.uint8).reshape(*words.shape, 4)[..., 0]
    return 2.0 ** (codes.float() - 127)


def score(q, keys, scales, weights):
    products = torch.einsum("hd,nd->hn", q.float(), keys.float()).relu()
    return torch.einsum("hn,h->n", products, weights.float()) * scales


def contiguous(q, kv, weights, ks, ke, columns=0, dtype=torch.float32):
    """[M, N], or [M, columns] counted from ks."""
    (queries, q_scale), (keys, k_scale) = q, kv
    if q_scale is not None:
        weights = weights.float() * scale_of(q_scale)
    logits = torch.full((len(queries), columns or len(keys)), GARBAGE, device=queries.device)
    for row, (begin, end) in enumerate(zip(ks.tolist(), ke.tolist())):
        at = 0 if columns else begin
        scales = scale_of(k_scale[begin:end])
        logits[row, at : at + end - begin] = score(queries[row], keys[begin:end], scales, weights[row])
    return logits.to(dtype)


def paged(q, kv_cache, weights, context_lens, block_table, longest, dtype=torch.float32):
    """[B * next_n, longest]."""
    queries, q_scale = q
    batch, next_n, heads, dim = queries.shape
    if q_scale is not None:
        weights = weights.float() * scale_of(q_scale.reshape(-1, heads))
    size = kv_cache.shape[1]
    logits = torch.full((batch * next_n, longest), GARBAGE, device=queries.device)
    for row in range(batch * next_n):
        sequence, j = divmod(row, next_n)
        lengths = context_lens[sequence].reshape(-1).tolist()
        length = lengths[j] if len(lengths) == next_n else lengths[0] - next_n + j + 1
        if length <= 0:
            continue
        pages = kv_cache[block_table[sequence, : -(-length // size)].long()].reshape(-1, size * (dim + 4))
        keys = pages[:, : size * dim].contiguous().view(torch.float8_e4m3fn).view(-1, dim)[:length]
        words = pages[:, size * dim :].contiguous().view(torch.float32 if q_scale is None else torch.int32)
        logits[row, :length] = score(queries[sequence, j], keys, scale_of(words.reshape(-1)[:length]), weights[row])
    return logits.to(dtype)
