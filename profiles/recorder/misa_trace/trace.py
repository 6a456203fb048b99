"""Traces: the inputs of one indexer call, with what a stack selected. Names, shapes and units are those of
docs/traces.md."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .check import block_scales, check_presence, check_trace, decode_scales, key_dtype, scale_bytes
from .errors import TraceError
from .safetensors_file import Path, read_file, write_file
from .schema import (
    BLOCK,
    FORMAT,
    INT8_PAGES,
    PAGES_DTYPE,
    RULES,
    SCALE_BYTES,
    Extents,
    as_dtype,
    at,
    block_scale_bytes,
    metadata_number,
    metadata_of,
    need,
    refuse,
)
from .tensors import STORAGE, Tensor, tensor_of
from .windows import derived_windows, seen_slots


@dataclass
class Trace:
    """A trace in memory. A field is a Tensor, or None where the trace has none; np.asarray(field) gives its numbers.

    score[m, s] = k_scale[s] * sum over h of weights[m, h] * relu(q[m, h] . k[s])        s in [ks[m], ke[m])

    q [Q, H, D], weights [Q, H], k [N, D], k_scale [N], q_pos, ks and ke [Q]; or k_pages [pages, page_size, D + 4],
    block_table [B, pages per sequence] and seq_lens [B] in place of k and k_scale. MXFP4 is F4 numbers with block scales,
    q_block_scale [Q, H, W] and k_block_scale [N, W], or pages of D / 2 + 4 W bytes a key. `extra` holds tensors of the
    caller's own, whose names begin with "x.".
    """

    q: Tensor
    weights: Tensor
    metadata: dict[str, str] = field(default_factory=dict)
    q_scale: Tensor | None = None
    q_norm: Tensor | None = None
    k: Tensor | None = None
    k_scale: Tensor | None = None
    k_pages: Tensor | None = None
    q_block_scale: Tensor | None = None
    k_block_scale: Tensor | None = None
    block_table: Tensor | None = None
    seq_lens: Tensor | None = None
    q_pos: Tensor | None = None
    ks: Tensor | None = None
    ke: Tensor | None = None
    candidates: Tensor | None = None
    attention_mass: Tensor | None = None
    attention_mass_row: Tensor | None = None
    topk: Tensor | None = None
    topk_row: Tensor | None = None
    needle: Tensor | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)

    @property
    def paged(self) -> bool:
        return self.k_pages is not None

    @property
    def rows(self) -> int:
        return self.q.shape[0]

    @property
    def heads(self) -> int:
        return self.q.shape[1]

    @property
    def head_dim(self) -> int:
        return self.q.shape[2]

    @property
    def page_size(self) -> int:
        return need(self.k_pages).shape[1]

    @property
    def next_n(self) -> int:
        """Query rows of each sequence of a paged trace."""
        return self.rows // need(self.seq_lens).shape[0]

    @property
    def compress_ratio(self) -> int:
        """Tokens that a key stands for. Above 1 a key is an entry: q_pos and seq_lens count tokens, all else keys."""
        return metadata_number(self.metadata, "compress_ratio") or 1

    def sequence_keys(self) -> np.ndarray:
        """The keys of each sequence of a paged trace, [B] int64."""
        return need(self.seq_lens).data.astype(np.int64) // self.compress_ratio

    @property
    def tokens(self) -> int:
        """The keys that a window may name: all, or those that a sequence's pages hold."""
        return need(self.block_table).shape[1] * self.page_size if self.paged else need(self.k).shape[0]

    @property
    def top_k(self) -> int:
        """Tokens that a row keeps: index_topk, else the columns of topk, else 2048."""
        stated = metadata_number(self.metadata, "index_topk")
        return stated or (self.topk.shape[1] if self.topk is not None else 2048)

    def windows(self) -> tuple[np.ndarray, np.ndarray]:
        """ks and ke of each row, [Q] int64; those of paged keys follow from seq_lens."""
        if self.paged:
            ks, ke, _ = derived_windows(self)
            return ks, ke
        return need(self.ks).data.astype(np.int64), need(self.ke).data.astype(np.int64)

    @property
    def key_dtype(self) -> str:
        """The dtype of a key's numbers: F4 of MXFP4."""
        return key_dtype(self)

    def queries(self, row: int) -> np.ndarray:
        """The queries of a row as the formula above has them: [H, D] float64."""
        query = self.q[row].values().astype(np.float64)
        if self.q_block_scale is None:
            return query
        scales = block_scales(self.q_block_scale.data[row], self.head_dim)
        return query * np.repeat(scales, BLOCK, axis=-1)

    def positions(self) -> np.ndarray:
        """q_pos of each row, [Q] int64: tokens before it in its sequence."""
        return derived_windows(self)[2] if self.paged else need(self.q_pos).data.astype(np.int64)

    def key_scales(self) -> np.ndarray | None:
        """Scales of the keys in double, [N] or [pages, page_size], 1 where no row sees the key; None without such."""
        raw = scale_bytes(self)
        if raw is None:
            return None
        seen = seen_slots(self)
        scales = np.ones(seen.shape)
        scales[seen] = decode_scales(self, raw[seen])
        return scales

    def keys(self, row: int, scales: np.ndarray | None = None) -> np.ndarray:
        """The keys that a row sees, dequantised: [ke - ks, D] float64. `scales` are key_scales(), if at hand."""
        scales = self.key_scales() if scales is None else scales
        ks, ke = (int(ends[row]) for ends in self.windows())
        if not self.paged:
            keys = need(self.k)[ks:ke].values().astype(np.float64)
            if self.k_block_scale is not None:
                return keys * np.repeat(block_scales(self.k_block_scale.data[ks:ke], self.head_dim), BLOCK, axis=-1)
            return keys if scales is None else keys * scales[ks:ke, None]
        used = need(self.block_table).data[row // self.next_n][: -(-ke // self.page_size)]
        pages = need(self.k_pages)[used]
        if self.key_dtype == "F4":
            numbers, packed = split_mxfp4_pages(pages, self.head_dim)
            keys = numbers.values().astype(np.float64)
            keys = keys * np.repeat(block_scales(packed, self.head_dim), BLOCK, axis=-1)
            return keys.reshape(-1, self.head_dim)[:ke]
        keys = (split_pages(pages)[0] if scales is not None else pages).values().astype(np.float64)
        keys = keys if scales is None else keys * scales[used][:, :, None]
        return keys.reshape(-1, self.head_dim)[:ke]

    def scores(self, row: int, scales: np.ndarray | None = None) -> np.ndarray:
        """The scores of the tokens that a row sees, by the formula above in double: [ke - ks]."""
        query = self.queries(row)
        with np.errstate(invalid="ignore", over="ignore"):
            return np.maximum(self.keys(row, scales) @ query.T, 0.0) @ self.weights.data[row].astype(np.float64)

    def select(self, k: int | None = None) -> np.ndarray:
        """The k best tokens of each row, counted from ks: [Q, k] int32, ascending, -1 at the end. Ties go to the lower
        token."""
        k = self.top_k if k is None else k
        chosen, scales = np.full((self.rows, k), -1, np.int32), self.key_scales()
        for row in range(self.rows):
            best = np.sort(np.argsort(-self.scores(row, scales), kind="stable")[:k])
            chosen[row, : len(best)] = best
        return chosen

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Name and tensor of all that are there."""
        for name in RULES:
            tensor = getattr(self, name)
            if tensor is not None:
                yield name, tensor
        yield from self.extra.items()


def split_pages(pages: Tensor) -> tuple[Tensor, np.ndarray]:
    """Values [pages, page_size, D] and scales [pages, page_size] of FP8 pages (U8) or INT8 pages (I8) [pages, page_size,
    D + 4].

    A page is page_size * D bytes of values and then page_size f32 scales.
    """
    count, size, width = pages.shape
    head_dim = width - SCALE_BYTES
    flat = pages.data.reshape(count, size * width)
    values = Tensor("I8" if pages.dtype == "I8" else "F8_E4M3", flat[:, : size * head_dim].reshape(count, size, head_dim))
    scales = np.ascontiguousarray(flat[:, size * head_dim :]).view("<f4").reshape(count, size)
    return values, scales


def join_pages(values: Tensor, scales: np.ndarray) -> Tensor:
    """The reverse of split_pages."""
    count, size, dim = values.shape
    flat = np.empty((count, size * (dim + SCALE_BYTES)), np.uint8)
    flat[:, : size * dim] = values.data.view(np.uint8).reshape(count, size * dim)
    flat[:, size * dim :] = np.ascontiguousarray(scales, dtype="<f4").view(np.uint8).reshape(count, size * SCALE_BYTES)
    flat = flat.reshape(count, size, dim + SCALE_BYTES)
    return Tensor("I8", flat.view(np.int8)) if values.dtype == "I8" else Tensor("U8", flat)


def split_mxfp4_pages(pages: Tensor, head_dim: int) -> tuple[Tensor, np.ndarray]:
    """Numbers [pages, page_size, D] (F4) and block scales [pages, page_size, W] of MXFP4 pages [pages, page_size,
    D / 2 + 4 W]: a page is the numbers of its keys and then their scales."""
    count, size, width = pages.shape
    flat = pages.data.reshape(count, size * width)
    numbers = Tensor("F4", flat[:, : size * head_dim // 2].reshape(count, size, head_dim // 2))
    scales = np.ascontiguousarray(flat[:, size * head_dim // 2 :]).view("<i4")
    return numbers, scales.reshape(count, size, block_scale_bytes(head_dim) // 4)


def join_mxfp4_pages(numbers: Tensor, scales: np.ndarray) -> Tensor:
    """The reverse of split_mxfp4_pages."""
    count, size = numbers.data.shape[:2]
    parts = (numbers.data, np.ascontiguousarray(scales, dtype="<i4").view(np.uint8))
    width = sum(part.shape[2] for part in parts)
    flat = np.concatenate([part.reshape(count, size * part.shape[2]) for part in parts], axis=1)
    return Tensor("U8", flat.reshape(count, size, width))


def make_trace(metadata: Mapping[str, Any] | None = None, **arrays: Any) -> Trace:
    """A checked Trace of arrays (NumPy, torch, Tensor or lists), named as in docs/traces.md. TraceError where misa-prof
    would refuse it.

    Other dtypes are converted where that is exact, and dimensions of one entry that a shape does not have are dropped.
    Of contiguous windows two of ks, ke and q_pos may be missing: without ks the rows are of one sequence that begins at
    key 0, and ke = ks + q_pos + 1. Queries of paged keys may be [B, next_n, H, D], their seq_lens [B, next_n].
    """
    facts = metadata_of(metadata)
    facts["format"] = FORMAT
    facts.pop("kind", None)
    given = {name: tensor_of(value, name) for name, value in arrays.items() if value is not None}
    for name in given:
        if name not in RULES and not name.startswith("x."):
            known = ", ".join(RULES)
            refuse("MP-E204", f"unknown tensor '{name}'", at(name), f"one of {known}, or a name that begins with 'x.'")
    _name_dtypes(given, facts)
    if "k_pages" in given:
        _merge_next_n(given)
    extents = Extents()
    tensors: dict[str, Tensor] = {}
    for name, rule in RULES.items():
        if name not in given:
            continue
        tensor = given[name]
        if name.endswith("_block_scale"):
            tensor = _as_words(tensor, rule.axes, name)
        if name == "k_scale" and tensor.dtype == "U8" and tensor.shape[-1:] == (SCALE_BYTES,):
            tensor = Tensor("F32", np.ascontiguousarray(tensor.data).view("<f4")[..., 0])  # f32 seen as four bytes
        tensor = extents.fit(as_dtype(tensor, rule.dtypes, name), rule.axes)
        for axis, extent in zip(rule.axes, tensor.shape):
            if axis not in "Rk":
                extents.of.setdefault(axis, extent)
        tensors[name] = tensor
    if "k_pages" not in given:
        _complete_windows(tensors, facts)
    check_presence(tensors)
    for name in ("topk", "attention_mass"):
        if name in tensors and len(tensors[name]) == len(tensors["q"]) and name + "_row" in tensors:
            if np.array_equal(tensors[name + "_row"].data, np.arange(len(tensors["q"]))):
                del tensors[name + "_row"]  # as without it
    extra = {name: tensor for name, tensor in given.items() if name.startswith("x.")}
    trace = Trace(metadata=facts, extra=extra, **tensors)
    check_trace(trace)
    return trace


def _name_dtypes(given: dict[str, Tensor], facts: Mapping[str, str]) -> None:
    """Queries, keys and pages with the dtype that their block scales or the metadata say: MXFP4 may be bytes of two
    numbers, and pages of INT8 any bytes."""
    for name in ("q", "k"):
        if name in given and name + "_block_scale" in given and given[name].dtype in ("U8", "I8"):
            given[name] = Tensor("F4", given[name].data.view(np.uint8))
    if "k_pages" in given and given["k_pages"].dtype in ("U8", "I8"):
        dtype = INT8_PAGES if facts.get(PAGES_DTYPE) == INT8_PAGES else "U8"
        given["k_pages"] = Tensor(dtype, given["k_pages"].data.view(STORAGE[dtype]))


def _as_words(tensor: Tensor, axes: str, name: str) -> Tensor:
    """Block scales as words of four UE8M0 bytes, I32 [..., W]."""
    if tensor.dtype == "I32":
        one_word = len(tensor.shape) + 1 == len(axes)
        return tensor.reshape(*tensor.shape, 1) if one_word else tensor
    if tensor.dtype not in ("U8", "F8_E8M0"):
        return as_dtype(tensor, RULES[name].dtypes, name)
    if tensor.shape[-1:] == () or tensor.shape[-1] % 4 != 0:
        refuse(
            "MP-E208",
            f"the shape is {list(tensor.shape)}, and scales of one byte fill words of four",
            at(name),
            "as many bytes as fill 4 for every 128 numbers; those beyond D / 32 are not read",
        )
    return Tensor("I32", np.ascontiguousarray(tensor.data).view("<i4"))


def _merge_next_n(given: dict[str, Tensor]) -> None:
    """Queries [B, next_n, ...] become rows [B * next_n, ...], and lengths [B, next_n] those of the last rows."""
    rows = given["q"].shape[:2] if "q" in given and len(given["q"].shape) == 4 else None
    for name, rank in (("q", 4), ("weights", 3), ("q_scale", 3), ("q_norm", 3), ("q_block_scale", 4), ("topk", 3)):
        if rows is not None and name in given and given[name].shape[:2] == rows and len(given[name].shape) == rank:
            given[name] = given[name].reshape(-1, *given[name].shape[2:])
    lengths, table = given.get("seq_lens"), given.get("block_table")
    batch = table.shape[-2] if table is not None and len(table.shape) > 1 else None
    if lengths is not None and len(lengths.shape) == 2 and lengths.shape[1] > 1 and lengths.shape[0] == batch:
        next_n = lengths.shape[1]
        last = lengths.data[:, -1:].astype(np.int64)
        if not np.array_equal(lengths.data, np.maximum(last - next_n + 1 + np.arange(next_n), 0)):
            refuse(
                "MP-E235",
                "row j of a sequence's next_n rows must see seq_len - next_n + j + 1 tokens",
                at("seq_lens"),
                "one length per sequence, those of rows of equal next_n",
            )
        given["seq_lens"] = lengths[:, -1]


def _complete_windows(tensors: dict[str, Tensor], facts: Mapping[str, str]) -> None:
    """Fills in ks, ke or q_pos where they follow from the others; check_presence says what is missing then."""
    some = tensors.get("q_pos", tensors.get("ke"))
    if some is None:
        return
    ks = tensors.setdefault("ks", Tensor("I32", np.zeros(some.shape, np.int32)))
    ratio = metadata_number(facts, "compress_ratio") or 1
    if "ke" not in tensors:
        visible = (tensors["q_pos"].data.astype(np.int64) + 1) // ratio
        tensors["ke"] = as_dtype(Tensor("I64", _added(ks, visible)), ("I32",), "ke")
    elif "q_pos" not in tensors and ratio == 1:
        length = _added(tensors["ke"], -ks.data.astype(np.int64))
        tensors["q_pos"] = as_dtype(Tensor("I64", length - 1), ("I32",), "q_pos")


def _added(tensor: Tensor, numbers: np.ndarray) -> np.ndarray:
    if tensor.shape != numbers.shape:
        refuse(
            "MP-E208",
            f"the shapes of ks, ke and q_pos differ: {list(tensor.shape)} and {list(numbers.shape)}",
            at("ks"),
            "one entry per query row",
        )
    return tensor.data.astype(np.int64) + numbers


def write_trace(
    path: Path,
    *,
    q: Any,
    weights: Any,
    k: Any = None,
    ks: Any = None,
    ke: Any = None,
    q_pos: Any = None,
    k_scale: Any = None,
    k_pages: Any = None,
    q_block_scale: Any = None,
    k_block_scale: Any = None,
    block_table: Any = None,
    seq_lens: Any = None,
    q_scale: Any = None,
    q_norm: Any = None,
    candidates: Any = None,
    topk: Any = None,
    topk_row: Any = None,
    attention_mass: Any = None,
    attention_mass_row: Any = None,
    needle: Any = None,
    metadata: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Trace:
    """Writes a trace and returns it. What misa-prof would refuse is refused before the file is touched; see make_trace
    for what may be left out and what is converted. `extra` holds tensors whose names begin with "x."."""
    trace = make_trace(
        metadata,
        q=q,
        weights=weights,
        k=k,
        ks=ks,
        ke=ke,
        q_pos=q_pos,
        k_scale=k_scale,
        k_pages=k_pages,
        q_block_scale=q_block_scale,
        k_block_scale=k_block_scale,
        block_table=block_table,
        seq_lens=seq_lens,
        q_scale=q_scale,
        q_norm=q_norm,
        candidates=candidates,
        topk=topk,
        topk_row=topk_row,
        attention_mass=attention_mass,
        attention_mass_row=attention_mass_row,
        needle=needle,
        **dict(extra or {}),
    )
    _save(path, trace)
    return trace


def save_trace(path: Path, trace: Trace) -> None:
    """Writes a Trace, which is checked once more."""
    check_trace(trace)
    _save(path, trace)


def _save(path: Path, trace: Trace) -> None:
    tensors = dict(trace.tensors())
    if trace.paged:
        for name in ("ks", "ke", "q_pos"):
            tensors.pop(name, None)  # they follow from seq_lens
    write_file(path, trace.metadata, tensors)


def read_trace(path: Path) -> Trace:
    """Reads a trace and checks it as misa-prof does. TraceError where it is none or contradicts itself.

    Outputs in it (`out.*`) are left out.
    """
    metadata, tensors = read_file(path)
    stated = metadata.get("format")
    if stated != FORMAT:
        known = stated is not None and stated.startswith("misa-trace/")
        refuse(
            "MP-E202" if known else "MP-E201",
            f"format {stated}, this package reads {FORMAT}",
            os.fspath(path),
            "record with format = " + FORMAT,
        )
    if metadata.get("kind", "trace") != "trace":
        refuse(
            "MP-E203",
            "the file holds a {}, not a workload".format(metadata["kind"]),
            os.fspath(path),
            "read_selection for a selection",
        )
    inputs = {name: tensor for name, tensor in tensors.items() if not name.startswith("out.")}
    for name in ("q_pos", "ks", "ke"):
        if name not in inputs and "k_pages" not in inputs and "k" in inputs:
            refuse(
                "MP-E205",
                f"there is no tensor '{name}': contiguous keys need q_pos, ks and ke [Q]",
                os.fspath(path),
                "add it when recording",
            )
    try:
        return make_trace(metadata, **inputs)
    except TraceError as error:
        raise TraceError(error.id, error.what, f"{os.fspath(path)}, {error.where}", error.how) from None
