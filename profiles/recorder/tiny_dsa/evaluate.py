"""What the model loses by what its indexers select: answers to tasks and the likelihood of text, under each indexer.

    python -m tiny_dsa.evaluate FOLDER -o FILE.json [--lengths 8k,32k,128k] [--sequences 8] [--heads 64]

FOLDER is that of tiny_dsa.train. All indexers read the same held-out sequences, so differences to `dsa` are taken sequence by sequence;
their intervals are 95 % bootstrap intervals of the mean over sequences. The loss is that of the text's tokens in the last half.
"""

import argparse
import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

from .model import attend_to_all
from .selecting import Selecting
from .traces import load, tokens_in

DRAWS = 2000  # of a bootstrap

INDEXERS = {  # what is compared: name of misa.Indexer and its settings
    "dsa": ("dsa", {}),
    "misa, h 4": ("misa", {"active_heads": 4}),
    "misa, h 8": ("misa", {"active_heads": 8}),
    "misa, h 16": ("misa", {"active_heads": 16}),
    "misa-dagger": ("misa-dagger", {}),
    "hisa": ("hisa", {}),
    "misa-lr, h 8": ("misa-lr", {"active_heads": 8}),
    "misa-lr-dagger": ("misa-lr-dagger", {}),
    "dsa, reused": ("dsa", {"reuse": True}),
}
TASKS = ["needle"] * 6 + ["needles", "pairs", "tracking", "copying", "counting"] * 2


@torch.no_grad()
def answers_of(model, tokens, asked, attend, device):
    """Which tasks are answered, and the mean loss of text in the last half: (list of bool, float)."""
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        hidden = model(tokens[None], attend)[0]
        right = []
        text = torch.zeros(len(tokens) - 1, dtype=torch.bool, device=device)
        text[len(text) // 2 :] = True
        for one in asked:
            (fact, size), (question, _), (start, count) = one.fact, one.question, one.answer
            right.append(bool((model.logits(hidden[start - 1 : start - 1 + count]).argmax(-1) == tokens[start : start + count]).all()))
            text[max(0, fact - 1) : fact + size - 1] = False
            text[question - 1 : start + count - 1] = False
        losses = [F.cross_entropy(model.logits(states).float(), wanted, reduction="none")
                  for states, wanted in zip(hidden[:-1][text].split(16384), tokens[1:][text].split(16384))]
    return right, float(torch.cat(losses).mean())


def interval(differences, seed=1):
    """The mean of differences and its 95 % bootstrap interval."""
    differences = np.asarray(differences, dtype=float)
    draws = np.random.default_rng(seed).choice(differences, (DRAWS, len(differences))).mean(1)
    return [float(differences.mean()), *map(float, np.quantile(draws, [0.025, 0.975]))]


def evaluate(model, indexers, corpus, lengths, sequences, heads, seed, device, chosen, names=TASKS, say=print):
    """Rows of the table: one for each length and attention."""
    config, rows = model.config, []
    for length in lengths:
        found = {}
        for i in range(sequences):
            draw = np.random.default_rng([seed, 3000, length, i])
            sequence, asked = corpus.sequence(draw, "held-out", length, names, last=len(names))
            if len(asked) != len(names):
                raise ValueError(f"{len(names)} tasks are too many for {length} tokens")
            tokens = torch.tensor(sequence, device=device)
            for name in ["dense", *chosen]:
                kind, settings = INDEXERS.get(name, (None, {}))
                attend = attend_to_all if kind is None else Selecting(indexers, config, heads, kind, **settings)
                found.setdefault(name, []).append(answers_of(model, tokens, asked, attend, device))
        reference = found["dsa"]
        for name, results in found.items():
            row = {"length": length, "indexer": name, "sequences": sequences, "loss": float(np.mean([loss for _, loss in results])),
                   "loss over dsa": interval([mine - theirs for (_, mine), (_, theirs) in zip(results, reference)])}
            for task in dict.fromkeys(names):
                at = [j for j, one in enumerate(names) if one == task]
                row[task] = float(np.mean([[right[j] for j in at] for right, _ in results]))
            row["answers over dsa"] = interval([np.mean(mine) - np.mean(theirs) for (mine, _), (theirs, _) in zip(results, reference)])
            rows.append(row)
            say(json.dumps(row), flush=True)
    return rows


def table(rows):
    """The rows as Markdown: answers in percent, differences with their intervals."""
    names = list(dict.fromkeys(TASKS))
    lines = ["| tokens | attention | loss | over dsa | " + " | ".join(names) + " | answers over dsa |",
             "|---" * (len(names) + 5) + "|"]
    for row in rows:
        loss, answers = row["loss over dsa"], [100 * part for part in row["answers over dsa"]]
        tasks = " | ".join(f"{100 * row[name]:.0f}" if name in row else "" for name in names)
        lines.append(f"| {row['length']} | {row['indexer']} | {row['loss']:.4f} | {loss[0]:+.4f} ({loss[1]:+.4f} to {loss[2]:+.4f}) | {tasks} | "
                     f"{answers[0]:+.1f} ({answers[1]:+.1f} to {answers[2]:+.1f}) |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True)
    parser.add_argument("--lengths", default="8k,32k,128k", type=lambda text: [tokens_in(one) for one in text.split(",")])
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--heads", type=int, help="of the indexers (default: the most)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True
    model, indexers, corpus = load(arguments.folder, device)
    heads = arguments.heads or max(model.config.index_heads)
    rows = evaluate(model, indexers, corpus, arguments.lengths, arguments.sequences, heads, arguments.seed, device, list(INDEXERS))
    about = {"heads": heads, "top_k": model.config.top_k, "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
             "torch": torch.__version__, "rows": rows}
    arguments.output.write_text(json.dumps(about, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
