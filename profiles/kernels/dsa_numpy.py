"""DSA in NumPy, on the CPU, as a plug-in of misa-prof: misa-prof compare --backend plugin:dsa_numpy.py --rows 4"""

import numpy as np

name, arithmetic = "numpy-dsa", "f32"


def accepts(step, task):
    return step == "score" or not task.force_ends  # HISA's choice of blocks is left to misa-prof


def score(task):
    q, slots = task.queries.numbers(), task.column_slots()
    keys = task.keys.numbers().reshape(-1, task.keys.dim)
    for m in range(len(q)):
        task.logits[m] = task.queries.weights[m] @ np.maximum(q[m] @ keys[slots[m]].T, 0)
    if task.keys.scales is not None:
        task.logits[:] *= task.keys.scales.reshape(-1)[slots]
    task.logits[slots < 0] = -np.inf


def select(task):
    tokens = task.column_tokens()
    for m, row in enumerate(task.logits):
        unseen = tokens[m] < 0
        best = np.lexsort((-row, unseen))[: min(task.k, (~unseen).sum())]  # stable: ties go to the lower token
        task.tokens[m] = -1
        task.tokens[m, : len(best)] = np.sort(tokens[m, best]) - task.windows.begin[m]
