import numpy as np

name, arithmetic = "numpy-dsa", "f32"


def score(task):
    q, slots = task.queries.numbers(), task.column_slots()
    keys = task.keys.numbers().reshape(-1, task.keys.dim)
    for m in range(len(q)):
        task.logits[m] = task.queries.weights[m] @ np.maximum(q[m] @ keys[slots[m]].T, 0)
    if task.keys.scales is not None:
        task.logits[:] *= task.keys.scales.reshape(-1)[slots]
    task.logits[slots < 0] = -np.inf
