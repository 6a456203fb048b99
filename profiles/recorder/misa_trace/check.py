"""The checks of a trace: what misa-prof refuses, with the same ids (docs/errors.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Callable

import numpy as np

from . import schema
from .schema import at, expect_count, metadata_number, need, refuse, shape_text
from .tensors import Tensor
from .windows import check_contiguous_windows, check_paged_windows, first, seen_slots

if TYPE_CHECKING:
    from .trace import Trace

_LEAST_SCALE, _LARGEST_SCALE = 2.0**-64, 2.0**32
_NEEDLE = "tokens and positions from 0: start, length; start, length of the question; start, length of the answer"


def check_trace(trace: Trace) -> None:
    """TraceError for the first thing that misa-prof would refuse."""
    check_presence(dict(trace.tensors()))
    _check_shapes(trace)
    _check_pair(trace)
    _check_metadata(trace)
    if trace.paged:
        check_paged_windows(trace)
    else:
        check_contiguous_windows(trace)
    _check_keys(trace)
    if trace.q_block_scale is not None:
        whole = np.ones(trace.q.shape[:2], bool)
        _check_blocks(trace, trace.q, trace.q_block_scale.data, whole, "q_block_scale")
    _check_finite(trace.q, "MP-E221", "q")
    _check_finite(trace.weights, "MP-E222", "weights")
    for name, least in (("q_scale", "above"), ("q_norm", "at least")):
        _check_sign(getattr(trace, name), name, least)
    _check_mass(trace)
    _check_needles(trace)
    _check_topk(trace)
    _check_candidates(trace)


def _missing(name: str, why: str) -> None:
    refuse(
        "MP-E205",
        f"there is no tensor '{name}': {why}",
        "the trace",
        "add it when recording; docs/traces.md lists what a trace holds",
    )


def _exclude(name: str, what: str, how: str) -> None:
    refuse("MP-E209", what, at(name), how)


def check_presence(tensors: Mapping[str, Tensor]) -> None:
    """Refuses tensors that are missing, or that the form of the keys excludes."""
    if "q" not in tensors:
        _missing("q", "the queries [Q, H, D]")
    if "weights" not in tensors:
        _missing("weights", "the weights [Q, H], all scales of the query folded in")
    if "k" not in tensors and "k_pages" not in tensors:
        _missing("k", "the keys [N, D], or k_pages with block_table and seq_lens")
    if "k" in tensors and "k_pages" in tensors:
        _exclude("k", "both 'k' and 'k_pages' are there: keys are contiguous or paged", "two files")
    for name in ("topk", "attention_mass"):
        if name not in tensors and name + "_row" in tensors:
            what = f"it names the rows of '{name}', which is not there"
            _exclude(name + "_row", what, f"'{name}' with it, or neither")
    _check_packing(tensors, "q")
    if "k_pages" in tensors:
        for name in ("k_scale", "k_block_scale"):
            if name in tensors:
                what = "the scales of k_pages lie inside its pages"
                _exclude(name, what, f"no {name}, or k in place of k_pages")
        if "block_table" not in tensors:
            _missing("block_table", "k_pages needs the pages of each sequence")
        if "seq_lens" not in tensors:
            _missing("seq_lens", "k_pages needs the tokens of each sequence")
        return
    _check_packing(tensors, "k")
    dtype = tensors["k"].dtype
    scaled = dtype in ("F8_E4M3", "I8")
    if scaled and "k_scale" not in tensors:
        _missing("k_scale", "FP8 and INT8 keys need their scales [N], MXFP4 keys k_block_scale")
    if not scaled and "k_scale" in tensors:
        how = "no k_scale" if dtype == "F4" else "multiply them into k"
        _exclude("k_scale", f"'k' is {dtype} and has no scales of whole keys", how)
    for name in ("block_table", "seq_lens"):
        if name in tensors:
            _exclude(name, name + " belongs to k_pages", "k_pages in place of k, or no " + name)
    for name in ("q_pos", "ks", "ke"):
        if name not in tensors:
            _missing(name, "contiguous keys need q_pos, ks and ke [Q]")


def _check_packing(tensors: Mapping[str, Tensor], name: str) -> None:
    """Refuses MXFP4 numbers without block scales, bytes that nothing says are MXFP4, and block scales of other
    numbers."""
    dtype, scales = tensors[name].dtype, name + "_block_scale"
    if dtype == "F4" and scales not in tensors:
        what = f"'{name}' is MXFP4 (F4), and its block scales are not there"
        refuse("MP-E560", what, at(name), f"'{scales}', UE8M0 bytes, one for every 32 numbers")
    if dtype == "U8":
        what = f"'{name}' is bytes, and no '{scales}' says that they are MXFP4"
        refuse("MP-E560", what, at(name), f"'{scales}' for MXFP4; misa_trace.e4m3(array) for FP8, int8 for INT8")
    if dtype != "F4" and scales in tensors:
        what = f"'{name}' is {dtype}, and only MXFP4 has block scales"
        refuse("MP-E560", what, at(scales), "MXFP4 numbers, two to a byte, as U8, I8 or F4; or no block scales")


def key_dtype(trace: Trace) -> str:
    """The dtype of a key's numbers. Bytes of pages are FP8 with an f32 scale, or MXFP4, as their number says."""
    if not trace.paged:
        return need(trace.k).dtype
    pages, dim = need(trace.k_pages), trace.head_dim
    if pages.dtype != "U8":
        return pages.dtype
    mxfp4 = pages.shape[-1] == dim // 2 + schema.block_scale_bytes(dim)
    return "F4" if mxfp4 else "F8_E4M3"


def block_scales(words: np.ndarray, dim: int) -> np.ndarray:
    """The scales of MXFP4 blocks of words [..., W] of four UE8M0 bytes: [..., D / 32] in double."""
    codes = np.ascontiguousarray(words, dtype="<i4").view(np.uint8)[..., : dim // schema.BLOCK].astype(np.float64)
    return np.where(codes == 255, np.nan, 2.0 ** (codes - 127))


def _check_blocks(trace: Trace, numbers: Tensor, words: np.ndarray, seen: np.ndarray, name: str) -> None:
    """Refuses block scales that are NaN, and numbers that f32 does not hold, of the vectors that are seen."""
    scales = block_scales(words, trace.head_dim)
    with np.errstate(over="ignore"):
        values = (numbers.values() * np.repeat(scales, schema.BLOCK, axis=-1)).astype(np.float32)
    bad = ~np.isfinite(values) & seen[..., None]
    if bad.any():
        *place, number = np.argwhere(bad)[0].tolist()
        block = number // schema.BLOCK
        what = "is the byte 255, a NaN" if np.isnan(scales[(*place, block)]) else "makes numbers above all of f32"
        refuse("MP-E562", f"the scale of block {block} {what}", f"{at(name)}, vector {place}", schema.AGAIN)


def _check_shapes(trace: Trace) -> None:
    extents = schema.Extents()
    for name, rule in schema.RULES.items():
        tensor = getattr(trace, name)
        if tensor is None or name == "needle":
            continue
        if tensor.dtype not in rule.dtypes:
            refuse(
                "MP-E206",
                "the dtype is {}, must be {}".format(tensor.dtype, " or ".join(rule.dtypes)),
                at(name),
                schema.CONVERT,
            )
        axes = rule.axes
        if name == "k_pages":
            dtype, dim = key_dtype(trace), extents.of["D"]
            extents.of["S"] = dim // 2 + schema.block_scale_bytes(dim) if dtype == "F4" else dim + schema.SCALE_BYTES
            if tensor.dtype not in ("U8", "I8"):
                axes = "PTD"
        if "A" in axes:
            extents.of["A"] = trace.tokens
        extents.check(tensor, name, axes)
        if name == "q":
            extents.of["W"] = schema.block_scale_bytes(extents.of["D"]) // 4
    if trace.paged:
        expect_count(need(trace.k_pages).shape[0] * trace.page_size, "keys", "k_pages")
        expect_count(trace.tokens, "tokens per sequence", "block_table")
        if trace.rows % len(need(trace.seq_lens)) != 0:
            refuse(
                "MP-E236",
                f"{trace.rows} query rows do not divide among {len(need(trace.seq_lens))} sequences",
                at("q"),
                "next_n rows for every sequence",
            )


def _check_pair(trace: Trace) -> None:
    queries, keys = trace.q.dtype, key_dtype(trace)
    if (queries == "F4") != (keys == "F4"):
        named = ["MXFP4" if dtype == "F4" else dtype for dtype in (queries, keys)]
        what = "the queries are {} and the keys {}: MXFP4 goes with MXFP4".format(*named)
        refuse("MP-E561", what, "the trace", "queries and keys that were quantised alike")


def _check_metadata(trace: Trace) -> None:
    metadata = trace.metadata
    for key in ("k_quant", "q_quant"):
        if "fnuz" in metadata.get(key, "").lower():
            refuse(
                "MP-E207",
                f"{key} is '{metadata[key]}': FNUZ codes mean half of what e4m3fn codes mean",
                "metadata",
                "convert the values to e4m3fn when recording",
            )
    for key, names in (
        ("provenance", schema.PROVENANCES),
        ("k_scale_format", ("f32", "ue8m0x4")),
        (schema.PAGES_DTYPE, (schema.INT8_PAGES,)),
        ("topk_arithmetic", schema.ARITHMETICS),
    ):
        if key in metadata and metadata[key] not in names:
            refuse("MP-E213", f"unknown {key} '{metadata[key]}'", "metadata", ", ".join(names))
    for key in ("index_n_heads", "compress_ratio", "candidate_length", "index_init_tokens", "index_local_tokens"):
        metadata_number(metadata, key)
    dim = metadata_number(metadata, "index_head_dim")
    if dim is not None and dim != trace.head_dim:
        refuse(
            "MP-E213",
            f"index_head_dim is {dim}, q has the head dimension {trace.head_dim}",
            "metadata",
            f"index_head_dim = {trace.head_dim}",
        )
    kept = metadata_number(metadata, "index_topk")
    if kept is not None and trace.topk is not None and trace.topk.shape[1] > kept:
        refuse(
            "MP-E247",
            f"{trace.topk.shape[1]} tokens per row are recorded, index_topk is {kept}",
            at("topk"),
            f"index_topk = {trace.topk.shape[1]}",
        )


def scale_bytes(trace: Trace) -> np.ndarray | None:
    """The four bytes of each key's scale: [N, 4], or [pages, page_size, 4]. None without scales."""
    if not trace.paged:
        if trace.k_scale is None:
            return None
        scales = need(trace.k_scale).values().astype("<f4")
        return scales.view(np.uint8).reshape(-1, schema.SCALE_BYTES)
    if key_dtype(trace) not in ("F8_E4M3", "I8"):
        return None
    pages, size, width = need(trace.k_pages).shape
    flat = need(trace.k_pages).data.view(np.uint8).reshape(pages, size * width)
    return flat[:, size * (width - schema.SCALE_BYTES) :].reshape(pages, size, schema.SCALE_BYTES)


def _check_keys(trace: Trace) -> None:
    seen = seen_slots(trace)
    raw = scale_bytes(trace)
    if raw is not None:
        _check_scales(trace, raw[seen], np.argwhere(seen))
    if key_dtype(trace) == "F4":
        _check_mxfp4_keys(trace, seen)
        return
    if key_dtype(trace) == "I8":
        return
    if not trace.paged:
        bad = _not_finite(need(trace.k)) & seen[:, None]
    elif need(trace.k_pages).dtype == "U8":
        pages, size, width = need(trace.k_pages).shape
        dim = width - schema.SCALE_BYTES
        codes = need(trace.k_pages).data.reshape(pages, size * width)[:, : size * dim].reshape(pages, size, dim)
        bad = _not_finite(Tensor("F8_E4M3", codes)) & seen[:, :, None]
    else:
        bad = _not_finite(need(trace.k_pages)) & seen[:, :, None]
    if bad.any():
        refuse(
            "MP-E221",
            "a number is NaN or infinite",
            "{}, element {}".format(at("k_pages" if trace.paged else "k"), np.argwhere(bad)[0].tolist()),
            schema.AGAIN,
        )


def _check_mxfp4_keys(trace: Trace, seen: np.ndarray) -> None:
    if not trace.paged:
        _check_blocks(trace, need(trace.k), need(trace.k_block_scale).data, seen, "k_block_scale")
        return
    from .trace import split_mxfp4_pages

    numbers, words = split_mxfp4_pages(need(trace.k_pages), trace.head_dim)
    _check_blocks(trace, numbers, words, seen, "k_pages")


def decode_scales(trace: Trace, raw: np.ndarray) -> np.ndarray:
    """Scales [n] in double of their four bytes [n, 4], of the keys that rows see: f32, or four equal UE8M0 codes where
    the metadata says so, or where it says nothing and all of them make sense so. NaN where UE8M0 bytes differ."""
    codes = raw[:, 0].astype(np.int64) - 127
    equal = (raw == raw[:, :1]).all(axis=1)
    stated = trace.metadata.get("k_scale_format")
    likely = stated is None and len(raw) > 0 and bool((equal & (codes > -40) & (codes < 20)).all())
    if stated != "ue8m0x4" and not likely:
        return np.ascontiguousarray(raw).view("<f4")[:, 0].astype(np.float64)
    return np.where(equal & (raw[:, 0] != 255), 2.0 ** codes.astype(np.float64), np.nan)


def _check_scales(trace: Trace, raw: np.ndarray, places: np.ndarray) -> None:
    """Scales of the keys that rows see: raw [n, 4] uint8, at `places` [n, 1 or 2]."""
    name = "k_pages" if trace.paged else "k_scale"
    stated = trace.metadata.get("k_scale_format")
    bad = first((raw != raw[:, :1]).any(axis=1)) if stated == "ue8m0x4" else None
    if bad is not None:
        refuse(
            "MP-E254",
            "the four UE8M0 bytes of the scale differ: one for every 32 numbers of the key",
            f"{at(name)}, key {places[bad].tolist()}",
            "keys with one scale each: quantise them again in groups of D",
        )
    scales = decode_scales(trace, raw)
    bad = first(~(np.isfinite(scales) & (scales > 0)))
    if bad is not None:
        refuse(
            "MP-E220",
            f"the scale is {scales[bad]}, must be finite and above 0",
            f"{at(name)}, key {places[bad].tolist()}",
            "pages of page_size * D FP8 bytes and then page_size f32 scales" if trace.paged else schema.AGAIN,
        )
    implausible = (scales < _LEAST_SCALE) | (scales > _LARGEST_SCALE)
    bad = first(implausible) if trace.paged and stated is None else None
    if bad is not None:
        refuse(
            "MP-E253",
            f"the scale is {scales[bad]:g}, and no quantiser writes one below 2^-64 or above 2^32",
            f"{at(name)}, key {places[bad].tolist()}",
            "pages of page_size * D FP8 bytes and then page_size f32 scales, or k_scale_format in the metadata",
        )


def _not_finite(tensor: Tensor) -> np.ndarray:
    if tensor.dtype == "F8_E4M3":
        return (tensor.data & 0x7F) == 0x7F
    if tensor.dtype == "BF16":
        return (tensor.data & 0x7F80) == 0x7F80
    if tensor.dtype in ("F4", "I8"):
        return np.zeros(tensor.shape, bool)
    return ~np.isfinite(tensor.data)


def _check_finite(tensor: Tensor, id: str, name: str) -> None:
    bad = _not_finite(tensor)
    if not bad.any():
        return
    place = np.argwhere(bad)[0].tolist()
    how = "is it F8_E4M3 as OCP defines it (e4m3fn)?" if tensor.dtype == "F8_E4M3" else schema.AGAIN
    refuse(id, f"element {place[1:]} is not finite", at(name, place[0]), how)


def _check_sign(tensor: Tensor | None, name: str, least: str) -> None:
    if tensor is None:
        return
    values = tensor.data
    good = np.isfinite(values) & ((values > 0) | ((least == "at least") & (values == 0)))
    if not good.all():
        row, head = np.argwhere(~good)[0].tolist()
        refuse(
            "MP-E223",
            f"head {head} has {values[row, head]}, must be finite and {least} 0",
            at(name, row),
            schema.AGAIN,
        )


def check_row_numbers(numbers: Tensor, expected: int, rows: int, name: str) -> None:
    """Row numbers [R]: distinct, and rows of the trace."""
    if numbers.shape != (expected,):
        refuse(
            "MP-E208",
            f"the shape is {shape_text(numbers.shape)}, must be [R] = [{expected}]",
            at(name),
            schema.RESHAPE,
        )
    bad = first((numbers.data < 0) | (numbers.data >= rows))
    if bad is not None:
        refuse(
            "MP-E244",
            f"row {numbers.data[bad]} is out of range, there are {rows}",
            at(name),
            "rows of this trace's q, from 0",
        )
    once, counts = np.unique(numbers.data, return_counts=True)
    if (counts > 1).any():
        refuse("MP-E244", f"row {once[counts > 1][0]} is named twice", at(name), "each row once")


def _rows_of(trace: Trace, name: str) -> np.ndarray:
    """The query row of each row of topk or attention_mass."""
    count, numbers = getattr(trace, name).shape[0], getattr(trace, name + "_row")
    if numbers is None:
        if count != trace.rows:
            refuse(
                "MP-E208",
                f"{count} rows, there are {trace.rows} query rows and no {name}_row",
                at(name),
                f"{name}_row with the query row of each",
            )
        return np.arange(count)
    check_row_numbers(numbers, count, trace.rows, name + "_row")
    return numbers.data


def check_ids(
    ids: np.ndarray,
    limits: np.ndarray,
    name: str,
    unit: str,
    ascending: bool,
    too_large: Callable[[int, int, int], None],
) -> None:
    """Ids [rows, columns]: -1 only at the end, none twice, below their row's limit, ascending if asked for."""
    pads = ids == -1
    row = first((pads[:, :-1] & ~pads[:, 1:]).any(axis=1))
    if row is not None:
        refuse(
            "MP-E243",
            "an id follows a -1, which only pads the end",
            at(name, row),
            "move every -1 to the end of the row",
        )
    row = first((ids < -1).any(axis=1))
    if row is not None:
        refuse(
            "MP-E241",
            f"{unit} {ids[row].min()} is out of range",
            at(name, row),
            "ids from 0, and -1 where there is none",
        )
    row = first((ids >= limits[:, None]).any(axis=1))
    if row is not None:
        too_large(row, int(ids[row][ids[row] >= limits[row]][0]), int(limits[row]))
    ordered = np.sort(ids, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    row = first(twice.any(axis=1))
    if row is not None:
        refuse(
            "MP-E240",
            f"{unit} {ordered[row, 1:][twice[row]][0]} is named twice",
            at(name, row),
            "each id once, and -1 where there is none",
        )
    row = first(((ids[:, 1:] < ids[:, :-1]) & ~pads[:, 1:]).any(axis=1)) if ascending else None
    if row is not None:
        refuse("MP-E251", f"the {unit}s do not ascend", at(name, row), "sort each row's ids before saving")


def _check_topk(trace: Trace) -> None:
    if trace.topk is None:
        return
    rows = _rows_of(trace, "topk")
    ks, ke = trace.windows()

    def too_large(r: int, id: int, limit: int) -> None:
        begin = int(ks[rows[r]])
        if id >= trace.tokens - begin:
            refuse(
                "MP-E241",
                f"token {id} is out of range: {trace.tokens} keys, the row begins at {begin}",
                at("topk", r),
                "ids count from the row's ks",
            )
        refuse(
            "MP-E242",
            f"token {id} is not causal: the row sees {limit}",
            at("topk", r),
            "ids count from the row's ks",
        )

    check_ids(trace.topk.data, (ke - ks)[rows], "topk", "token", False, too_large)


def _check_candidates(trace: Trace) -> None:
    length = metadata_number(trace.metadata, "candidate_length") or 1
    if trace.candidates is None:
        if length > 1:
            refuse(
                "MP-E566",
                f"candidate_length is {length}, and there are no candidates",
                "metadata",
                "the tensor candidates [Q, R] with it, or neither",
            )
        return
    ks, ke = trace.windows()

    def too_large(row: int, id: int, limit: int) -> None:
        unit = "" if length == 1 else f" runs of {length}"
        refuse(
            "MP-E242",
            f"candidate {id} is not causal: the row sees {limit}{unit}",
            at("candidates", row),
            "ids count from the row's ks, in runs of candidate_length",
        )

    check_ids(trace.candidates.data, -(-(ke - ks) // length), "candidates", "candidate", True, too_large)


def _check_mass(trace: Trace) -> None:
    if trace.attention_mass is None:
        return
    _rows_of(trace, "attention_mass")
    mass = trace.attention_mass.data
    bad = ~(np.isfinite(mass) & (mass >= 0))
    if bad.any():
        row, token = np.argwhere(bad)[0].tolist()
        refuse(
            "MP-E246",
            f"token {token} has the mass {mass[row, token]}, must be finite and not negative",
            at("attention_mass", row),
            "probabilities after the softmax, as F16",
        )


def _check_needles(trace: Trace) -> None:
    if trace.needle is None:
        return
    shape, tokens = trace.needle.shape, trace.tokens
    if trace.needle.dtype != "I32":
        refuse("MP-E206", f"the dtype is {trace.needle.dtype}, must be I32", at("needle"), schema.CONVERT)
    if len(shape) != 2 or shape[1] not in (4, 6):
        refuse(
            "MP-E208",
            f"the shape is {shape_text(shape)}, must be [n, 4] or [n, 6]",
            at("needle"),
            schema.RESHAPE,
        )
    positions = (tokens + 1) * trace.compress_ratio - 1
    for row, numbers in enumerate(trace.needle.data.tolist()):
        start, length, asked, asked_length = numbers[:4]
        if start < 0 or length < 1 or start + length > tokens:
            refuse(
                "MP-E245",
                f"the needle has {length} tokens from {start} on, there are {tokens}",
                at("needle", row),
                _NEEDLE,
            )
        if asked < 0 or asked_length < 1 or asked + asked_length > positions:
            refuse(
                "MP-E245",
                f"the question has {asked_length} positions from {asked} on, there are {positions}",
                at("needle", row),
                _NEEDLE,
            )
        answer, answer_length = numbers[4:] or (0, 0)
        inside = answer_length >= 1 and start <= answer and answer + answer_length <= start + length
        if (answer, answer_length) != (0, 0) and not inside:
            refuse(
                "MP-E245",
                f"the answer has {answer_length} tokens from {answer} on, the needle {length} from {start} on",
                at("needle", row),
                "an answer inside its needle; 0, 0 where it is not known",
            )
