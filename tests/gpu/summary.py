#!/usr/bin/env python3
"""Puts what tests/gpu/run.sh left in a folder into one file, summary.json, and says what failed.

usage: summary.py DIR      status 1: a step failed, or its results are not there
"""
import csv
import json
import pathlib
import shutil
import subprocess
import sys
import time

PROFILES = ("profile-128k", "profile-32k")


def table(path):
    """The first row of a CSV of nvidia-smi, by column; {} without one."""
    rows = list(csv.DictReader(path.read_text().splitlines(), skipinitialspace=True)) if path.exists() else []
    return rows[0] if rows else {}


def document(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def commit():
    """The commit of this tree; None without git or without a history, as in a source archive."""
    if shutil.which("git") is None:
        return None
    shown = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=40"], capture_output=True, text=True,
                           cwd=pathlib.Path(__file__).parent, check=False)
    return shown.stdout.strip() or None


def steps(path):
    lines = path.read_text().splitlines() if path.exists() else []
    for name, status, start, end in (line.split("\t") for line in lines):
        yield {"name": name, "status": int(status), "seconds": round(float(end) - float(start), 2)}


def stages(report):
    """Microseconds, rates and the kernel that ran by benchmark."""
    times = {}
    for one in report["benchmarks"] if report else []:
        rates = {key: one[key] for key in ("tflops", "tbytes", "ps_per_pair") if key in one}
        if one.get("label"):
            rates["kernel"] = one["label"]
        times[one["name"].removesuffix("/manual_time")] = {"us": one["real_time"], **rates}
    return times


def cases(report):
    """Microseconds by indexer, end to end and of each stage."""
    return {case["indexer"]: {"end_to_end_us": case["end_to_end_ns"]["median"] * 1e-3,
                              "stages_us": {s["name"]: s["time_ns"]["median"] * 1e-3 for s in case["stages"]}}
            for case in (report["cases"] if report else [])}


def main():
    folder = pathlib.Path(sys.argv[1])
    taken = list(steps(folder / "steps.tsv"))
    names = [one["name"] for one in taken]
    failed = [one["name"] for one in taken if one["status"] != 0]
    failed += [f"{name}: no results" for name in ("stages", *PROFILES, "peers", "paper")
               if name in names and name not in failed and document(folder / f"{name}.json") is None]
    if "conformance" not in names:
        failed.append("nothing was tested")
    peers, paper = document(folder / "peers.json"), document(folder / "paper.json")
    summary = {"schema": "misa-gpu/1", "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "commit": commit(),
               "passed": not failed, "failed": failed, "device": {"before": table(folder / "before.csv"),
                                                                  "after": table(folder / "after.csv")},
               "seconds": round(sum(one["seconds"] for one in taken), 1), "steps": taken,
               "stages": stages(document(folder / "stages.json")),
               "end_to_end": {name: cases(document(folder / f"{name}.json")) for name in PROFILES},
               "peers": peers or "not timed: no torch and triton, or the step failed",
               "paper": paper or "not timed: no torch and triton, or the step failed"}
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(f"\n{folder / 'summary.json'}: {len(taken)} steps in {summary['seconds']} s, "
          + (f"FAILED: {', '.join(failed)}" if failed else "all passed"))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
