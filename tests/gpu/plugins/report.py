#!/usr/bin/env python3
"""What plugins.sh reads in the JSON of misa-prof. Status 1 where it is not as asked.

usage: report.py times RECALL FILE         a plug-in beside ours: milliseconds, ratios; a recall below RECALL fails
       report.py same PERCENT FILE         their ratios from end to end, which must be 1 within PERCENT
       report.py exact FILE                a comparison in which every choice must be the same, bit for bit
       report.py peer KEYS PEERS FILE      the ratio of the stage score to ours, and that of peers.py for 1024 rows of KEYS;
                                           they must agree within 3 %; PEERS is - where there is none
"""
import json
import pathlib
import sys


def pairs(report):
    """Each case of a plug-in, with that of the backend that it is beside."""
    for case in report["cases"]:
        if case.get("base"):
            alone = next(one for one in report["cases"] if one["backend"] == case["base"] and one["indexer"] == case["indexer"])
            yield case, alone


def milliseconds(case, stage=None):
    times = case["end_to_end_ns"]
    if stage is not None:
        times = next((one["time_ns"] for one in case["stages"] if one["name"] == stage), None)
    return times and times["median"] * 1e-6


def ratio(case):
    """How many times as long the plug-in takes, from end to end."""
    paired = case.get("base_speedup")
    return 1 / (paired["median"] if paired else case["speedup_over_base"])


def times(report, least):
    good = False
    for case, alone in pairs(report):
        recall = case["quality"]["recall"]["mean"] if case["quality"] else 0.0
        parts = []
        for stage in (one["name"] for one in case["stages"]):
            theirs, ours = milliseconds(case, stage), milliseconds(alone, stage)
            parts.append(f"{stage} {theirs:.3f} ms" + (f" (ours {ours:.3f})" if ours else ""))
        parts.append(f"end to end {milliseconds(case):.3f} ms, {ratio(case):.2f} times ours")
        print(f"{case['indexer']}: {', '.join(parts)}, recall {recall:.4f}")
        good = recall >= float(least)
        if not good:
            break
    return good


def same(report, percent):
    good = True
    for case, _ in pairs(report):
        print(f"{case['indexer']}: {milliseconds(case):.4f} ms, {ratio(case):.4f} times ours")
        good = good and abs(ratio(case) - 1) <= float(percent) / 100
    return good and any(pairs(report))


def exact(report):
    rows = other = 0
    for case in report["cases"]:
        for choice in case["choices"]:
            rows += choice["verdicts"]["exact"]
            other += sum(count for verdict, count in choice["verdicts"].items() if verdict not in ("exact", "empty"))
    print(f"exact: {rows} choices of rows, {other} other ones")
    return rows > 0 and other == 0


def peer(report, keys, peers):
    case, alone = next(pairs(report))
    mine = milliseconds(case, "score") / milliseconds(alone, "score")
    text = f"dsa: score {milliseconds(case, 'score'):.3f} ms, ours {milliseconds(alone, 'score'):.3f} ms, ratio {mine:.3f}"
    if peers == "-":
        print(text)
        return True
    rows = json.loads(pathlib.Path(peers).read_text())["rows"]
    row = next(one for one in rows if one["stage"] == "score" and one["shape"] == [64, 1024, int(keys)])
    theirs = row["peers"]["deep_gemm"]["ratio"]
    print(f"{text}; peers.py: {theirs:.3f}, {100 * (mine / theirs - 1):+.1f} %")
    return abs(mine / theirs - 1) <= 0.03


def main():
    command, *words, path = sys.argv[1:]
    report = json.loads(pathlib.Path(path).read_text())
    sys.exit(0 if {"times": times, "same": same, "exact": exact, "peer": peer}[command](report, *words) else 1)


if __name__ == "__main__":
    main()
