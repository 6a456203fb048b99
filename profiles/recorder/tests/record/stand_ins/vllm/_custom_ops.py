"""vLLM's selections: ids count from the row's first key, in no order, and the rest of the buffer stays -1."""

import torch


def _select(scores, ids, top_k):
    best = torch.topk(scores, min(top_k, len(scores))).indices
    ids[: len(best)] = best[torch.randperm(len(best))].int()


def top_k_per_row_prefill(logits, cu_seqlen_ks, cu_seqlen_ke, topk_indices, num_rows, stride0, stride1, topk_tokens):
    for row in range(num_rows):
        _select(logits[row, cu_seqlen_ks[row] : cu_seqlen_ke[row]], topk_indices[row], topk_tokens)


def top_k_per_row_decode(logits, next_n, seq_lens, topk_indices, num_rows, stride0, stride1, topk_tokens):
    lengths = seq_lens.reshape(-1)
    for row in range(num_rows):
        if len(lengths) == num_rows:
            length = int(lengths[row])
        else:
            length = int(lengths[row // next_n]) - next_n + row % next_n + 1
        _select(logits[row, :length], topk_indices[row], topk_tokens)
