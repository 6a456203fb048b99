"""dsa and misa as one writes them in torch for a CPU: queries, keys and weights in bf16, f32 where the inputs are f32.

torch_eager.py and torch_compiled.py are plug-ins of these functions; cpu_peers.py measures them beside our backend.
Memory traffic: the products [rows, heads, tokens] are written and read again, by torch.compile in one pass.
"""

import torch


def scores_of(q, weights, keys, scales):
    """[M, N] f32: scales[n] * sum over h of weights[m, h] * relu(q[m, h] . keys[n]).

    q [M, H, D] and keys [N, D] of one dtype; weights [M, H]; scales [N] f32, or None for 1. Products and sums over
    heads are rounded to that dtype.
    """
    dots = (q.flatten(0, 1) @ keys.T).unflatten(0, q.shape[:2]).relu_()
    scores = (weights.to(q.dtype)[:, None] @ dots).squeeze(1).float()
    return scores if scales is None else scores * scales


def best_of(scores, hidden, k):
    """[M, k] int64: columns of the k best scores, in any order; -1 where fewer are visible. hidden [M, N] bool."""
    best = scores.masked_fill(hidden, -torch.inf).topk(k, sorted=False)
    return best.indices.masked_fill(best.values == -torch.inf, -1)


def dsa(q, weights, keys, scales, hidden, k):
    return best_of(scores_of(q, weights, keys, scales), hidden, k)


def misa(q, weights, keys, scales, hidden, k, ends, block_size, active):
    """dsa with the `active` heads of the largest energies: sums over block means of |weight * relu(q . mean)|.

    Row m sees the tokens [0, ends[m]); its last block ends there, so that this mean is the row's own. ends [M] int64.
    """
    scaled = keys if scales is None else (keys * scales[:, None]).to(keys.dtype)
    whole = len(keys) // block_size
    means = scaled[: whole * block_size].unflatten(0, (whole, block_size)).mean(1)
    last = (ends - 1) // block_size  # the row's last block
    unseen = torch.arange(whole)[None] >= last[:, None]
    energies = (q.flatten(0, 1) @ means.T).unflatten(0, q.shape[:2]).relu_()
    energies = energies.masked_fill(unseen[:, None], 0).sum(2, dtype=torch.float32)
    begins = last * block_size
    sums = torch.nn.functional.pad(scaled.float().cumsum(0), (0, 0, 1, 0))
    tails = ((sums[ends] - sums[begins]) / (ends - begins)[:, None]).to(q.dtype)
    energies += (q @ tails[:, :, None]).squeeze(2).relu().float()
    heads = (energies * weights.abs()).topk(active, sorted=False).indices
    rows = torch.arange(len(q))[:, None]
    return dsa(q[rows, heads], weights[rows, heads], keys, scales, hidden, k)


class Planned:
    """What follows from windows alone, and so is the same in every layer of a step."""

    def __init__(self, plan, compiled):
        begin, end = (torch.tensor(list(ids), dtype=torch.int64) for ids in (plan.begin, plan.end))
        self.first = int(begin.min())
        self.last = int(end.max())
        token = torch.arange(self.first, self.last)
        self.k = min(plan.top_k, len(token))
        self.pads = plan.top_k - self.k
        self.offsets = (begin - self.first)[:, None]
        hidden = (token < begin[:, None]) | (token >= end[:, None])
        more = (end - self.first, plan.block_size, plan.active_heads) if plan.indexer == "misa" else ()
        function = {"dsa": dsa, "misa": misa}[plan.indexer]
        self.function = torch.compile(function, dynamic=False, fullgraph=True) if compiled else function
        self.fixed = (hidden, self.k, *more)

    def __call__(self, task):
        keys, seen = task.keys, slice(self.first, self.last)
        dtype = torch.float32 if task.queries.dtype == "f32" else torch.bfloat16
        scales = None if keys.scales is None else keys.scales[0, seen]
        found = self.function(task.queries.values.to(dtype), task.queries.weights, keys.values[0, seen].to(dtype),
                              scales, *self.fixed)
        found = torch.where(found < 0, -1, found - self.offsets)
        return torch.nn.functional.pad(found, (0, self.pads), value=-1)


def accepts(step, plan):
    """Contiguous keys; misa with block means, of rows of one sequence."""
    if plan.max_pages > 0 or plan.rows == 0 or min(end - begin for begin, end in zip(plan.begin, plan.end)) < 1:
        return False
    pooled = plan.router in (None, "pooled") and plan.block_window in (None, "visible")
    return plan.indexer == "dsa" or (pooled and len(set(plan.begin)) == 1)


def index(task):
    return task.planned(task)
