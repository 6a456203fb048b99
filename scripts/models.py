#!/usr/bin/env python3
"""Makes docs/models.md: what each indexer costs and keeps for each model of `misa-prof list`, from 8K to 1M tokens.

usage: scripts/models.py                      writes the tables of the page from the parts in docs/models
       scripts/models.py --check              writes nothing; exit status 1 if the page is not that of its parts
       scripts/models.py BINARY --backend cpu|cuda [--part NAME] [--out FOLDER] [--model LIST] [--context LIST]
                         [--rows N] [--sequences N] [--budget SECONDS]
                                              measures a part first: FOLDER/NAME.json

Models whose indexers have the same shape are measured once. A part is what two sweeps found, prefill and decode,
without what the page does not show.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE, PARTS = ROOT / "docs" / "models.md", ROOT / "docs" / "models"
INDEXERS = ["dsa", "misa", "misa-dagger", "hisa", "misa-lr", "misa-lr-dagger"]
PRESETS = ["natural", "learned"]  # times are those of the first
# Of a backend: contexts, rows of a prefill, sequences of a decode, seconds for each case.
USUAL = {"cpu": ("8k,32k,128k", 16, 1, 0.5), "cuda": ("8k,32k,128k,512k,1m", 1024, 8, 0.3)}
NOT_SHAPE = {"name", "description", "source", "layers", "indexer_layers"}


def models():
    """The profiles of models, by name, but for the one that no model has."""
    found = (tomllib.loads(path.read_text()) for path in sorted((ROOT / "profiles" / "models").glob("*.toml")))
    return {one["name"]: one for one in found if one["name"] != "tiny"}


def shape_of(model):
    return json.dumps({key: value for key, value in sorted(model.items()) if key not in NOT_SHAPE})


def by_shape(names, profiles):
    """The first model of each shape, with all that share it."""
    shapes = {}
    for name in names:
        shapes.setdefault(shape_of(profiles[name]), []).append(name)
    return {group[0]: group for group in shapes.values()}


def count_of(text):
    """8k -> 8192."""
    return int(text[:-1]) * {"k": 1024, "m": 1024**2}[text[-1]] if text[-1] in "km" else int(text)


def context_name(tokens):
    return f"{tokens >> 20}M" if tokens % (1 << 20) == 0 else f"{tokens / 1024:g}K"


# Measuring


def sweep(program, words):
    """The document of a sweep, and its command."""
    command = ["sweep", *words]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "sweep.json"
        subprocess.run([program, *command, "-o", f"json:{path}"], check=True)
        return json.loads(path.read_text()), " ".join(["misa-prof", *command])


def case_of(entry):
    one = entry["case"]
    speedup, quality = one.get("speedup") or {}, one.get("quality") or {}
    return {
        "model": entry["axes"]["model"], "preset": entry["workload"]["preset"], "phase": entry["workload"]["phase"],
        "context": entry["axes"]["context"], "rows": entry["workload"]["rows"], "indexer": one["indexer"],
        "median_ns": (one["end_to_end_ns"] or {}).get("median"), "samples": (one["end_to_end_ns"] or {}).get("samples"),
        "ratio": speedup.get("median"), "verdict": speedup.get("verdict"),
        "recall": (quality.get("recall") or {}).get("mean"),
        "loaded": bool((entry["measurement"].get("contention") or {}).get("loaded")),
    }


def measure(options):
    contexts, rows, sequences, budget = USUAL[options.backend]
    profiles = models()
    names = options.model.split(",") if options.model else list(profiles)
    if unknown := [name for name in names if name not in profiles]:
        sys.exit(f"scripts/models.py: there is no model called '{unknown[0]}'; there are {', '.join(profiles)}")
    shared = by_shape(names, profiles)
    common = ["--model", ",".join(shared), "--preset", ",".join(PRESETS), "--context", options.context or contexts,
              "--indexer", ",".join(INDEXERS), "--backend", options.backend, "--budget", str(options.budget or budget)]
    part = {"backend": options.backend, "indexers": INDEXERS, "presets": PRESETS, "commands": [], "cases": [],
            "skipped": [],
            "models": {name: {"like": first, "layers": profiles[name].get("layers", 1),
                              "indexer_layers": profiles[name].get("indexer_layers", profiles[name].get("layers", 1)),
                              "heads": profiles[name]["heads"], "top_k": profiles[name]["top_k"],
                              "compress_ratio": profiles[name].get("compress_ratio", 1)}
                       for first, group in shared.items() for name in group}}
    for phase in (["--workload", "prefill-8k", "--rows", str(options.rows or rows)],
                  ["--workload", "decode-8k", "--sequences", str(options.sequences or sequences)]):
        document, command = sweep(options.program, [*phase, *common])
        environment = document["environment"]
        device = next((one["description"] for one in environment["backends"] if one["name"] == options.backend), "")
        part |= {"date": environment["timestamp_utc"][:10], "commit": environment["build"]["commit"],
                 "changed": environment["build"]["changed"], "cpu": environment["cpu"],
                 "threads": environment["threads"], "device": device}
        part["commands"].append(command)
        part["cases"] += [case_of(entry) for entry in document["cases"]]
        part["skipped"] += document["skipped"]
    folder = pathlib.Path(options.out or PARTS)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{options.part or options.backend}.json"
    path.write_text(json.dumps(part, separators=(",", ":")).replace('{"model"', '\n{"model"') + "\n")
    print(path)


# The page


def seconds_text(seconds):
    for unit, factor in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= factor or unit == "µs":
            return f"{seconds / factor:.3g} {unit}"


def recall_text(value):
    return "–" if value is None else f"{value:.2f}"


class Part:
    def __init__(self, path):
        self.name = path.stem
        self.data = json.loads(path.read_text())
        self.cases = {(one["model"], one["phase"], one["context"], one["indexer"], one["preset"]): one
                      for one in self.data["cases"]}
        self.contexts = sorted({one["context"] for one in self.data["cases"]})
        self.timed = self.data["presets"][0]

    def one(self, model, phase, context, indexer, preset=None):
        return self.cases.get((self.data["models"][model]["like"], phase, context, indexer, preset or self.timed))

    def groups(self):
        groups = {}
        for name, one in self.data["models"].items():
            groups.setdefault(one["like"], []).append(name)
        return groups

    def title(self, first):
        one = self.data["models"][first]
        entries = f", keys of {one['compress_ratio']} tokens" if one["compress_ratio"] > 1 else ""
        return f"{one['heads']} heads, k = {one['top_k']}{entries}"

    def cell(self, model, phase, context, indexer):
        one = self.one(model, phase, context, indexer)
        if one is None or one["median_ns"] is None:
            return "–"
        if indexer == "dsa":
            return seconds_text(one["median_ns"] / 1e9)
        recalls = []
        for preset in self.data["presets"]:
            rated = self.one(model, phase, context, indexer, preset)
            recalls.append(recall_text(rated["recall"] if rated else None))
        unsure = "" if one["verdict"] in ("faster", "slower") else "~"
        return f"{unsure}{one['ratio']:.3g}× {' '.join(recalls)}" if one["ratio"] else "–"

    def shape_table(self, first):
        lines = ["| | " + " | ".join(self.data["indexers"]) + " |", "|---" * (len(self.data["indexers"]) + 1) + "|"]
        for phase in ("prefill", "decode"):
            for context in self.contexts:
                cells = [self.cell(first, phase, context, indexer) for indexer in self.data["indexers"]]
                if any(cell != "–" for cell in cells):
                    lines.append(f"| {phase}, {context_name(context)} | " + " | ".join(cells) + " |")
        return lines

    def model_table(self, context):
        """What all layers of each model take: a prefilled token, and a step of a decode."""
        lines = ["| model | layers with an indexer | " + " | ".join(
            f"{indexer}, {what}" for indexer in ("dsa", "misa", "misa-lr") for what in ("token", "step")) + " |",
                 "|---" * 8 + "|"]
        for name, one in self.data["models"].items():
            cells = []
            for indexer in ("dsa", "misa", "misa-lr"):
                for phase in ("prefill", "decode"):
                    case = self.one(name, phase, context, indexer)
                    if case is None or case["median_ns"] is None:
                        cells.append("–")
                        continue
                    rows = case["rows"] if phase == "prefill" else 1
                    cells.append(seconds_text(case["median_ns"] / 1e9 / rows * one["indexer_layers"]))
            if all(cell == "–" for cell in cells):
                continue
            lines.append(f"| {name} | {one['indexer_layers']} of {one['layers']} | " + " | ".join(cells) + " |")
        return lines

    def losing(self, first, indexer):
        """Where an indexer is not surely faster than dsa: "prefill 8K, 32K; decode all", or nothing."""
        words = []
        for phase in ("prefill", "decode"):
            there = [(context, one) for context in self.contexts
                     if (one := self.one(first, phase, context, indexer)) and one["median_ns"] is not None]
            slow = [context for context, one in there if one["verdict"] != "faster"]
            if slow:
                words.append(f"{phase} {'all' if len(slow) == len(there) else ', '.join(map(context_name, slow))}")
        return "; ".join(words)

    def losers(self):
        indexers = self.data["indexers"][1:]
        lines = [f"| slower than dsa, or not surely faster | {' | '.join(indexers)} |", "|---" * (len(indexers) + 1) + "|"]
        for first in self.groups():
            lines.append(f"| {self.title(first)} | {' | '.join(self.losing(first, indexer) for indexer in indexers)} |")
        return lines

    def text(self):
        data = self.data
        rows = {phase: next((one["rows"] for one in data["cases"] if one["phase"] == phase), 0)
                for phase in ("prefill", "decode")}
        loaded = ""
        if any(one["loaded"] for one in data["cases"]):
            loaded = "**Other work shared the cores**: times are too long, and ratios less sure. "
        lines = [f"Measured on {data['date']}, {data['device'] or data['cpu']}, commit {data['commit'] or 'not known'}"
                 f"{', with changes' if data['changed'] else ''}. A prefill has {rows['prefill']} rows, a decode "
                 f"{rows['decode']} {'sequence' if rows['decode'] == 1 else 'sequences'} with a row each. {loaded}"
                 f"[The numbers](models/{self.name}.json) name the commands.", ""]
        for first, names in self.groups().items():
            lines += [f"### {self.name}: {self.title(first)}", "", f"{', '.join(names)}.", "",
                      *self.shape_table(first), ""]
        for context in self.contexts:
            title = f"### {self.name}: the whole model at {context_name(context)}"
            lines += [title, "", *self.model_table(context), ""]
        lines += [f"### {self.name}: where it does not pay", "", *self.losers()]
        if data["skipped"]:
            lines += ["", "Not measured: " + "; ".join(sorted({
                f"{one.get('indexer', '')}: {one.get('reason', one)}" for one in data["skipped"]})) + "."]
        return "\n".join(lines)


def page_of(text):
    """The page with the tables of its parts, each between <!-- NAME --> and <!-- end NAME -->."""
    sections = re.compile(r"<!-- (\w+) -->\n.*?<!-- end \1 -->", re.DOTALL)
    names = [found[1] for found in sections.finditer(text)]
    if strays := [path.name for path in sorted(PARTS.glob("*.json")) if path.stem not in names]:
        sys.exit(f"scripts/models.py: docs/models.md has no section for {strays[0]}")

    def section(found):
        path = PARTS / f"{found[1]}.json"
        tables = Part(path).text() if path.exists() else "Not measured yet."
        return f"<!-- {found[1]} -->\n\n{tables}\n\n<!-- end {found[1]} -->"

    return sections.sub(section, text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="?")
    parser.add_argument("--backend", choices=sorted(USUAL))
    parser.add_argument("--check", action="store_true")
    for name in ("part", "out", "model", "context"):
        parser.add_argument(f"--{name}")
    for name in ("rows", "sequences"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--budget", type=float)
    options = parser.parse_args()
    if bool(options.program) != bool(options.backend):
        parser.error("a measurement takes BINARY and --backend; the page takes neither")
    if options.program:
        options.program = os.path.abspath(options.program)
        measure(options)
        if options.out:
            return
    before = PAGE.read_text()
    after = page_of(before)
    if options.check:
        if after != before:
            print("docs/models.md is not that of its parts: scripts/models.py writes it", file=sys.stderr)
        sys.exit(after != before)
    PAGE.write_text(after)


if __name__ == "__main__":
    main()
