#!/usr/bin/env python3
"""How much faster than torch is the cpu backend? torch's dsa and misa in bf16, eager and compiled, beside ours.

usage: cpu_peers.py [BINARY] [--threads N] [--rows R] [--workload NAME] [--model NAME] [--budget SECONDS] [-o FILE]

Ours and one of the peers take turns in one process, in the rounds of misa-prof profile --backend plugin:FILE, on the
same memory and with the same number of threads. A row has both medians, how many times as long the peer takes with its
95 % interval, and the share of dsa's tokens that each selects. BINARY is build/release/cli/misa-prof, beside which
libmisa_prof.so is. torch is that of MISA_PYTHON, else of this Python; without it the script says so and ends with 77.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PEERS = ("torch_eager", "torch_compiled")
SHOW_KERNEL = """
import torch
print("torch", torch.__version__, flush=True)
torch.ones(256, 128).bfloat16() @ torch.ones(4096, 128).bfloat16().T
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", nargs="?", default=ROOT / "build/release/cli/misa-prof", type=pathlib.Path)
    parser.add_argument("--threads", type=int, help="of both sides; default: as many as misa-prof takes here")
    parser.add_argument("--rows", default="64")
    parser.add_argument("--workload", default="prefill-32k")
    parser.add_argument("--model", default=HERE / "deepseek-v3.2-bf16.toml", help="its key_dtype is that of the inputs")
    parser.add_argument("--indexer", default="dsa,misa", help="dsa, misa or both")
    parser.add_argument("--peer", default=",".join(PEERS), help="torch_eager, torch_compiled or both")
    parser.add_argument("--budget", default="90", help="seconds for each peer")
    parser.add_argument("--samples", default="50")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="the results of misa-prof and these rows as JSON")
    given = parser.parse_args()
    if not given.binary.is_file():
        parser.error(f"there is no {given.binary}; scripts/build.sh release builds it, and libmisa_prof.so beside it")
    unknown = set(given.peer.split(",")) - set(PEERS)
    if unknown:
        parser.error(f"--peer has {', '.join(sorted(unknown))}; the peers are {' and '.join(PEERS)}")
    return given


def torch_and_kernel(environment):
    """torch's version, and the kernel of oneDNN that multiplies bf16 there; None without torch."""
    done = subprocess.run([environment["MISA_PYTHON"], "-c", SHOW_KERNEL], capture_output=True, text=True, check=False,
                          env={**environment, "ONEDNN_VERBOSE": "1"})
    if done.returncode:
        return None
    kernel = re.search(r"primitive,exec,cpu,(?:matmul|inner_product),([^,]*),", done.stdout)
    return re.search("^torch .*", done.stdout, re.M).group(), kernel.group(1) if kernel else "not oneDNN's"


def threads_here(binary, environment):
    done = subprocess.run([binary, "doctor", "--format", "json"], capture_output=True, text=True, check=False,
                          env=environment)
    return next(int(check["found"]) for check in json.loads(done.stdout)["checks"] if check["name"] == "threads")


def profile(peer, given, environment):
    """The result of ours and of `peer`, sampled in turn."""
    done = subprocess.run([given.binary, "profile", "--backend", f"plugin:{HERE / peer}.py", "--model", given.model,
                           "--workload", given.workload, "--rows", given.rows, "--indexer", given.indexer,
                           "--budget", given.budget, "--samples", given.samples, "--time-limit", "300",
                           "--format", "json"], stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"misa-prof profile with {peer} ended with status {done.returncode}")
    return json.loads(done.stdout)


def row_of(peer, ours, theirs):
    """One indexer: medians in ms, and base_speedup, ours / theirs, turned round."""
    ratio = theirs["base_speedup"]
    flip = {"median": "median", "low": "high", "high": "low"}
    return {"indexer": ours["indexer"], "peer": peer,
            "ours_ms": ours["end_to_end_ns"]["median"] * 1e-6, "peer_ms": theirs["end_to_end_ns"]["median"] * 1e-6,
            "times_as_long": {name: 1 / ratio[other] if ratio[other] else None for name, other in flip.items()},
            "rounds": ratio["rounds"], "our_recall": ours["quality"]["recall"]["mean"],
            "peer_recall": theirs["quality"]["recall"]["mean"],
            "our_kernels": [stage["kernel"] for stage in ours["stages"]]}


def rows_of(peer, result):
    cases = {(case["indexer"], "base" in case): case for case in result["cases"]}
    return [row_of(peer, ours, cases[indexer, True]) for (indexer, plugged), ours in cases.items() if not plugged]


def line_of(row):
    ratio = row["times_as_long"]
    interval = f"{ratio['low']:.2f} to {ratio['high']:.2f}" if ratio["low"] and ratio["high"] else "too few rounds"
    return (f"{row['indexer']:<8} {row['peer']:<15} {row['ours_ms']:>9.1f} {row['peer_ms']:>9.1f} "
            f"{ratio['median']:>10.2f}x  {interval:<15} {row['rounds']:>6}  {row['our_recall']:.4f}  "
            f"{row['peer_recall']:.4f}")


def main():
    given = arguments()
    environment = dict(os.environ, MISA_PYTHON=os.environ.get("MISA_PYTHON", sys.executable))
    found = torch_and_kernel(environment)
    if found is None:
        print(f"skipped: {environment['MISA_PYTHON']} cannot import torch; MISA_PYTHON names another", file=sys.stderr)
        return 77
    environment["OMP_NUM_THREADS"] = str(given.threads or threads_here(given.binary, environment))
    results, rows = {}, []
    for peer in given.peer.split(","):
        results[peer] = profile(peer, given, environment)
        rows += rows_of(peer, results[peer])
    one = next(iter(results.values()))
    machine, ours = one["environment"]["cpu"], one["environment"]["backends"][0]["description"]
    print(f"{machine}, {environment['OMP_NUM_THREADS']} threads; {found[0]}, whose bf16 product is {found[1]}")
    model = pathlib.Path(given.model).name.removesuffix(".toml")
    print(f"{model}/{given.workload}, {given.rows} rows; ours: {ours}")
    for row in rows[: len(given.indexer.split(","))]:
        print(f"our {row['indexer']}: {', '.join(row['our_kernels'])}")
    print(f"\n{'indexer':<8} {'peer':<15} {'ours, ms':>9} {'peer, ms':>9} {'takes':>11}  {'95 %':<15} {'rounds':>6}  "
          "recall: ours, peer")
    for row in rows:
        print(line_of(row))
    for peer, result in results.items():
        for warning in result.get("warnings", []):
            print(f"{peer}: warning: {warning['id']}: {warning['text']}")
    if given.output:
        record = {"torch": found[0], "torch_kernel": found[1], "rows": rows, "results": results}
        given.output.write_text(json.dumps(record), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
