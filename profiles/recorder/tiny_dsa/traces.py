"""Records traces of the trained indexers on held-out text with tasks in it: docs/traces.md says what is in them.

    python -m tiny_dsa.traces FOLDER OUT [--lengths 8k,32k,128k] [--rows 64] [--consecutive] [--layers 1,3,5] [--heads 64]

FOLDER is that of tiny_dsa.train. A file for each length, layer and number of heads. Rows are spread evenly over the last half; with
--consecutive they follow one another up to the last one. Rows of questions are among the spread ones.
"""

import argparse
import pathlib

import numpy as np
import torch

import misa_trace

from . import tasks
from .data import Corpus
from .model import Config, Indexer, Model, attend_to_all, mean_attention, quantise

NEEDLES = 8


def tokens_in(text):
    """8192 of "8k"."""
    return int(text[:-1]) * 1024 if text.endswith("k") else int(text)


def load(folder, device):
    """The model of a folder, its indexers and its corpus."""
    saved = torch.load(pathlib.Path(folder) / "model.pt", map_location=device, weights_only=True)
    config = Config(**{name: tuple(value) if isinstance(value, list) else value for name, value in saved["config"].items()})
    model = Model(config).to(device)
    model.load_state_dict(saved["model"])
    indexers = torch.nn.ModuleDict({f"{layer}-{heads}": Indexer(config, heads)
                                    for layer in config.global_layers() for heads in config.index_heads}).to(device)
    indexers.load_state_dict(saved["indexers"])
    return model.eval(), indexers.eval(), Corpus("", pathlib.Path(folder) / "corpus", config.vocabulary)


def tokens_with_needles(corpus, length, seed):
    """A sequence whose last tokens ask for needles that lie evenly in it, and where they stand: rows of `needle`, docs/traces.md."""
    draw = np.random.default_rng([seed, 2000, length])
    count = min(NEEDLES, max(1, length // 512))
    sequence, asked = corpus.sequence(draw, "held-out", length, ["needle"] * count, last=count)
    rows = []
    for one in asked:
        (fact, size), (question, asking), (_, answering) = one.fact, one.question, one.answer
        # The fact ends with the answer's own tokens: a blank and digits, then a full stop and a new line.
        rows.append([fact, size, question, asking, fact + size - answering, answering - 1])
    return torch.tensor(sequence), np.array(rows, dtype=np.int32)


def rows_of(length, count, needles, consecutive):
    if consecutive:
        return np.arange(length - count, length)
    asking = [question + size - 1 for _, _, question, size, _, _ in needles]
    others = np.linspace(length // 2, length - 1, count - len(asking)).round().astype(int)
    rows = set(asking) | set(others.tolist())
    free = (row for row in range(length // 2, length) if row not in rows)
    while len(rows) < count:
        rows.add(next(free))
    return np.array(sorted(rows))


@torch.no_grad()
def record(model, indexers, tokens, needles, rows, layers, heads, metadata, mass=True):
    """(layer, trace) of the rows of a sequence."""
    device, taken = next(model.parameters()).device, {}

    def attend(layer, hidden, q, k, v):
        taken[layer] = hidden[0], q[0], k[0]
        return attend_to_all(layer, hidden, q, k, v)

    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        model(tokens[None].to(device), attend)
    at = torch.tensor(rows, device=device)
    for layer in layers:
        hidden, q, k = taken[layer]
        indexer = indexers[f"{layer}-{heads}"]
        keys, key_scales = quantise(indexer.keys(hidden))
        queries, weights = indexer.queries(hidden[at], at)
        values, scales = quantise(queries)
        arrays = {"q": values.cpu(), "weights": (weights * scales).cpu(), "q_scale": scales.cpu(), "q_norm": queries.norm(dim=-1).cpu(),
                  "k": keys.cpu(), "k_scale": key_scales.cpu(), "q_pos": rows.astype(np.int32), "ks": np.zeros(len(rows), np.int32),
                  "ke": (rows + 1).astype(np.int32), "needle": needles}
        if mass:
            arrays["attention_mass"] = mean_attention(q, k, at).half().cpu()
        yield layer, misa_trace.make_trace({**metadata, "layer": str(layer)}, **arrays)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--lengths", default="8k,32k,128k")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--consecutive", action="store_true")
    parser.add_argument("--layers", help="default: all that have indexers")
    parser.add_argument("--heads", type=int, help="of the indexer (default: the most)")
    parser.add_argument("--no-mass", action="store_true", help="without attention_mass, a file a third of the size")
    parser.add_argument("--seed", type=int, default=1, help="of the text and its needles")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True
    model, indexers, corpus = load(arguments.folder, device)
    config = model.config
    heads = arguments.heads or max(config.index_heads)
    layers = [int(one) for one in arguments.layers.split(",")] if arguments.layers else config.global_layers()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for text in arguments.lengths.split(","):
        length = tokens_in(text)
        tokens, needles = tokens_with_needles(corpus, length, arguments.seed)
        rows = rows_of(length, arguments.rows, needles, arguments.consecutive)
        metadata = {"model": f"tiny-dsa ({config.layers} layers, width {config.width}, {config.heads} heads)", "provenance": "small-trained",
                    "phase": "prefill", "index_n_heads": str(heads), "index_head_dim": str(config.index_dim), "index_topk": str(config.top_k),
                    "context_length": str(length), "rope_dims": f"first {config.index_rope}, half against half", "hadamard": "true",
                    "k_quant": "e4m3, f32 scale per token = absmax / 448", "q_quant": "e4m3, f32 scale per (token, head) folded into weights",
                    "weights_folded": "H^-0.5 * D^-0.5 * q_scale"}
        kind = "consecutive" if arguments.consecutive else "spread"
        for layer, trace in record(model, indexers, tokens, needles, rows, layers, heads, metadata, not arguments.no_mass):
            path = arguments.out / f"tiny-dsa-{text}-layer{layer}-h{heads}-{kind}.safetensors"
            misa_trace.save_trace(path, trace)
            print(path)


if __name__ == "__main__":
    main()
