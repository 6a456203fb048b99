"""SGLang's selecting methods by name, argument and result. `fused` maps ids to slots, as its fusion does."""

import torch

from .utils import resolve_fp8_mqa_logits_fn, resolve_fp8_paged_mqa_logits_fn


class Indexer:
    index_topk = 16

    def __init__(self, fused=False, rows_of_chunk=1 << 30):
        self.fused, self.rows_of_chunk = fused, rows_of_chunk

    def _transform(self, logits, lengths, starts, tables, size):
        ids = torch.full((len(logits), self.index_topk), -1, dtype=torch.int32)
        for row, (start, length) in enumerate(zip(starts, lengths)):
            best = torch.topk(logits[row, start : start + length], min(self.index_topk, length)).indices.int()
            if self.fused:
                best = tables[row][best.long() // size] * size + best % size
            ids[row, : len(best)] = best
        return ids

    def _get_topk_paged(self, forward_batch, layer_id, q_fp8, weights, metadata):
        size = metadata["page_size"]
        kv_cache = metadata["cache"].view(-1, size, 1, q_fp8.shape[-1] + 4)
        lengths, tables = metadata["seqlens"], metadata["page_table"]
        score = resolve_fp8_paged_mqa_logits_fn()
        logits = score(q_fp8.unsqueeze(1), kv_cache, weights.squeeze(2), lengths.unsqueeze(-1), tables, None,
                       tables.shape[1] * size, clean_logits=False)
        return self._transform(logits, lengths.tolist(), [0] * len(lengths), tables, size)

    def _get_topk_ragged(self, enable_dual_stream, forward_batch, layer_id, q_fp8, weights, metadata, topk_result=None):
        ks, ke = metadata["ks"], metadata["ke"]
        result = torch.full((len(q_fp8), self.index_topk), -1, dtype=torch.int32)
        for start in range(0, len(ks), self.rows_of_chunk):
            rows = slice(start, min(start + self.rows_of_chunk, len(ks)))
            score = resolve_fp8_mqa_logits_fn()
            logits = score(q_fp8[rows], metadata["kv"], weights.squeeze(-1)[rows], ks[rows], ke[rows],
                           clean_logits=False)
            result[rows] = self._transform(logits, (ke - ks)[rows].tolist(), ks[rows].tolist(),
                                           metadata.get("row_tables"), metadata.get("page_size", 64))
        return result
