#!/usr/bin/env python3
"""Counts false alarms of real runs: starts `profile --aa` again and again, with other work beside it or without.

usage: aa_runs.py BINARY [--runs N] [--load PROCESSES] [-- OPTIONS OF PROFILE]

Prints the verdicts that side B, which is side A, got; a false alarm is `faster` or `slower`. Exit status 1 where more
than 5 of 100 runs have one, or where a ratio whose interval holds 1 is called faster or slower.
"""
import argparse
import collections
import json
import multiprocessing
import subprocess
import sys

DEFAULT = ["--model", "tiny", "--workload", "ci", "--indexer", "dsa,misa", "--budget", "3"]


def spin():
    while True:
        pass


def main():
    words = sys.argv[1:]
    options = words[words.index("--") + 1:] if "--" in words else DEFAULT
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--load", type=int, default=0, help="processes that compute beside the runs")
    arguments = parser.parse_args(words[:words.index("--")] if "--" in words else words)
    others = [multiprocessing.Process(target=spin, daemon=True) for _ in range(arguments.load)]
    for other in others:
        other.start()
    verdicts, alarms, broken, resolutions = collections.Counter(), 0, 0, []
    for _ in range(arguments.runs):
        run = subprocess.run([arguments.binary, "profile", *options, "--aa", "--format", "json"], capture_output=True,
                             text=True, check=True)
        changes = [case["change"] for case in json.loads(run.stdout)["cases"] if case["side"] == "B"]
        verdicts.update(change["verdict"] for change in changes)
        alarms += any(change["verdict"] in ("faster", "slower") for change in changes)
        broken += any(change["verdict"] in ("faster", "slower") and change["low"] <= 1 <= change["high"]
                      for change in changes)
        resolutions += [change["resolution"] for change in changes if change["resolution"] is not None]
    for other in others:
        other.terminate()
    resolutions.sort()
    typical = f", median resolution {100 * resolutions[len(resolutions) // 2]:.1f} %" if resolutions else ""
    print(f"{arguments.runs} runs, {alarms} with a false alarm, {broken} against their interval; "
          f"{dict(verdicts)}{typical}")
    return int(alarms > 0.05 * arguments.runs or broken > 0)


if __name__ == "__main__":
    sys.exit(main())
