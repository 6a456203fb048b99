"""dsa and misa in torch.compile, as a plug-in: misa-prof profile --backend plugin:torch_compiled.py

The first call compiles, so give it --time-limit 300 and a --budget that holds it. Needs a C++ compiler.
"""

import torch
from torch_peer import Planned, accepts, index  # noqa: F401

name, device, any_order, indexers = "torch-compiled", "cpu", True, ("dsa", "misa")
description = f"torch {torch.__version__}, torch.compile, {torch.get_num_threads()} threads"


def plan(plan):
    return Planned(plan, compiled=True)
