#!/usr/bin/env python3
"""The public kernels of each stage beside ours, in one run on one GPU.

usage: peers.py [--bin DIR] [-o FILE] [--only STAGE,...]      stages: score, decode, select, end-to-end

Peers (requirements.txt) are timed if they can be imported: DeepGEMM in SGLang's packaging, FlashInfer's top-k, SGLang's
topk_v2, torch.topk. Ours are misa-stages-bench and misa-prof of DIR (build/gpu/bin), run before and after the peers; the
peers of one shape take turns, and so do our scores, selections and whole indexers where DIR has libmisa_kernels.so: a device
that has worked for long is slower. Inputs have the
same shapes and distributions as ours and are, as ours, reused: prefill keys are warm in L2, decoded keys do not fit into it.
Where a peer cannot run, its figure of an earlier run on an H200 stands in, and the table says so.
Status 1: a peer's result is not what the formula gives. Needs torch; installs nothing; DeepGEMM and FlashInfer compile.
"""
import argparse
import concurrent.futures
import importlib
import importlib.metadata
import json
import pathlib
import subprocess
import sys
import time

import torch

import ours
from timing import interleaved

DIM, PAGE, K = 128, 64, 2048
SCORES = [(64, 1024, 8192), (64, 1024, 32768), (64, 1024, 65536), (64, 1024, 131072), (64, 2048, 131072),
          (64, 4096, 131072), (32, 1024, 131072)]
DECODES = [(64, 32, 65536, 1), (64, 32, 65536, 2)]
SELECTS = [(1024, 8192, K), (1024, 32768, K), (1024, 131072, K), (1024, 131072, 8192), (1, 131072, K), (32, 65536, K),
           (64, 131072, K)]
INDEXERS = ("dsa", "misa", "misa-lr-dagger")
PREFILL = (1024, 131072)
PREFILLS = [(1024, 32768), PREFILL]

# Microseconds on an H200 (driver 580, CUDA 13.0, DeepGEMM 54e2261, torch 2.11), for where a peer cannot run.
EARLIER = {("deep_gemm", "score", 64, 1024, 8192): 132, ("deep_gemm", "score", 64, 1024, 32768): 506,
           ("deep_gemm", "score", 64, 1024, 65536): 999, ("deep_gemm", "score", 64, 1024, 131072): 2150,
           ("deep_gemm", "score", 64, 2048, 131072): 4530, ("deep_gemm", "score", 32, 1024, 131072): 1230,
           ("deep_gemm + torch", "end-to-end", *PREFILL): 3770}
SHAPES = {"score": SCORES, "decode": DECODES, "select": SELECTS, "end-to-end": PREFILLS}


def imported(name, package):
    """The module, or None, and its version or why there is none."""
    try:
        return importlib.import_module(name), importlib.metadata.version(package)
    except Exception as problem:  # a wheel for another torch fails in ways of its own
        return None, f"cannot be imported: {type(problem).__name__}: {str(problem).splitlines()[0][:200]}"


def e4m3(*shape):
    """Normal numbers, as misa-stages-bench draws them."""
    return (torch.randn(*shape, device="cuda") * 100).clamp_(-448, 448).to(torch.float8_e4m3fn)


def as_torch(tensor):
    return tensor if isinstance(tensor, torch.Tensor) else torch.from_dlpack(tensor)


def formula(q, weights, keys, scales):
    """What a score is, in double: [rows, keys]."""
    dots = torch.einsum("mhd,nd->mhn", q.double(), keys.double()).clamp_(min=0)
    return (dots * weights.double()[:, :, None]).sum(1) * scales.double()


def check(what, found, wanted):
    off = ((found.double() - wanted).abs().max() / wanted.abs().max()).item()
    if not off < 1e-3:
        raise SystemExit(f"{what} is not the formula: it is off by {off:.2e} of the largest score")


class Prefill:
    def __init__(self, gemm, heads, rows, keys):
        self.q, self.keys = e4m3(rows, heads, DIM), e4m3(keys, DIM)
        self.weights = torch.randn(rows, heads, device="cuda")
        self.scales = torch.full((keys,), 0.01, device="cuda")
        self.begin = torch.zeros(rows, dtype=torch.int32, device="cuda")
        self.end = torch.full((rows,), keys, dtype=torch.int32, device="cuda")
        self.gemm = gemm

    def score(self, packed=False):
        """[rows, keys]; `packed`: without gaps between rows, as FlashInfer wants them."""
        return as_torch(self.gemm.fp8_mqa_logits(self.q, (self.keys, self.scales), self.weights, self.begin, self.end,
                                                 clean_logits=False, max_seqlen_k=len(self.keys) if packed else 0))

    def works(self, folder):
        """DeepGEMM's scores, and ours where there is our library."""
        found = {"deep_gemm": self.score,
                 "ours": ours.scorer(folder, self.q, self.weights, self.keys, self.scales, self.begin, self.end)}
        found = {name: work for name, work in found.items() if work is not None}
        wanted = formula(self.q[:4], self.weights[:4], self.keys[:4096], self.scales[:4096])
        for name, work in found.items():
            check(f"{name}'s score", work()[:4, :4096], wanted)
        return found


class Decode:
    def __init__(self, gemm, heads, batch, length, next_n):
        pages = batch * length // PAGE
        self.keys = e4m3(pages, PAGE * DIM)
        cache = torch.empty(pages, PAGE * (DIM + 4), dtype=torch.uint8, device="cuda")
        cache[:, :PAGE * DIM] = self.keys.view(torch.uint8)
        cache[:, PAGE * DIM:] = torch.full((pages, PAGE), 0.01, device="cuda").view(torch.uint8)
        self.cache = cache.view(pages, PAGE, 1, DIM + 4)
        self.table = ((torch.arange(pages, device="cuda") * 7919) % pages).to(torch.int32).view(batch, -1)
        self.q = e4m3(batch, next_n, heads, DIM)
        self.weights = torch.randn(batch * next_n, heads, device="cuda")
        self.gemm, self.length = gemm, length
        ends = torch.arange(length - next_n + 1, length + 1, dtype=torch.int32, device="cuda")
        self.lengths = ends.repeat(batch, 1)  # of each row
        self.schedule = gemm.get_paged_mqa_logits_metadata(
            self.lengths, PAGE, torch.cuda.get_device_properties(0).multi_processor_count)

    def score(self):
        return as_torch(self.gemm.fp8_paged_mqa_logits(self.q, self.cache, self.weights, self.lengths, self.table,
                                                       self.schedule, self.length, clean_logits=False))

    def checked(self):
        keys = self.keys[self.table[0, :16].long()].view(-1, DIM)
        wanted = formula(self.q[0, :1], self.weights[:1], keys, torch.full((len(keys),), 0.01, device="cuda"))
        check("deep_gemm.fp8_paged_mqa_logits", self.score()[:1, :len(keys)], wanted)
        return self


def topk_v2(sglang, rows, columns, k):
    """SGLang's selection of k from rows of `columns` scores: a function of scores. Its plan is made once."""
    lengths = torch.full((rows,), columns, dtype=torch.int32, device="cuda")
    plan, ids = sglang.plan_topk_v2(lengths), torch.empty(rows, k, dtype=torch.int32, device="cuda")

    def select(scores):
        sglang.topk_transform_paged_v2(scores, lengths, None, ids, 1, plan)
        return ids

    return select


def selections(scores, k, infer, sglang, folder):
    """Top-k of the peers and ours, checked against torch's: functions by name."""
    works = {"torch": lambda: torch.topk(scores, k, dim=-1, sorted=False)}
    wanted = works["torch"]()[0].sort(dim=-1).values
    if infer is not None:
        works["flashinfer"] = lambda: infer.top_k(scores, k)
    if sglang is not None and k <= 2048:
        theirs = topk_v2(sglang, *scores.shape, k)
        works["sglang topk_v2"] = lambda: theirs(scores)
    mine = ours.selector(folder, scores, k)
    if mine is not None:
        works["ours"] = mine
    for name, work in works.items():
        found = work()
        found = found[0] if isinstance(found, tuple) else scores.gather(1, found.long())
        if not torch.equal(found.sort(dim=-1).values, wanted):
            raise SystemExit(f"{name} and torch.topk take different scores of {list(scores.shape)}")
    return works


def works(stage, shape, gemm, infer, sglang, folder):
    """What is timed, by the peer's name; each is checked first. `folder`: of our library."""
    if stage == "select":
        rows, columns, k = shape
        return selections(torch.randn(rows, columns, device="cuda"), k, infer, sglang, folder)
    if gemm is None:
        return {}
    if stage == "score":
        return Prefill(gemm, *shape).works(folder)
    if stage == "decode":
        return {"deep_gemm": Decode(gemm, *shape).checked().score}
    prefill = Prefill(gemm, 64, *shape)
    pairs = {"deep_gemm + torch": lambda: torch.topk(prefill.score(), K, dim=-1, sorted=False)}
    if infer is not None:
        pairs["deep_gemm + flashinfer"] = lambda: infer.top_k(prefill.score(packed=True), K)
    if sglang is not None:
        select = topk_v2(sglang, *shape, K)
        pairs["deep_gemm + sglang topk_v2"] = lambda: select(prefill.score())
    for name in INDEXERS:
        mine = ours.indexer(folder, name, prefill.q, prefill.weights, prefill.keys, prefill.scales)
        if mine is not None:
            pairs["ours" if name == "dsa" else f"our {name}"] = mine
    return pairs


def peers_once(stages, gemm, infer, sglang, folder, problems):
    """Microseconds by (peer, stage, *shape). What does not run goes into `problems`."""
    taken = {}
    for stage, shape in ((stage, shape) for stage in stages for shape in SHAPES[stage]):
        for top_k in dict.fromkeys((infer, None)):  # without FlashInfer where it does not run
            try:
                for name, microseconds in interleaved(works(stage, shape, gemm, top_k, sglang, folder)).items():
                    taken[(name, stage, *shape)] = microseconds
                break
            except Exception as problem:
                problems[f"{stage} {shape}"] = f"{type(problem).__name__}: {problem}"[:300]
    return taken


def ours_once(stages, folder):
    """Microseconds by (stage, *shape), and of end-to-end by indexer."""
    names = {"score": "score_prefill/heads:{}/rows:{}/keys:{}", "decode": "score_decode/heads:{}/batch:{}/length:{}/next_n:{}",
             "select": "select/rows:{}/columns:{}/k:{}/kind:0"}
    names = {(stage, *shape): names[stage].format(*shape) for stage in stages if stage in names for shape in SHAPES[stage]}
    times = ours.stages(folder, names.values()) if names else {}
    taken = {key: times[name] for key, name in names.items()}
    if "end-to-end" in stages:
        for rows, context in PREFILLS:
            for indexer, microseconds in ours.end_to_end(folder, f"prefill-{context // 1024}k", rows, INDEXERS).items():
                taken[("end-to-end", rows, context, indexer)] = microseconds
    return taken


def compiled(stages, gemm, infer):
    """Lets every kernel that is compiled on first use be compiled at once, each in a process of its own."""
    first = []
    if gemm is not None and {"score", "end-to-end"} & set(stages):
        first += [f"Prefill(gemm, {heads}, 1024, 8192).score()" for heads in {shape[0] for shape in SCORES}]
    if gemm is not None and "decode" in stages:
        first += [f"Decode(gemm, {heads}, 32, 4096, {next_n}).score()" for heads, _, _, next_n in DECODES]
    if infer is not None and {"select", "end-to-end"} & set(stages):
        first.append("infer.top_k(torch.randn(64, 8192, device='cuda'), K)")

    def start(work):
        imports = "import deep_gemm as gemm" if work.startswith(("Prefill", "Decode")) else "import flashinfer as infer"
        return subprocess.run([sys.executable, "-c", f"{imports}\nfrom peers import *\n{work}\ntorch.cuda.synchronize()"],
                              cwd=pathlib.Path(__file__).parent, capture_output=True, text=True, check=False)

    with concurrent.futures.ThreadPoolExecutor(len(first) or 1) as pool:
        for done in pool.map(start, first):
            if done.returncode:
                print(done.stderr[-2000:], file=sys.stderr)


def rows_of(ours_taken, peers_taken):
    """Every shape: ours, then each peer with the ratio peer / ours."""
    rows = []
    for key in ours_taken[0]:
        whole = key[0] == "end-to-end"  # the last of its key is our indexer
        stage, shape = key[0], key[1:-1] if whole else key[1:]
        name = f"our {key[-1]}" if whole and key[-1] != "dsa" else "ours"
        in_turns = [taken[(name, stage, *shape)] for taken in peers_taken if (name, stage, *shape) in taken]
        mine = in_turns or [taken[key] for taken in ours_taken]
        found = {}
        for peer in sorted({name for taken in peers_taken for name, *of in taken
                            if tuple(of) == (stage, *shape) and not name.startswith("our")}):
            found[peer] = [taken[(peer, stage, *shape)] for taken in peers_taken if (peer, stage, *shape) in taken]
        row = {"stage": stage, "shape": list(key[1:]), "ours_us": sum(mine) / len(mine), "ours_runs_us": mine,
               "ours_in_turns": bool(in_turns), "peers": {}}
        for peer, runs in found.items():
            us = sum(runs) / len(runs)
            row["peers"][peer] = {"us": us, "runs_us": runs, "ratio": us / row["ours_us"], "measured": "in this run"}
        for (peer, *of), us in EARLIER.items():
            if tuple(of) == (stage, *shape) and peer not in found:
                row["peers"][peer] = {"us": us, "ratio": us / row["ours_us"], "measured": "earlier, on another H200"}
        rows.append(row)
    return rows


def table(report):
    lines = [f"{report['device']}; " + "; ".join(f"{name} {version}" for name, version in report["peers"].items()), ""]
    lines += ["| stage | shape | ours, us | peer | us | ratio | measured |", "|---|---|---|---|---|---|---|"]
    for row in report["rows"]:
        shape = " x ".join(map(str, row["shape"]))
        for peer, one in row["peers"].items() or {"none": {"us": float("nan"), "ratio": float("nan"), "measured": ""}}.items():
            lines.append(f"| {row['stage']} | {shape} | {row['ours_us']:.1f} | {peer} | {one['us']:.1f} | "
                         f"{one['ratio']:.2f}x | {one['measured']} |")
    lines += [f"{where} did not run: {problem}" for where, problem in report["problems"].items()]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, default=ours.ROOT / "build/gpu/bin")
    parser.add_argument("-o", "--output", type=pathlib.Path)
    parser.add_argument("--only", default=",".join(SHAPES), help="stages, separated by commas")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("peers.py: torch sees no GPU")
    stages = options.only.split(",")
    if not set(stages) <= set(SHAPES):
        parser.error(f"the stages are {', '.join(SHAPES)}")
    torch.manual_seed(1)
    start = time.monotonic()

    def say(what):
        print(f"peers.py: {what} after {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)

    gemm, gemm_version = imported("deep_gemm", "sgl-deep-gemm")
    infer, infer_version = imported("flashinfer", "flashinfer-python")
    sglang, sglang_version = imported("sglang.kernels.ops.attention.dsv4.topk", "sglang")
    compiled(stages, gemm, infer)
    say("compiled")
    ours_taken, peers_taken, problems = [ours_once(stages, options.bin)], [], {}
    say("ours timed")
    for _ in range(2):
        peers_taken.append(peers_once(stages, gemm, infer, sglang, options.bin, problems))
        say("peers timed")
    ours_taken.append(ours_once(stages, options.bin))
    rows = rows_of(ours_taken, peers_taken)
    report = {"device": torch.cuda.get_device_name(),
              "peers": {"torch": torch.__version__, "deep_gemm": gemm_version, "flashinfer": infer_version, "sglang": sglang_version,
                        "tilelang": "its wheel is a compiler without an indexer kernel; paper.py stands in with Triton"},
              "problems": problems, "rows": rows, "seconds": time.monotonic() - start}
    print(table(report))
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
