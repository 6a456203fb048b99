"""SGLang's selecting methods by name, argument and result. `fused` maps ids to slots, as its fusion does."""

import torch

from .utils import resolve_fp8_mqa_logits_fn, resolve_fp8_paged_mqa_logits_fn


class Metadata(dict):
    """Made anew for each step."""

    def topk_transform(self, logits, topk, ks=None, ke_offset=None):
        lengths = (self["seqlens"] if ke_offset is None else ke_offset).tolist()
        starts = [0] * len(lengths) if ks is None else ks.tolist()
        ids = torch.full((len(logits), topk), -1, dtype=torch.int32)
        for row, (start, length) in enumerate(zip(starts, lengths)):
            best = torch.topk(logits[row, start : start + length], min(topk, length)).indices.int()
            if self.get("fused"):
                size, table = self["page_size"], self["page_table"][row]
                best = table[best.long() // size] * size + best % size
            ids[row, : len(best)] = best
        return ids


class Indexer:
    index_topk = 16

    def __init__(self, rows_of_chunk=1 << 30):
        self.rows_of_chunk = rows_of_chunk

    def _get_topk_paged(self, forward_batch, layer_id, q_fp8, weights, metadata):
        size = metadata["page_size"]
        kv_cache = metadata["cache"].view(-1, size, 1, q_fp8.shape[-1] + 4)
        lengths, tables = metadata["seqlens"], metadata["page_table"]
        score = resolve_fp8_paged_mqa_logits_fn()
        logits = score(q_fp8.unsqueeze(1), kv_cache, weights.squeeze(2), lengths.unsqueeze(-1), tables, None,
                       tables.shape[1] * size, clean_logits=False)
        return metadata.topk_transform(logits, self.index_topk)

    def _get_topk_ragged(self, enable_dual_stream, forward_batch, layer_id, q_fp8, weights, metadata, topk_result=None):
        ks, ke = metadata["ks"], metadata["ke"]
        result = torch.full((len(q_fp8), self.index_topk), -1, dtype=torch.int32)
        for start in range(0, len(ks), self.rows_of_chunk):
            rows = slice(start, min(start + self.rows_of_chunk, len(ks)))
            score = resolve_fp8_mqa_logits_fn()
            logits = score(q_fp8[rows], metadata["kv"], weights.squeeze(-1)[rows], ks[rows], ke[rows],
                           clean_logits=False)
            result[rows] = metadata.topk_transform(logits, self.index_topk, ks=ks[rows], ke_offset=(ke - ks)[rows])
        return result
