"""What the model reads: a tokenizer of the corpus, its tokens, and sequences of text with tasks in them."""

import json
import pathlib

import numpy as np
import tokenizers
import torch

from . import tasks
from .texts import END

ANSWER_WEIGHT = 10.0  # of a token of an answer; others 1


def train_tokenizer(text, size):
    """Byte-level BPE, each digit a token of its own."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=size, special_tokens=["<end>"], show_progress=False,
                                             initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(text.split(END), trainer)
    return tokenizer


class Corpus:
    """The tokens of the corpus in `texts`, made once and kept in `folder`."""

    def __init__(self, texts, folder, vocabulary, sample=20_000_000):
        texts, folder = pathlib.Path(texts), pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        ready = folder / "corpus.json"
        if not ready.exists():
            train = (texts / "train.txt").read_text(encoding="utf-8")
            tokenizer = train_tokenizer(train[:sample], vocabulary)
            tokenizer.save(str(folder / "tokenizer.json"))
            counts = {}
            for name in ("train", "held-out"):
                parts = (texts / f"{name}.txt").read_text(encoding="utf-8").split(END)
                encoded = tokenizer.encode_batch_fast(parts)
                np.save(folder / f"{name}.npy", np.concatenate([np.array([*one.ids, 0], dtype=np.uint16) for one in encoded]))
                counts[name] = int(sum(len(one.ids) + 1 for one in encoded))
            words = tasks.common_words(train[:sample])
            ready.write_text(json.dumps({"tokens": counts, "words": words}) + "\n")
        self.words = json.loads(ready.read_text())["words"]
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokens = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("train", "held-out")}

    def encode(self, text):
        return self.tokenizer.encode(text).ids

    def filler(self, draw, part, length):
        """`length` tokens from anywhere; a corpus that is shorter is gone through again."""
        tokens = self.tokens[part]
        start = int(draw.integers(0, max(1, len(tokens) - length)))
        return np.resize(tokens[start : start + length], length).tolist()

    def sequence(self, draw, part, length, names, last=0, depth=None):
        """tasks.fill with text of this part of the corpus. Tasks that would take more than half of the sequence are left out."""
        asked, room = [], length // 2
        for name in names:
            task = tasks.TASKS[name](draw, self.words, self.encode)
            if task.size() <= room:
                asked.append(task)
                room -= task.size()
        return tasks.fill(draw, self.filler(draw, part, length), length, asked, min(last, len(asked)), depth)


class Batches(torch.utils.data.Dataset):
    """Batch i of a stage: tokens [B, N + 1] and the weights of its N predictions. It depends on the seed, the stage and i alone."""

    def __init__(self, corpus, stage, seed, first=0):
        self.corpus, self.stage, self.seed, self.first = corpus, stage, seed, first

    def __len__(self):
        return self.stage.steps - self.first

    def __getitem__(self, i):
        step = self.first + i
        draw = np.random.default_rng([self.seed, self.stage.number, step])
        lengths, shares = zip(*self.stage.lengths.items())
        length = int(draw.choice(lengths, p=shares))
        names = list(tasks.TASKS)
        chances = [3.0 if name == "needle" else 1.0 for name in names]
        tokens, weights = [], []
        for _ in range(max(1, self.stage.tokens // length)):
            # About a sixth of a sequence is tasks, at most 64 of them.
            picked = draw.choice(names, size=int(np.clip(length // 512, 1, 64)), p=np.array(chances) / sum(chances))
            sequence, asked = self.corpus.sequence(draw, "train", length + 1, picked, last=len(picked) // 2)
            weight = np.ones(length, dtype=np.float32)
            for one in asked:
                start, count = one.answer
                weight[start - 1 : start - 1 + count] = ANSWER_WEIGHT
            tokens.append(sequence)
            weights.append(weight)
        return torch.tensor(np.array(tokens, dtype=np.int64)), torch.tensor(np.array(weights))
