"""One recorded call of an indexer: what its kernel was given, for the chosen rows, on the CPU; and its checks."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Tuple, TypeVar

import torch

# A stack's scores may differ from the formula in double by this part of the row's largest: FP8 tensor cores keep about
# 14 bits of a product, and some stacks round scores to bf16 (8 bits). A wrong factor or formula differs by far more.
SCORE_TOLERANCE = 2e-2

Function = TypeVar("Function", bound=Callable[..., Any])


def on_cpu(function: Function) -> Function:
    """The recorder's own tensors are on the CPU and without gradients, whatever the engine has made the default."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.no_grad(), torch.device("cpu"):
            return function(*args, **kwargs)

    return run  # type: ignore[return-value]


class Refused(ValueError):
    """The call is not of the form that a trace holds; the text says why."""


@dataclass
class Pages:
    """Paged keys of a call: the pages that its rows use, and which row uses which."""

    ids: List[int]  # numbers in the stack's cache
    bytes: torch.Tensor  # U8 [len(ids), page_size, D + 4]
    tables: List[List[int]]  # of each kept sequence: places in `ids`
    lengths: List[List[int]]  # of each kept sequence: tokens that each of its next_n rows sees


@dataclass
class Call:
    """R kept rows of M. Contiguous: keys k [N, D] with windows [ks, ke) of each row; or pages."""

    stack: str
    layer: Optional[int]  # None: not known
    phase: str
    kept: List[int]  # which of the M rows
    rows: int  # M
    q: torch.Tensor  # [R, H, D]
    weights: torch.Tensor  # F32 [R, H]
    k: Optional[torch.Tensor] = None
    k_scale: Optional[torch.Tensor] = None
    ks: List[int] = field(default_factory=list)
    ke: List[int] = field(default_factory=list)
    q_pos: List[int] = field(default_factory=list)  # contiguous; empty: as many keys as a row sees, less one
    pages: Optional[Pages] = None
    scores: Dict[int, torch.Tensor] = field(default_factory=dict)  # of some kept rows: those of the stack, window only
    topk: Optional[torch.Tensor] = None  # I32 [R, k], counted from ks, -1 at the end
    top_k: Optional[int] = None
    metadata: Dict[str, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        held = [self.q, self.weights, self.k, self.k_scale, self.topk, None if self.pages is None else self.pages.bytes]
        return sum(tensor.numel() * tensor.element_size() for tensor in held if tensor is not None)

    def window(self, row: int) -> int:
        """Tokens that a kept row sees."""
        if self.pages is not None:
            next_n = len(self.pages.lengths[0])
            return self.pages.lengths[row // next_n][row % next_n]
        return self.ke[row] - self.ks[row]

    def keys(self, row: int) -> torch.Tensor:
        """Dequantised keys that a kept row sees, [n, D] in double."""
        if self.pages is None:
            assert self.k is not None
            keys = self.k[self.ks[row] : self.ke[row]].double()
            return keys if self.k_scale is None else keys * self.k_scale[self.ks[row] : self.ke[row], None].double()
        sequence = row // len(self.pages.lengths[0])
        values, scales = split_pages(self.pages.bytes[self.pages.tables[sequence]])
        keys = values.float().double() * scales[..., None].double()
        return keys.flatten(0, 1)[: self.window(row)]

    def formula(self, row: int) -> torch.Tensor:
        """Scores of a kept row by the formula of docs/traces.md, in double: [n]."""
        products = self.keys(row) @ self.q[row].float().double().T
        return products.relu() @ self.weights[row].double()

    def measure_factor(self) -> float:
        """The factor between the stack's scores and the formula: 1 where the weights hold everything.

        It is measured on the rows whose scores were kept, and one within 1e-4 of 1, D^-1/2, H^-1/2 or their product is
        taken to be that one. Refused if it does not reproduce those rows.
        """
        heads, dim = self.q.shape[1:]
        measured: List[Tuple[int, float, torch.Tensor, torch.Tensor]] = []
        for row, theirs in self.scores.items():
            ours, theirs = self.formula(row), theirs.double()
            if not bool(torch.isfinite(theirs).all()):
                raise Refused("scores of row {} are not finite inside its window".format(self.kept[row]))
            if float(ours.abs().max()) > 0:
                measured.append((row, float(ours @ theirs) / float(ours @ ours), ours, theirs))
        if not measured:
            raise Refused("every checked score is 0, so the formula cannot be checked")
        factor = measured[0][1]
        for known in (1.0, dim**-0.5, heads**-0.5, (dim * heads) ** -0.5):
            if abs(factor / known - 1) < 1e-4:
                factor = known
        for row, _, ours, theirs in measured:
            error = float((theirs - factor * ours).abs().max()) / float(theirs.abs().max() or 1)
            if factor <= 0 or not error <= SCORE_TOLERANCE:
                raise Refused("the formula does not reproduce the scores of row {}: they differ by {:.3g} of the most"
                              .format(self.kept[row], error))
        return factor

    def set_topk(self, chosen: torch.Tensor, top_k: Optional[int] = None) -> None:
        """Takes over the selection of the kept rows, [R, k]: ids counted from ks. Those outside a window become -1.

        Refused if a row whose scores were kept has not the k best of them.
        """
        ids = chosen.detach().to("cpu", torch.int64)
        count = ids.shape[1]
        topk = torch.full(ids.shape, -1, dtype=torch.int32)
        for row in range(len(ids)):
            inside = ids[row][(ids[row] >= 0) & (ids[row] < self.window(row))]
            topk[row, : len(inside)] = inside.int()
            if row in self.scores:
                self._check_topk(row, inside, count)
        self.topk, self.top_k = topk, top_k or count

    def _check_topk(self, row: int, ids: torch.Tensor, count: int) -> None:
        scores = self.scores[row].double()
        wanted = min(count, len(scores))
        if len(torch.unique(ids)) != wanted:
            raise Refused("row {} selected {} tokens of its window, not {}: its ids do not count from ks".format(
                self.kept[row], len(torch.unique(ids)), wanted))
        others = torch.ones(len(scores), dtype=torch.bool)
        others[ids] = False
        if bool(others.any()):
            slack = 1e-3 * float(scores.abs().max())
            if float(scores[ids].min()) < float(scores[others].max()) - slack:
                raise Refused("row {} did not select the tokens of the largest scores".format(self.kept[row]))


def split_pages(pages: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """FP8 values [n, page_size, D] and scales [n, page_size] of pages U8 [n, page_size, D + 4]: values come first."""
    count, size, width = pages.shape
    flat = pages.reshape(count, size * width)
    values = flat[:, : size * (width - 4)].contiguous().view(torch.float8_e4m3fn).view(count, size, width - 4)
    return values, flat[:, size * (width - 4) :].contiguous().view(torch.float32)


def spread(count: int, limit: int) -> List[int]:
    """At most `limit` of 0 to count - 1, evenly spaced, the last one included."""
    kept = min(count, limit)
    return [(i + 1) * count // kept - 1 for i in range(kept)]


def take(tensor: torch.Tensor, rows: List[int]) -> torch.Tensor:
    """Rows of a tensor on any device, copied to the CPU. FP8 is indexed as bytes."""
    tensor = tensor.detach()
    index = torch.tensor(rows, dtype=torch.int64, device=tensor.device)
    if tensor.element_size() == 1:
        return tensor.view(torch.uint8).index_select(0, index).cpu().view(tensor.dtype)
    return tensor.index_select(0, index).cpu()


def to_list(tensor: Any) -> List[int]:
    """The integers of a tensor of any shape, flat."""
    return [int(number) for number in torch.as_tensor(tensor).detach().reshape(-1).cpu().tolist()]
