"""Workloads of FlashInfer-Bench's definitions dsa_topk_indexer_*, made into traces and back.

Such a workload is a line of JSON: its axes, and for each input a description of where it comes from. The inputs are
q_index_fp8 [batch_size, heads, D] e4m3, k_index_cache_fp8 [num_pages, page_size, 1, D + 4] int8 (a page is page_size
times D FP8 bytes and then page_size f32 scales), weights [batch_size, heads] f32, seq_lens [batch_size] and block_table
[batch_size, max_num_pages] i32. The output topk_indices [batch_size, topk] i32 holds physical tokens, page * page_size
+ offset, with -1 at the end. Source: FlashInfer-Bench, docs/flashinfer_trace/workload.md and
docs/op_type_schema/dsa_paged.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import uuid as uuids
from typing import Any

import numpy as np

from .errors import TraceError
from .forms import one_row_each, paged
from .safetensors_file import Path, read_file, write_file
from .schema import as_dtype, at, need, refuse
from .tensors import Tensor, tensor_of, to_e4m3
from .trace import Trace, join_pages, make_trace

# Their input -> our tensor.
INPUTS = {
    "q_index_fp8": "q",
    "k_index_cache_fp8": "k_pages",
    "weights": "weights",
    "seq_lens": "seq_lens",
    "block_table": "block_table",
}
_NAME = re.compile(r"dsa_topk_indexer_fp8_h(\d+)_d(\d+)_topk(\d+)_ps(\d+)")
_FOLDER = "dsa_paged"


def import_workload(path: Path, uuid: str | None = None, *, root: Path | None = None, seed: int | None = None) -> Trace:
    """The trace of a workload of a .jsonl file: the only one, or that of `uuid` (its beginning is enough).

    Paths in it are relative to `root`, which without it is the first folder above the file that has them. Public
    workloads have lengths and tables as they were and other inputs as "random": with `seed` these are drawn, and the
    trace says so; without it they are refused.
    """
    definition, workload = _find(path, uuid)
    found = _NAME.fullmatch(definition)
    if found is None:
        refuse(
            "MP-E213",
            f"the definition is '{definition}'",
            os.fspath(path),
            "a workload of dsa_topk_indexer_fp8_h.._d.._topk.._ps..",
        )
    heads, dim, top_k, page_size = (int(number) for number in found.groups())
    axes, inputs = workload["axes"], workload["inputs"]
    shapes = {
        "q_index_fp8": (axes["batch_size"], heads, dim),
        "k_index_cache_fp8": (axes["num_pages"], page_size, 1, dim + 4),
        "weights": (axes["batch_size"], heads),
        "seq_lens": (axes["batch_size"],),
        "block_table": (axes["batch_size"], axes["max_num_pages"]),
    }
    tensors: dict[str, Tensor] = {}
    drawn: list[str] = []
    for name, shape in shapes.items():
        kind = inputs.get(name, {}).get("type")
        if kind == "safetensors":
            tensors[name] = _stored(path, root, inputs[name])
        elif kind == "random" and seed is not None and name in _DRAWN:
            tensors[name] = _DRAWN[name](np.random.default_rng([seed, len(drawn)]), shape)
            drawn.append(name)
        else:
            how = "seed=, to draw its values" if kind == "random" and name in _DRAWN else "a workload that holds it"
            refuse("MP-E205", f"the input '{name}' is {kind or 'missing'}: there are no values", os.fspath(path), how)
        if tensors[name].shape != shape:
            refuse(
                "MP-E208",
                f"the shape of '{name}' is {list(tensors[name].shape)}, the axes say {list(shape)}",
                os.fspath(path),
                "the workload's own tensors",
            )
    metadata: dict[str, Any] = {
        "index_topk": top_k,
        "index_n_heads": heads,
        "index_head_dim": dim,
        "k_scale_format": "f32",
        "workload": f"{definition} {workload.get('uuid', '')}".strip(),
    }
    if drawn:
        metadata.update(provenance="synthetic", drawn=f"{', '.join(drawn)} (seed {seed})")
    return make_trace(metadata, **{ours: tensors[theirs] for theirs, ours in INPUTS.items()})


def _draw_pages(draw: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    pages, size, _, width = shape
    codes = to_e4m3(draw.standard_normal((pages, size, width - 4), np.float32) * 64)
    return join_pages(codes, draw.uniform(2.0**-8, 2.0**-6, (pages, size))).reshape(*shape)


_DRAWN: dict[str, Any] = {
    "q_index_fp8": lambda draw, shape: to_e4m3(draw.standard_normal(shape, np.float32) * 64),
    "k_index_cache_fp8": _draw_pages,
    "weights": lambda draw, shape: tensor_of(draw.standard_normal(shape, np.float32) * np.float32(2.0**-10)),
}


def _find(path: Path, uuid: str | None) -> tuple[str, dict[str, Any]]:
    """The definition's name and the workload, of the lines of a file."""
    where, found, known = os.fspath(path), [], []
    with open(where, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                workload = entry["workload"]
                known.append(str(workload.get("uuid", "")))
                if {"axes", "inputs"} - set(workload):
                    raise ValueError("a workload has axes and inputs")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise TraceError(
                    "MP-E110",
                    f"no workload: {error}",
                    f"{where}, line {number}",
                    "a .jsonl file of workloads of FlashInfer-Bench",
                ) from None
            if uuid is None or known[-1].startswith(uuid):
                found.append((str(entry.get("definition")), workload))
    if len(found) != 1:
        some = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
        refuse("MP-E205", f"{len(found)} workloads of {len(known)} are meant", where, f"uuid= one of {some}")
    return found[0]


def _stored(path: Path, root: Path | None, entry: dict[str, Any]) -> Tensor:
    name = pathlib.Path(entry["path"])
    folders = [pathlib.Path(root)] if root is not None else list(pathlib.Path(path).resolve().parents)
    file = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if file is None:
        refuse("MP-E101", f"there is no file '{name}'", os.fspath(path), "root= the folder that the data set is in")
    _, tensors = read_file(file)
    if entry["tensor_key"] not in tensors:
        refuse("MP-E205", f"there is no tensor '{entry['tensor_key']}'", str(file), "one of " + ", ".join(tensors))
    return tensors[entry["tensor_key"]]


def export_workload(trace: Trace, folder: Path, *, definition: str | None = None) -> pathlib.Path:
    """Writes a trace into a data set of FlashInfer-Bench at `folder` and returns the .jsonl file, to which a line is
    added: workloads/dsa_paged/NAME.jsonl, and the tensors under blob/workloads/dsa_paged/NAME.

    Contiguous keys become pages of 64; a row becomes an entry of the batch. A recorded topk goes beside the inputs as
    topk_indices, in physical tokens, if it has all rows. The name is that of their definitions, of the trace's own
    heads, D, k and page size; their public definition is of 64 heads, D = 128, k = 2048 and pages of 64.
    """
    trace = one_row_each(paged(trace))
    if trace.q.dtype != "F8_E4M3" or need(trace.k_pages).dtype != "U8":
        refuse(
            "MP-E206",
            f"queries are {trace.q.dtype}, pages {need(trace.k_pages).dtype}",
            at("q"),
            "FP8 queries and keys",
        )
    size, pages = trace.page_size, need(trace.k_pages)
    name = definition or f"dsa_topk_indexer_fp8_h{trace.heads}_d{trace.head_dim}_topk{trace.top_k}_ps{size}"
    if _NAME.fullmatch(name) is None:
        refuse("MP-E213", f"the definition is '{name}'", "export", "dsa_topk_indexer_fp8_h.._d.._topk.._ps..")
    lengths, table = trace.sequence_keys(), np.array(need(trace.block_table).data)
    inside: np.ndarray = np.arange(table.shape[1]) < -(-lengths // size)[:, None]
    table = np.where(inside, table, 0).astype(np.int32)
    table = np.pad(table, ((0, 0), (0, max(0, -(-trace.top_k // size) - table.shape[1]))))  # topk <= pages * page_size
    tensors = {
        "q_index_fp8": trace.q,
        "k_index_cache_fp8": Tensor("I8", pages.data.view(np.int8)[:, :, None]),
        "weights": trace.weights,
        "seq_lens": Tensor("I32", lengths.astype(np.int32)),
        "block_table": Tensor("I32", table),
    }
    digest = hashlib.sha256()
    for tensor in tensors.values():
        digest.update(tensor.data.tobytes())
    uuid = str(uuids.UUID(bytes=digest.digest()[:16], version=4))
    stored = dict(tensors)
    if trace.topk is not None and trace.topk_row is None:
        stored["topk_indices"] = Tensor("I32", physical(trace.topk, trace))
    root = pathlib.Path(folder)
    blob = pathlib.PurePosixPath("blob/workloads") / _FOLDER / name / f"{name}_{uuid}.safetensors"
    (root / blob).parent.mkdir(parents=True, exist_ok=True)
    write_file(root / blob, {}, stored)
    line = {
        "definition": name,
        "workload": {
            "uuid": uuid,
            "axes": {"batch_size": trace.rows, "num_pages": len(pages), "max_num_pages": table.shape[1]},
            "inputs": {key: {"type": "safetensors", "path": f"./{blob}", "tensor_key": key} for key in tensors},
        },
        "solution": None,
        "evaluation": None,
    }
    listed = root / "workloads" / _FOLDER / f"{name}.jsonl"
    listed.parent.mkdir(parents=True, exist_ok=True)
    with open(listed, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    return listed


def physical(topk: Any, trace: Trace) -> np.ndarray:
    """Tokens counted from the rows' own beginning [Q, k] as physical ones: page * page_size + offset, -1 at the end."""
    ids = as_dtype(tensor_of(topk, "topk"), ("I32",), "topk").data.astype(np.int64)
    table = np.repeat(need(trace.block_table).data.astype(np.int64), trace.next_n, axis=0)
    size = trace.page_size
    pages = np.take_along_axis(table, np.maximum(ids, 0) // size, axis=1)
    return np.where(ids < 0, -1, pages * size + ids % size).astype(np.int32)


def from_physical(topk: Any, trace: Trace) -> np.ndarray:
    """The reverse of physical: tokens counted from the rows' own beginning, in their order, -1 at the end.

    TraceError for a token of no page of its row, or behind the row's last token.
    """
    ids = as_dtype(tensor_of(topk, "topk"), ("I32",), "topk").data.astype(np.int64)
    if ids.ndim != 2 or len(ids) != trace.rows:
        refuse(
            "MP-E208",
            f"the shape is {list(ids.shape)}, must be [{trace.rows}, k]",
            at("topk"),
            "a row of ids for each query row",
        )
    size, (_, ke) = trace.page_size, trace.windows()
    logical = np.full(ids.shape, -1, np.int32)
    for row, length in enumerate(ke):
        used = need(trace.block_table).data[row // trace.next_n][: -(-int(length) // size)]
        block_of = {int(page): block for block, page in reversed(list(enumerate(used)))}
        for column, id in enumerate(ids[row].tolist()):
            if id == -1:
                continue
            token = block_of.get(id // size, len(used)) * size + id % size
            if id < 0 or token >= length:
                refuse(
                    "MP-E241",
                    f"token {id} is not one of the row's {length}: page {id // size}, offset {id % size}",
                    at("topk", row),
                    "physical tokens of this trace's pages: page * page_size + offset",
                )
            logical[row, column] = token
    return np.take_along_axis(logical, np.argsort(logical == -1, axis=1, kind="stable"), axis=1)
