#!/usr/bin/env python3
"""MISA's published speed-up, on a bf16 path of our own in the style of the release, and ours in the same run: docs/paper.md.

usage: paper.py [--bin DIR] [-o FILE] [ROWSxKEYS...]      default: 1024 and 2048 rows x 65536 and 131072 keys

The bf16 path: block means of the keys, a kernel for the heads' energies, torch.topk and torch.gather for the 8 heads,
torch.full(-inf) and one kernel for the logits (64 heads for DSA, 8 for MISA), torch.topk for the 2048 tokens. Both
kernels are written here, in Triton. Needs torch and triton; ours is misa-prof of DIR (build/gpu/bin).
"""
import argparse
import json
import pathlib
import sys

import torch
import triton
import triton.language as tl

import ours
from timing import interleaved

HEADS, ACTIVE, DIM, BLOCK, K = 64, 8, 128, 1024, 2048
SHAPES = ["1024x65536", "2048x65536", "1024x131072", "2048x131072"]
WORKLOADS = {65536: pathlib.Path(__file__).with_name("prefill-64k.toml"), 131072: "prefill-128k"}


@triton.jit
def logits_kernel(q, keys, weights, begin, end, out, stride, columns, HEADS: tl.constexpr, DIM: tl.constexpr,
                  ROWS: tl.constexpr, TOKENS: tl.constexpr):
    """out[m, n] = sum_h weights[m, h] relu(q[m, h] . keys[n]): ROWS rows a program, tiles of TOKENS keys, its share of them."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    pairs = tl.program_id(0) * ROWS * HEADS + tl.arange(0, ROWS * HEADS)
    dims = tl.arange(0, DIM)
    queries = tl.trans(tl.load(q + pairs[:, None] * DIM + dims[None, :]))
    gates = tl.load(weights + pairs).to(tl.float32)
    first, last = tl.load(begin + rows), tl.load(end + rows)
    share = tl.cdiv(tl.cdiv(columns, TOKENS), tl.num_programs(1)) * TOKENS
    start = tl.maximum(tl.min(first), tl.program_id(1) * share)
    stop = tl.minimum(tl.max(last), (tl.program_id(1) + 1) * share)
    for from_token in range(start, stop, TOKENS):
        tokens = from_token + tl.arange(0, TOKENS)
        tile = tl.load(keys + tokens[:, None] * DIM + dims[None, :], mask=tokens[:, None] < columns, other=0.0)
        scores = tl.maximum(tl.dot(tile, queries), 0.0) * gates[None, :]
        sums = tl.sum(tl.reshape(scores, [TOKENS, ROWS, HEADS]), 2)
        seen = (tokens[:, None] >= first[None, :]) & (tokens[:, None] < last[None, :]) & (tokens[:, None] < stop)
        tl.store(out + rows[None, :].to(tl.int64) * stride + tokens[:, None], sums, mask=seen)


@triton.jit
def energies_kernel(q, means, weights, end, out, BLOCK: tl.constexpr, HEADS: tl.constexpr, DIM: tl.constexpr,
                    MEANS: tl.constexpr):
    """out[m, h] = |weights[m, h]| sum_b relu(q[m, h] . means[b]) over the blocks that row m sees."""
    row = tl.program_id(0)
    heads, dims = tl.arange(0, HEADS), tl.arange(0, DIM)
    queries = tl.load(q + (row * HEADS + heads[:, None]) * DIM + dims[None, :])
    seen = tl.cdiv(tl.load(end + row), BLOCK)
    total = tl.zeros([HEADS], tl.float32)
    for start in range(0, seen, MEANS):
        blocks = start + tl.arange(0, MEANS)
        tile = tl.load(means + blocks[None, :] * DIM + dims[:, None], mask=blocks[None, :] < seen, other=0.0)
        total += tl.sum(tl.maximum(tl.dot(queries, tile), 0.0), 1)
    gates = tl.load(weights + row * HEADS + heads).to(tl.float32)
    tl.store(out + row * HEADS + heads, total * tl.abs(gates))


def logits(q, keys, weights, begin, end, split):
    rows, heads, dim = q.shape
    out = torch.full((rows, len(keys)), float("-inf"), device="cuda")
    rows_each, tokens = 128 // heads, 128 if heads == HEADS else 64
    grid = (rows // rows_each, max(1, 4 * 132 * rows_each // rows) if split else 1)
    logits_kernel[grid](q, keys, weights, begin, end, out, out.stride(0), len(keys), heads, dim, rows_each, tokens,
                        num_warps=8 if heads == HEADS else 4, num_stages=3)
    return out


class Bf16:
    """Normal numbers, as the release's own timing draws them; the last `rows` rows of a prefill over `count` keys."""

    def __init__(self, rows, count, split=False):
        self.q = torch.randn(rows, HEADS, DIM, device="cuda").bfloat16()
        self.keys = torch.randn(count, DIM, device="cuda").bfloat16()
        self.weights = torch.randn(rows, HEADS, device="cuda").bfloat16()
        self.begin = torch.zeros(rows, dtype=torch.int32, device="cuda")
        self.end = torch.arange(count - rows + 1, count + 1, dtype=torch.int32, device="cuda")
        self.split = split

    def dsa_logits(self):
        return logits(self.q, self.keys, self.weights, self.begin, self.end, self.split)

    def routed(self):
        """Queries and weights of each row's 8 heads."""
        means = self.keys.view(-1, BLOCK, DIM).mean(1)
        energies = torch.empty(self.weights.shape, device="cuda")
        energies_kernel[(len(self.q),)](self.q, means, self.weights, self.end, energies, BLOCK, HEADS, DIM, 64)
        heads = torch.topk(energies, ACTIVE, dim=-1, sorted=False).indices
        return (torch.gather(self.q, 1, heads[:, :, None].expand(-1, -1, DIM)), torch.gather(self.weights, 1, heads))

    def misa_logits(self):
        q, weights = self.routed()
        return logits(q, self.keys, weights, self.begin, self.end, self.split)

    def top(self, scores):
        tokens = torch.topk(scores, K, dim=-1, sorted=False).indices.to(torch.int32)
        seen = (tokens >= self.begin[:, None]) & (tokens < self.end[:, None])
        return torch.where(seen, tokens, -1) - self.begin[:, None]

    def check(self):
        """Both kernels against the formulas, in double, on the first two rows."""
        rows = slice(0, 2)
        dots = torch.einsum("mhd,nd->mhn", self.q[rows].double(), self.keys.double()).clamp_(min=0)
        wanted = (dots * self.weights[rows].double()[:, :, None]).sum(1)
        found = self.dsa_logits()[rows]
        for row in range(2):
            seen = int(self.end[row])
            off = (found[row, :seen].double() - wanted[row, :seen]).abs().max() / wanted.abs().max()
            if not off < 1e-4 or not bool(torch.isinf(found[row, seen:]).all()):
                raise SystemExit(f"paper.py: the logits are not the formula: off by {off:.1e} of the largest")
        q, weights = self.routed()
        routed = (torch.einsum("mhd,nd->mhn", q[rows].double(), self.keys.double()).clamp_(min=0) *
                  weights[rows].double()[:, :, None]).sum(1)
        off = (self.misa_logits()[0, :int(self.end[0])].double() - routed[0, :int(self.end[0])]).abs().max()
        if not off / routed.abs().max() < 1e-4:
            raise SystemExit("paper.py: the routed logits are not the formula")


def measured(rows, count, folder):
    mine = [ours.end_to_end(folder, WORKLOADS[count], rows)]
    report = {"rows": rows, "keys": count, "bf16": {}}
    for style in ("release", "split"):
        path = Bf16(rows, count, style == "split")
        path.check()
        times = interleaved({"dsa logits": path.dsa_logits, "dsa": lambda: path.top(path.dsa_logits()), "router": path.routed,
                             "misa logits": path.misa_logits, "misa": lambda: path.top(path.misa_logits())})
        times["ratio"] = times["dsa"] / times["misa"]
        times["ratio of logits"] = times["dsa logits"] / times["misa logits"]
        report["bf16"][style] = times
    mine.append(ours.end_to_end(folder, WORKLOADS[count], rows))
    ours_us = {name: sum(run[name] for run in mine) / len(mine) for name in mine[0]}
    report["ours"] = {**ours_us, "ratio": ours_us["dsa"] / ours_us["misa"], "runs": mine}
    return report


def table(reports):
    lines = ["| rows x keys | path | DSA, us | of it indexer | MISA, us | of it routing | of it indexer | indexer, DSA / MISA |"
             " with top-k | ours faster by: DSA, MISA |", "|---|---|---|---|---|---|---|---|---|---|"]
    for one in reports:
        shape = f"{one['rows']} x {one['keys'] // 1024}K"
        for style, t in one["bf16"].items():
            lines.append(f"| {shape} | bf16, {style} | {t['dsa']:.0f} | {t['dsa logits']:.0f} | {t['misa']:.0f} | "
                         f"{t['router']:.0f} | {t['misa logits']:.0f} | {t['ratio of logits']:.2f}x | {t['ratio']:.2f}x | "
                         f"{t['dsa'] / one['ours']['dsa']:.2f}x, {t['misa'] / one['ours']['misa']:.2f}x |")
        o = one["ours"]
        lines.append(f"| {shape} | ours, FP8 | {o['dsa']:.0f} | | {o['misa']:.0f} | | | | {o['ratio']:.2f}x | |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, default=ours.ROOT / "build/gpu/bin")
    parser.add_argument("-o", "--output", type=pathlib.Path)
    parser.add_argument("shapes", nargs="*", default=SHAPES, metavar="ROWSxKEYS")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("paper.py: torch sees no GPU")
    torch.manual_seed(42)
    reports = [measured(*map(int, shape.split("x")), options.bin) for shape in options.shapes]
    print(f"{torch.cuda.get_device_name()}; torch {torch.__version__}, triton {triton.__version__}\n")
    print(table(reports))
    if options.output:
        options.output.write_text(json.dumps({"device": torch.cuda.get_device_name(), "shapes": reports}, indent=1) + "\n")


if __name__ == "__main__":
    main()
