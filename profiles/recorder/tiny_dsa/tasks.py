"""Questions about what stands in a long text, in the manner of RULER: generated, seeded, with one right answer each.

A task is facts, which are put into a text at places of their own, then a question, then the answer. A model answers where the most
likely token is the right one at every token of the answer.
"""

import re
from collections import Counter
from dataclasses import dataclass


@dataclass
class Task:
    name: str
    facts: list  # of lists of tokens, in the order in which they stand in the text
    question: list
    answer: list
    key: int = 0  # which fact has the answer

    def size(self):
        return len(self.question) + len(self.answer) + sum(map(len, self.facts))


def common_words(text, count=2000):
    """The words of four to nine letters that are the most frequent in a text; ties: the first in the alphabet."""
    counted = Counter(re.findall(r"\b[a-z]{4,9}\b", text))
    return [word for word, _ in sorted(counted.items(), key=lambda one: (-one[1], one[0]))[:count]]


def number(draw, digits):
    return "".join(str(digit) for digit in draw.integers(0, 10, digits))


def names(draw, words, count):
    """Different pairs of words."""
    found = {}
    while len(found) < count:
        found[" ".join(words[i] for i in draw.integers(0, len(words), 2))] = None
    return list(found)


def needle(draw, words, encode):
    [name] = names(draw, words, 1)
    value = number(draw, 6)
    return Task("needle", [encode(f"\nThe secret number of {name} is {value}.\n")],
                encode(f"\nQuestion: what is the secret number of {name}? Answer:"), encode(f" {value}.\n"))


def needles(draw, words, encode):
    asked = names(draw, words, 4)
    values = [number(draw, 4) for _ in asked]
    facts = [encode(f"\nThe secret number of {name} is {value}.\n") for name, value in zip(asked, values)]
    return Task("needles", facts, encode(f"\nQuestion: what are the secret numbers of {', '.join(asked)}? Answer:"),
                encode(f" {', '.join(values)}.\n"))


def pairs(draw, words, encode):
    keys = [number(draw, 8) for _ in range(16)]
    values = [number(draw, 8) for _ in keys]
    which = int(draw.integers(len(keys)))
    lines = "".join(f'"{key}": "{value}",\n' for key, value in zip(keys, values))
    return Task("pairs", [encode(f"\n{{\n{lines}}}\n")], encode(f'\nQuestion: what is the value of "{keys[which]}"? Answer:'),
                encode(f' "{values[which]}".\n'))


def tracking(draw, words, encode):
    chains = [names(draw, words, 4) for _ in range(2)]
    chains = [[name.replace(" ", "_") for name in chain] for chain in chains]
    values = [number(draw, 5) for _ in chains]
    facts = []
    for step in range(4):
        for chain, value in zip(chains, values):
            facts.append(encode(f"\nlet {chain[step]} = {chain[step - 1] if step else value};\n"))
    return Task("tracking", facts, encode(f"\nQuestion: what is the value of {chains[0][3]}? Answer:"), encode(f" {values[0]}.\n"))


def copying(draw, words, encode):
    [name] = names(draw, words, 1)
    passage = " ".join(words[i] for i in draw.integers(0, len(words), 24))
    return Task("copying", [encode(f"\nThe passage of {name} begins: {passage}. It ends.\n")],
                encode(f"\nQuestion: what is the passage of {name}? Answer:"), encode(f" {passage}.\n"))


def counting(draw, words, encode):
    """Which of three words stands in the list most often: 8 times, where the others stand 4 times."""
    [name] = names(draw, words, 1)
    three = [words[i] for i in draw.choice(len(words), 3, replace=False)]
    listed = [three[0]] * 8 + [three[1]] * 4 + [three[2]] * 4
    facts = [encode(f"\nThe list of {name} has {listed[i]}.\n") for i in draw.permutation(len(listed))]
    return Task("counting", facts, encode(f"\nQuestion: which word does the list of {name} have most often? Answer:"),
                encode(f" {three[0]}.\n"))


TASKS = {task.__name__: task for task in (needle, needles, pairs, tracking, copying, counting)}


@dataclass
class Asked:
    """Where a task stands in a sequence: [start, length) of the fact with the answer, of the question, and of the answer."""

    name: str
    fact: tuple
    question: tuple
    answer: tuple


def fill(draw, filler, length, tasks, last=0, depth=None):
    """A sequence of `length` tokens: `filler` with the tasks in it, and where they stand.

    The last `last` tasks are asked at the end, one after the other; the others anywhere behind their facts. Facts lie anywhere, or, with
    `depth` from 0 to 1, at that part of the text."""
    pieces = []  # (place in the filler, order, tokens, task, part)
    size = length - sum(task.size() for task in tasks)
    assert size > 0, "the tasks are longer than the sequence"
    for t, task in enumerate(tasks):
        at_end = t >= len(tasks) - last
        asked = size if at_end else int(draw.integers(1, size))
        if depth is None:
            places = sorted(int(place) for place in draw.integers(0, asked, len(task.facts)))
        else:
            places = [int(depth * asked)] * len(task.facts)
        for part, (place, fact) in enumerate(zip(places, task.facts)):
            pieces.append((place, 0, t, part, fact))
        pieces.append((asked, 1, t, -1, task.question + task.answer))
    sequence, where, used = [], {}, 0
    for place, _, t, part, tokens in sorted(pieces, key=lambda piece: piece[:4]):
        sequence.extend(filler[used:place])
        used = place
        where[t, part] = len(sequence)
        sequence.extend(tokens)
    sequence.extend(filler[used:size])
    found = []
    for t, task in enumerate(tasks):
        question = where[t, -1]
        found.append(Asked(task.name, (where[t, task.key], len(task.facts[task.key])), (question, len(task.question)),
                           (question + len(task.question), len(task.answer))))
    return sequence, found
