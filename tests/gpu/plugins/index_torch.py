"""DSA as a whole in torch, over contiguous keys: what plugins.sh plans, runs and captures as one step."""

import torch

name, arithmetic, device = "torch-dsa", "f32", "cuda"
any_order = True
ROWS = 32  # of which all heads' scores are in memory at a time


def accepts(step, plan):
    return plan.max_pages == 0


def plan(plan):
    return torch.arange(plan.pages * plan.page_size, device="cuda")


def index(task):
    tokens, k, windows = task.planned, task.plan.top_k, task.windows
    q, weights, keys = task.queries.numbers(), task.queries.weights, task.keys.numbers()[0]
    for first in range(0, len(q), ROWS):
        rows = slice(first, first + ROWS)
        dots = (q[rows].flatten(0, 1) @ keys.T).relu_().unflatten(0, (-1, task.queries.heads))
        scores = (weights[rows].unsqueeze(1) @ dots).squeeze(1)
        if task.keys.scales is not None:
            scores *= task.keys.scales[0]
        begin, end = windows.begin[rows, None], windows.end[rows, None]
        scores.masked_fill_((tokens < begin) | (tokens >= end), float("-inf"))
        best = scores.topk(min(k, len(tokens)))
        found = torch.where(best.values == float("-inf"), -1, best.indices - begin)
        task.tokens[rows] = -1
        task.tokens[rows, : found.shape[1]] = found
