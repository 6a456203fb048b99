"""Attention to what an indexer selects, with our kernels in the model (docs/drop-in.md)."""

import math

import torch

import misa

from .model import quantise

ROWS = 4096  # that are selected for at once
PIECE = 256  # rows whose selected keys are gathered at once


def attend_to(q, k, v, ids):
    """The attention of rows to their selected tokens: q [heads, M, D], k, v [heads, N, D], ids [M, K] with -1 for none."""
    out = []
    for first in range(0, len(ids), PIECE):
        some = ids[first : first + PIECE].long()
        keys, values = (x[:, some.clamp(min=0)] for x in (k, v))
        logits = torch.einsum("hmd,hmkd->hmk", q[:, first : first + PIECE], keys).float() * q.shape[-1] ** -0.5
        shares = logits.masked_fill(some < 0, -math.inf).softmax(-1).to(v.dtype)
        out.append(torch.einsum("hmk,hmkd->hmd", shares, values))
    return torch.cat(out, dim=1)


class Selecting:
    """The attention of global layers (Model.forward) where `name` of misa.Indexer selects. With `reuse`, every second global layer takes
    the selection of the one before."""

    def __init__(self, indexers, config, heads, name, reuse=False, **settings):
        self.indexers, self.config, self.heads, self.reuse = indexers, config, heads, reuse
        self.select = misa.Indexer(name, heads, config.index_dim, config.top_k, dtype="float8_e4m3fn", **settings)
        self.windows, self.last = {}, None
        self.taken = None  # a list: what was selected, by layer, is put there

    def windows_of(self, first, last):
        if (first, last) not in self.windows:
            self.windows[first, last] = misa.Windows([0] * (last - first), range(first + 1, last + 1))
        return self.windows[first, last]

    @torch.no_grad()
    def ids(self, layer, hidden):
        indexer, count = self.indexers[f"{layer}-{self.heads}"], len(hidden)
        positions = torch.arange(count, device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            keys = quantise(indexer.keys(hidden))
            found = []
            for first in range(0, count, ROWS):
                rows = positions[first : first + ROWS]
                q, weights = indexer.queries(hidden[rows], rows)
                values, scales = quantise(q)
                found.append(self.select(values.contiguous(), (weights * scales).contiguous(), keys,
                                         self.windows_of(first, first + len(rows))))
        return torch.cat(found)

    def __call__(self, layer, hidden, q, k, v):
        assert len(hidden) == 1, "one sequence at a time"
        reused = self.reuse and self.config.global_layers().index(layer) % 2 == 1
        if not reused:
            self.last = self.ids(layer, hidden[0])
        if self.taken is not None:
            self.taken.append((layer, self.last))
        return attend_to(q[0], k[0], v[0], self.last)[None]
