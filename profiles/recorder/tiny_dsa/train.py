"""Trains the model and its indexers on one GPU, in stages, and says what it answers afterwards.

    python -m tiny_dsa.train FOLDER --texts CORPUS [--size full, small] [--seed N] [--minutes M]

Stages: `base` at short lengths, `long` at lengths up to the longest, `index` trains the indexers alone, by the divergence of their
scores from the mean attention of heads, `sparse` trains all with attention to what the indexers select (DeepSeek-V3.2, arXiv 2512.02556,
section 2.1). With --minutes it stops in time and goes on when it is called again, with the same result. FOLDER gets model.pt, and
training.json: losses, answers, seconds, seed, hashes of the texts, versions.
"""

import argparse
import json
import pathlib
import platform
import sys
import time
from dataclasses import dataclass, field

import numpy as np
import torch

from .data import Batches, Corpus
from .model import Config, Indexer, Model, attend_to_all, divergence, loss_of, mean_attention


@dataclass
class Stage:
    name: str
    number: int
    steps: int
    tokens: int           # of a step
    lengths: dict         # of sequences, and how often each is drawn
    rate: float           # of learning, at its peak
    rows: int = 0         # of a sequence, on which indexers learn
    answered: dict = field(default_factory=dict)  # lengths at which the model is asked afterwards, and how many sequences


@dataclass
class Size:
    config: Config
    stages: list


SIZES = {
    "full": Size(Config(), [
        Stage("base", 1, 2400, 262144, {4096: 1.0}, 2e-3, answered={4096: 16}),
        Stage("long", 2, 330, 262144, {8192: 0.3, 32768: 0.4, 131072: 0.3}, 6e-4, answered={8192: 16, 32768: 8, 131072: 4}),
        Stage("index", 3, 600, 32768, {8192: 0.3, 32768: 0.7}, 1e-3, rows=128),
        Stage("sparse", 4, 120, 32768, {8192: 1.0}, 1e-4, rows=128, answered={8192: 16, 32768: 8, 131072: 4}),
    ]),
    "small": Size(Config(vocabulary=1024, layers=2, width=64, heads=2, hidden=128, window=64, index_heads=(8, 4), index_dim=32, index_rope=16,
                         top_k=64), [
        Stage("base", 1, 60, 2048, {512: 1.0}, 3e-3, answered={512: 2}),
        Stage("long", 2, 10, 2048, {1024: 0.5, 2048: 0.5}, 1e-3, answered={2048: 1}),
        Stage("index", 3, 30, 1024, {1024: 1.0}, 3e-3, rows=32),
        Stage("sparse", 4, 5, 1024, {1024: 1.0}, 1e-4, rows=32, answered={1024: 1}),
    ]),
}


class Optimizers:
    """Muon for matrices of layers, AdamW for the rest; one rate for both."""

    def __init__(self, parameters):
        matrices = [p for name, p in parameters if p.ndim == 2 and "embedding" not in name]
        others = [p for name, p in parameters if p.ndim != 2 or "embedding" in name]
        self.all = [torch.optim.Muon(matrices, lr=0, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")]
        if others:
            self.all.append(torch.optim.AdamW(others, lr=0, betas=(0.9, 0.95), weight_decay=0))

    def step(self, rate):
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self):
        return [optimizer.state_dict() for optimizer in self.all]

    def load(self, states):
        for optimizer, state in zip(self.all, states):
            optimizer.load_state_dict(state)


def rate_at(stage, step):
    """Rises over the first twentieth of the steps and falls to nothing over the last two fifths."""
    part = (step + 1) / stage.steps
    return stage.rate * min(1.0, part / 0.05, (1 + 1 / stage.steps - part) / 0.4)


class Training:
    def __init__(self, folder, corpus, size, seed, device):
        self.folder, self.corpus, self.size, self.seed, self.device = folder, corpus, size, seed, device
        torch.manual_seed(seed)
        config = size.config
        self.model = Model(config).to(device)
        self.indexers = torch.nn.ModuleDict({f"{layer}-{heads}": Indexer(config, heads)
                                             for layer in config.global_layers() for heads in config.index_heads}).to(device)
        if device.type == "cuda":
            for block in self.model.blocks:
                block.compile_parts()
        self.at, self.step, self.seconds, self.log = 0, 0, 0.0, []
        self.optimizers = None

    def parameters_of(self, stage):
        named = []
        if stage.name != "index":
            named += self.model.named_parameters()
        if stage.rows:
            named += self.indexers.named_parameters()
        return named

    def begin(self):
        self.optimizers = Optimizers(self.parameters_of(self.size.stages[self.at]))

    @property
    def checkpoint(self):
        return self.folder / "checkpoint.pt"

    def save(self):
        whole = {"model": self.model.state_dict(), "indexers": self.indexers.state_dict(), "at": self.at, "step": self.step,
                 "seconds": self.seconds, "log": self.log, "seed": self.seed,
                 "optimizers": self.optimizers.state() if self.optimizers else None}
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(whole, partial)
        partial.replace(self.checkpoint)

    def load(self):
        whole = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        if whole["seed"] != self.seed:
            sys.exit(f"train: {self.checkpoint} is of seed {whole['seed']}; try: another folder, or --seed {whole['seed']}")
        self.model.load_state_dict(whole["model"])
        self.indexers.load_state_dict(whole["indexers"])
        self.at, self.step, self.seconds, self.log = whole["at"], whole["step"], whole["seconds"], whole["log"]
        if self.at < len(self.size.stages):
            self.begin()
            if whole["optimizers"]:
                self.optimizers.load(whole["optimizers"])

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def run(self, minutes):
        """Trains until the end, or for some minutes. Returns whether it is at the end."""
        begin, before = time.monotonic(), self.seconds
        def spent():
            return time.monotonic() - begin
        while self.at < len(self.size.stages):
            stage = self.size.stages[self.at]
            if self.optimizers is None:
                self.begin()
            workers = 8 if self.device.type == "cuda" else 0
            batches = torch.utils.data.DataLoader(Batches(self.corpus, stage, self.seed, self.step), batch_size=None,
                                                  num_workers=workers, pin_memory=workers > 0)
            lost = []
            for tokens, weights in batches:
                tokens, weights = tokens.to(self.device, non_blocking=True), weights.to(self.device, non_blocking=True)
                losses = self.learn(stage, tokens, weights)
                self.optimizers.step(rate_at(stage, self.step))
                lost.append(losses)
                self.step += 1
                if self.step % max(1, stage.steps // 20) == 0 or self.step == stage.steps:
                    means = {name: round(float(np.mean([float(one[name]) for one in lost])), 4) for name in lost[0]}
                    self.seconds = before + spent()
                    self.log.append({"stage": stage.name, "step": self.step, "seconds": round(self.seconds, 1), **means})
                    print(self.log[-1], flush=True)
                    lost = []
                if minutes and spent() > 60 * minutes:
                    self.seconds = before + spent()
                    self.save()
                    return False
            for length, count in stage.answered.items():
                self.log.append({"stage": stage.name, "answered": length, **self.answered(length, count)})
                print(self.log[-1], flush=True)
            self.at, self.step, self.optimizers = self.at + 1, 0, None
            self.seconds = before + spent()
            self.save()
        return True

    def learn(self, stage, tokens, weights):
        if stage.name == "index":
            return self.learn_indexers(stage, tokens)
        with self.autocast():
            if stage.name == "sparse":
                return self.learn_sparsely(stage, tokens, weights)
            loss = loss_of(self.model, self.model(tokens[:, :-1]), tokens[:, 1:], weights)
        loss.backward()
        return {"loss": loss.detach()}

    def rows_of(self, stage, tokens):
        return torch.randperm(tokens, device=self.device)[:stage.rows].sort().values

    def learn_indexers(self, stage, tokens):
        taken = {}

        def attend(layer, hidden, q, k, v):
            taken[layer] = hidden[0], q[0], k[0]
            return attend_to_all(layer, hidden, q, k, v)

        losses = {}
        for sequence in tokens[:, :-1]:
            with torch.no_grad(), self.autocast():
                self.model(sequence[None], attend)
            positions = torch.arange(len(sequence), device=self.device)
            rows = self.rows_of(stage, len(sequence))
            for layer, (hidden, q, k) in taken.items():
                target = mean_attention(q, k, rows)
                for heads in self.size.config.index_heads:
                    loss = divergence(target, self.indexers[f"{layer}-{heads}"].scores(hidden, positions, rows)) / len(tokens)
                    loss.backward()
                    losses[f"{layer}-{heads}"] = losses.get(f"{layer}-{heads}", 0) + loss.detach()
        return losses

    def learn_sparsely(self, stage, tokens, weights):
        config = self.size.config
        heads = config.index_heads[self.step % len(config.index_heads)]
        divergences = []

        def attend(layer, hidden, q, k, v):
            indexer, count = self.indexers[f"{layer}-{heads}"], hidden.shape[1]
            positions = torch.arange(count, device=self.device)
            masks = []
            with torch.no_grad():
                for one in hidden:
                    mask = torch.zeros(count, count, dtype=torch.bool, device=self.device)
                    for rows in positions.split(512):
                        scores = indexer.scores(one, positions, rows)
                        best = scores.topk(min(config.top_k, count), sorted=False)
                        mask[rows[:, None], best.indices] = best.values > -torch.inf
                    masks.append(mask)
            masks = torch.stack(masks)
            with torch.autocast(self.device.type, enabled=False):
                for b, one in enumerate(hidden):
                    rows = self.rows_of(stage, count)
                    target = mean_attention(q[b].detach(), k[b].detach(), rows)
                    scores = indexer.scores(one.detach(), positions, rows).masked_fill(~masks[b, rows], -torch.inf)
                    divergences.append(divergence(target, scores))
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=masks[:, None])

        loss = loss_of(self.model, self.model(tokens[:, :-1], attend), tokens[:, 1:], weights)
        divergent = torch.stack(divergences).mean()
        (loss + divergent).backward()
        return {"loss": loss.detach(), "divergence": divergent.detach()}

    @torch.no_grad()
    def answered(self, length, count, attend=attend_to_all):
        """The share of tasks answered at this length, by task: facts anywhere, questions at the end, held-out text."""
        right = {}
        for i in range(count):
            draw = np.random.default_rng([self.seed, 1000, length, i])
            names = ["needle"] * 6 + ["needles", "pairs", "tracking", "copying", "counting"] * (2 if length >= 4096 else 1)
            if length < 4096:
                names = names[:8] if length >= 1024 else names[:2]
            sequence, asked = self.corpus.sequence(draw, "held-out", length, names, last=len(names))
            tokens = torch.tensor(sequence, device=self.device)
            with self.autocast():
                hidden = self.model(tokens[None], attend)[0]
                for one in asked:
                    start, size = one.answer
                    best = self.model.logits(hidden[start - 1 : start - 1 + size]).argmax(-1)
                    right.setdefault(one.name, []).append(bool((best == tokens[start : start + size]).all()))
        return {name: round(sum(found) / len(found), 3) for name, found in right.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--texts", type=pathlib.Path, required=True, help="what tiny_dsa.texts made")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="stop after so many, to go on later")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True  # values of FP8 are exact in TF32
    size = SIZES[arguments.size]
    corpus = Corpus(arguments.texts, arguments.folder / "corpus", size.config.vocabulary)
    training = Training(arguments.folder, corpus, size, arguments.seed, device)
    if training.checkpoint.exists():
        training.load()
    if not training.run(arguments.minutes):
        print(f"train: stopped after {training.seconds:.0f} s in all; call it again to go on")
        return
    torch.save({"config": size.config.as_dict(), "model": training.model.state_dict(), "indexers": training.indexers.state_dict()},
               arguments.folder / "model.pt")
    texts = json.loads((arguments.texts / "texts.json").read_text())
    about = {"seed": arguments.seed, "size": arguments.size, "seconds": round(training.seconds, 1), "config": size.config.as_dict(),
             "texts": {name: texts[name] for name in ("train", "held-out")}, "packages": texts["packages"],
             "versions": {"python": platform.python_version(), "torch": torch.__version__},
             "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine(),
             "log": training.log}
    (arguments.folder / "training.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
