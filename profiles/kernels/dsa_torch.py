"""DSA in torch, on the CPU, as a program of its own: it reads a trace and writes what it selects.

    misa-prof compare --backend exec:'python3 dsa_torch.py {trace} {selection}'

Needs torch and the package misa_trace (profiles/recorder).
"""

import sys

import misa_trace
import torch


def dsa(trace, k):
    """[Q, k] int32: the tokens of the k best scores of each row, counted from ks; -1 where a row sees fewer."""
    trace = misa_trace.contiguous(trace)
    q, weights, keys = trace.q.torch().float(), trace.weights.torch(), trace.k.torch().float()
    scales = torch.ones(len(keys)) if trace.k_scale is None else torch.from_numpy(trace.key_scales()).float()
    chosen = torch.full((len(q), k), -1, dtype=torch.int32)
    for row, (begin, end) in enumerate(zip(*trace.windows())):
        dots = (q[row] @ keys[begin:end].T).relu()
        scores = (weights[row] @ dots) * scales[begin:end]
        best = scores.topk(min(k, end - begin)).indices
        chosen[row, : len(best)] = best.sort().values
    return chosen


def main():
    trace = misa_trace.read_trace(sys.argv[1])
    misa_trace.write_selection(sys.argv[2], dsa(trace, trace.top_k), trace=trace, arithmetic="f32")


if __name__ == "__main__":
    main()
