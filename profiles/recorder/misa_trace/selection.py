"""Selections: what a kernel or a stack chose, in files that misa-prof compares and inspects."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .check import check_ids, check_row_numbers
from .errors import TraceError
from .safetensors_file import Path, read_file, write_file
from .schema import ARITHMETICS, FORMAT, WINDOW, as_dtype, at, expect_count, metadata_number, metadata_of, need, refuse
from .tensors import Tensor, tensor_of
from .trace import Trace

_OUTPUTS = ("topk", "heads", "linear", "blocks", "candidates", "scores")


@dataclass
class Selection:
    """A selection in memory: tokens counted from ks, [Q, k] with -1 at the end, and what else was chosen."""

    metadata: dict[str, str] = field(default_factory=dict)
    ks: Tensor | None = None
    ke: Tensor | None = None
    topk: Tensor | None = None
    topk_row: Tensor | None = None
    heads: Tensor | None = None
    blocks: Tensor | None = None
    candidates: Tensor | None = None
    linear: Tensor | None = None
    scores: Tensor | None = None


def _integers(value: Any, name: str) -> Tensor:
    return as_dtype(tensor_of(value, name), ("I32",), name)


def _matrix(value: Any, name: str) -> Tensor:
    tensor = _integers(value, name)
    if len(tensor.shape) == 3 and 1 in tensor.shape[:2]:
        tensor = tensor.reshape(-1, tensor.shape[2])  # a batch of one, or next_n of one
    if len(tensor.shape) != 2:
        refuse(
            "MP-E208",
            f"the shape is {list(tensor.shape)}, must be [rows, columns]",
            at(name),
            "reshape the tensor before it is saved",
        )
    expect_count(tensor.shape[0], "rows", name)
    expect_count(tensor.shape[1], "columns", name)
    return tensor


def write_selection(
    path: Path,
    topk: Any = None,
    *,
    topk_row: Any = None,
    arithmetic: str | None = None,
    trace: Trace | None = None,
    ks: Any = None,
    ke: Any = None,
    heads: Any = None,
    blocks: Any = None,
    scores: Any = None,
    metadata: Mapping[str, Any] | None = None,
) -> Selection:
    """Writes what was selected and returns it.

    topk [R, k]: tokens counted from each row's ks, in any order, -1 where there is none, integers of any width.
    topk_row [R]: the query row of each; without it they are rows 0 to R - 1. arithmetic: a name of docs/agreement.md.

    With `trace`, or with ks and ke [Q], the file is a recorded selection of docs/traces.md (kind = selection), which
    misa-prof inspects; every row must be there, its tokens are sorted and its scores with them. heads [Q, h] and blocks
    [Q, m] need it too, with index_n_heads and block_size in the metadata. Without windows the file holds `topk` and
    `topk_row` alone, for `misa-prof compare --selection`.
    """
    facts = metadata_of(metadata)
    if arithmetic is not None:
        if arithmetic not in ARITHMETICS:
            refuse("MP-E213", f"unknown arithmetic '{arithmetic}'", "write_selection", ", ".join(ARITHMETICS))
        facts["topk_arithmetic"] = arithmetic
    chosen = _matrix(topk, "topk") if topk is not None else None
    rows = _integers(topk_row, "topk_row") if topk_row is not None else None
    if trace is not None:
        of_trace = {key: value for key, value in trace.metadata.items() if key != "topk_arithmetic"}  # of its own topk
        facts = {**of_trace, "index_n_heads": str(trace.heads), **facts}
        ks, ke = trace.windows()
    facts["format"] = FORMAT
    if ks is None and ke is None:
        return _write_plain(path, chosen, rows, facts, heads is None and blocks is None and scores is None)
    if ks is None or ke is None:
        refuse("MP-E205", "a window has two ends", "write_selection", "ks and ke, or trace=")
    facts["kind"] = "selection"
    selection = Selection(metadata=facts, ks=_integers(ks, "ks"), ke=_integers(ke, "ke"))
    selection.heads = _matrix(heads, "heads") if heads is not None else None
    selection.blocks = _matrix(blocks, "blocks") if blocks is not None else None
    numbers = tensor_of(scores, "scores") if scores is not None else None
    if chosen is not None:
        chosen, numbers = _in_order(chosen, numbers, rows, len(need(selection.ks)))
    if selection.blocks is not None:
        selection.blocks, _ = _in_order(selection.blocks, None, None, len(need(selection.ks)))
    selection.topk, selection.scores = chosen, numbers
    _check(selection)
    tensors = {"ks": need(selection.ks), "ke": need(selection.ke)}
    for name in _OUTPUTS:
        if getattr(selection, name) is not None:
            tensors["out." + name] = getattr(selection, name)
    write_file(path, facts, tensors)
    return selection


def _write_plain(
    path: Path, chosen: Tensor | None, rows: Tensor | None, facts: dict[str, str], only: bool
) -> Selection:
    if chosen is None or not only:
        refuse(
            "MP-E205",
            "heads, blocks and scores need the windows they were chosen in",
            "write_selection",
            "trace=read_trace(...), or ks and ke",
        )
    if rows is not None:
        check_row_numbers(rows, len(chosen), 2**31 - 1, "topk_row")
    chosen, _ = _at_the_end(chosen, None)
    limits = np.full(len(chosen), 2**31 - 1, np.int64)
    check_ids(chosen.data, limits, "topk", "token", False, lambda row, id, limit: None)
    tensors = {"topk": chosen} if rows is None else {"topk": chosen, "topk_row": rows}
    write_file(path, facts, tensors)
    return Selection(metadata=facts, topk=chosen, topk_row=rows)


def _at_the_end(ids: Tensor, scores: Tensor | None, sort: bool = False) -> Any:
    """Moves each -1 to the end of its row, and with `sort` puts the ids in ascending order; scores follow."""
    key = np.where(ids.data == -1, 2**40, ids.data.astype(np.int64) if sort else 0)
    order = np.argsort(key, axis=1, kind="stable")
    moved = Tensor("I32", np.take_along_axis(ids.data, order, axis=1))
    if scores is None:
        return moved, None
    if scores.shape != ids.shape:
        refuse(
            "MP-E208",
            f"the shape is {list(scores.shape)}, must be that of topk, {list(ids.shape)}",
            at("scores"),
            "one score for each token",
        )
    numbers = scores if scores.dtype in ("F32", "F64") else as_dtype(scores, ("F32",), "scores")
    return moved, Tensor(numbers.dtype, np.take_along_axis(numbers.data, order, axis=1))


def _in_order(ids: Tensor, scores: Tensor | None, rows: Tensor | None, count: int) -> Any:
    ids, scores = _at_the_end(ids, scores, sort=True)
    if rows is not None:
        check_row_numbers(rows, len(ids), count, "topk_row")
    numbers = rows.data if rows is not None else np.arange(len(ids))
    if len(ids) != count:
        refuse(
            "MP-E252",
            f"the selection has {len(ids)} rows, there are {count} windows",
            at("topk"),
            "every row, or no windows: then the file holds topk and topk_row alone",
        )
    order = np.argsort(numbers, kind="stable")
    return ids[order], None if scores is None else scores[order]


def _check(selection: Selection) -> None:
    ks, ke = need(selection.ks).data.astype(np.int64), need(selection.ke).data.astype(np.int64)
    expect_count(len(ks), "rows", "ks")
    if ks.ndim != 1 or ks.shape != ke.shape:
        refuse(
            "MP-E208",
            f"ks and ke have the shapes {list(ks.shape)} and {list(ke.shape)}",
            at("ke"),
            "one entry per row",
        )
    if (ks < 0).any():
        refuse("MP-E230", f"the window begins at token {ks.min()}", at("ks"), WINDOW)
    if (ke < ks).any():
        refuse("MP-E231", "a window runs backwards", at("ke", int(np.argmax(ke < ks))), WINDOW)
    if selection.topk is None and selection.heads is None and selection.blocks is None:
        refuse("MP-E250", "nothing is recorded", "write_selection", "topk, heads or blocks")
    heads = metadata_number(selection.metadata, "index_n_heads")
    block_size = metadata_number(selection.metadata, "block_size") or 1
    if selection.heads is not None and heads is None:
        refuse(
            "MP-E213",
            "index_n_heads is missing: heads cannot be checked",
            "metadata",
            "index_n_heads = the number of heads before routing",
        )
    window = ke - ks
    limits = {
        "topk": (window, "token", True, "MP-E242"),
        "candidates": (window, "token", True, "MP-E242"),
        "heads": (np.full_like(window, heads or 0), "head", False, "MP-E241"),
        "blocks": (-(-window // block_size) + 1, "block", True, "MP-E241"),
    }
    for name, (limit, unit, ascending, id) in limits.items():
        tensor = getattr(selection, name)
        if tensor is None:
            continue
        if len(tensor) != len(ks):
            refuse("MP-E208", f"{len(tensor)} rows, there are {len(ks)} windows", at(name), "every row")

        def too_large(row: int, number: int, most: int, unit: str = unit, id: str = id, name: str = name) -> None:
            refuse(
                id,
                f"{unit} {number} is out of range: there are {most}",
                at(name, row),
                "ids count from the row's ks",
            )

        check_ids(tensor.data, limit, name, unit, ascending, too_large)


def read_selection(path: Path) -> Selection:
    """Reads what write_selection, or `misa-prof profile --dump-selection`, wrote, and checks it."""
    metadata, tensors = read_file(path)
    where = os.fspath(path)
    if metadata.get("kind") != "selection":
        if "topk" not in tensors or "q" in tensors:
            refuse("MP-E203", "the file holds no selection", where, "read_trace for a trace")
        return Selection(metadata=metadata, topk=_matrix(tensors["topk"], "topk"), topk_row=tensors.get("topk_row"))
    for name in ("ks", "ke"):
        if name not in tensors:
            refuse("MP-E205", f"there is no tensor '{name}': a selection needs its windows", where, "ks and ke")
    selection = Selection(metadata=metadata, ks=tensors["ks"], ke=tensors["ke"])
    for name in _OUTPUTS:
        setattr(selection, name, tensors.get("out." + name))
    try:
        _check(selection)
    except TraceError as error:
        raise TraceError(error.id, error.what, f"{where}, {error.where}", error.how) from None
    return selection
