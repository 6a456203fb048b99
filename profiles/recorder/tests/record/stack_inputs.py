"""Drawn inputs of a serving stack: sequences of FP8 keys with scales, queries and weights, and a paged cache."""

import numpy as np
import torch

DIM, HEADS, PAGE = 32, 4, 4


class Drawn:
    """Sequences of `lengths` tokens. Their pages lie scattered in a cache whose unused bytes are anything."""

    def __init__(self, lengths, seed=1):
        self.draw = torch.Generator().manual_seed(seed)
        self.keys = [self.normal(length, DIM).to(torch.float8_e4m3fn) for length in lengths]
        self.scales = [torch.rand(length, generator=self.draw) * 0.01 + 0.01 for length in lengths]
        blocks = [-(-length // PAGE) for length in lengths]
        pages = torch.randperm(sum(blocks) + 3, generator=self.draw)[: sum(blocks)].split(blocks)
        self.table = torch.zeros(len(lengths), max(blocks), dtype=torch.int32)
        for row, numbers in zip(self.table, pages):
            row[: len(numbers)] = numbers
        self.cache = torch.randint(256, (sum(blocks) + 3, PAGE, DIM + 4), generator=self.draw, dtype=torch.uint8)

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.draw) * 2

    def queries(self, rows):
        return self.normal(rows, HEADS, DIM).to(torch.float8_e4m3fn), self.normal(rows, HEADS)

    def fill(self, lengths):
        """Writes the first tokens of each sequence into the cache, as a step of decoding does."""
        flat = self.cache.view(len(self.cache), -1)
        for sequence, length in enumerate(lengths):
            for token in range(length):
                page, slot = int(self.table[sequence, token // PAGE]), token % PAGE
                flat[page, slot * DIM : (slot + 1) * DIM] = self.keys[sequence][token].view(torch.uint8)
                at = PAGE * DIM + 4 * slot
                flat[page, at : at + 4] = self.scales[sequence][token : token + 1].view(torch.uint8)

    def gathered(self, lengths):
        """k, k_scale of the first tokens of each sequence, one behind another, and where each begins."""
        keys = torch.cat([k[:n].view(torch.uint8) for k, n in zip(self.keys, lengths)]).view(torch.float8_e4m3fn)
        scales = torch.cat([s[:n] for s, n in zip(self.scales, lengths)])
        begins = [sum(lengths[:i]) for i in range(len(lengths))]
        return keys, scales, begins

    def windows(self, begins, positions):
        """ks, ke of rows at positions [[...] of each sequence]."""
        ks = [begin for begin, rows in zip(begins, positions) for _ in rows]
        ke = [begin + position + 1 for begin, rows in zip(begins, positions) for position in rows]
        return torch.tensor(ks, dtype=torch.int32), torch.tensor(ke, dtype=torch.int32)


def check_selection(trace, ids, top_k):
    """The recorded ids are the stack's, and no token that they leave out has a larger score in the trace. Ties are
    common, for a score is 0 where every head's product is negative."""
    assert trace.topk is not None and trace.topk.shape == tuple(ids.shape)
    for row, (recorded, given) in enumerate(zip(trace.topk.data, ids.tolist())):
        kept = sorted(token for token in given if token >= 0)
        assert sorted(token for token in recorded.tolist() if token >= 0) == kept
        scores = trace.scores(row)
        best = np.sort(scores)[::-1][:top_k]
        np.testing.assert_allclose(np.sort(scores[kept])[::-1], best, rtol=1e-5, atol=1e-5)
