"""dsa and misa in torch, operator by operator, as a plug-in: misa-prof profile --backend plugin:torch_eager.py"""

import torch
from torch_peer import Planned, accepts, index  # noqa: F401

name, device, any_order, indexers = "torch-eager", "cpu", True, ("dsa", "misa")
description = f"torch {torch.__version__}, eager, {torch.get_num_threads()} threads"


def plan(plan):
    return Planned(plan, compiled=False)
