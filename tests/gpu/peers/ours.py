"""What our own programs measure, for the tables of peers.py and paper.py."""
import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[3]


def run(command):
    environment = dict(os.environ, OMP_WAIT_POLICY="passive")
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with status {done.returncode}:\n{done.stderr or done.stdout}")
    return done.stdout


def stages(folder, names):
    """Microseconds of the benchmarks `names` of misa-stages-bench."""
    pattern = "^(" + "|".join(names) + ")/manual_time$"
    report = json.loads(run([folder / "misa-stages-bench", f"--benchmark_filter={pattern}", "--benchmark_format=json",
                             "--benchmark_min_time=0"]))
    return {one["name"].removesuffix("/manual_time"): one["real_time"] for one in report["benchmarks"]}


def end_to_end(folder, workload, rows, indexers=("dsa", "misa"), model="deepseek-v3.2", budget=1):
    """Microseconds of whole indexers, by name: medians of misa-prof profile, on inputs that are reused as the peers' are."""
    report = json.loads(run([folder / "misa-prof", "profile", "--backend", "cuda", "--model", model, "--workload", workload,
                             "--rows", rows, "--indexer", ",".join(indexers), "--budget", budget, "--warm",
                             "--format", "json"]))
    return {case["indexer"]: case["end_to_end_ns"]["median"] * 1e-3 for case in report["cases"]}
