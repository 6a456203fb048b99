"""Tasks of misa_kernel.h as a function written in Python takes them: the header's structs by the same names, memory as
tensors of torch or arrays of NumPy that are not copies. A pointer that is null is None. Shapes are in brackets."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from . import _abi
from .memory import I32, SIZES

DTYPES = ("f32", "bf16", "e4m3")


class _Viewed:
    """A struct of the header, and what makes tensors of its pointers."""

    def __init__(self, struct: Any, views: Any) -> None:
        self._struct, self._views = struct, views

    def _view(self, pointer: int | None, dtype: int, shape: tuple[int, ...], strides: tuple[int, ...] = ()) -> Any:
        """None where the pointer is null and there are elements. Without strides: contiguous."""
        if not pointer and 0 not in shape:
            return None
        if not strides:
            step = SIZES[dtype]
            for extent in reversed(shape):
                strides = (step, *strides)
                step *= max(extent, 1)
        return self._views.view(pointer or 0, dtype, shape, strides)

    def _ids(self, pointer: int | None, *shape: int, stride: int = 0) -> Any:
        return self._view(pointer, I32, shape, (stride, 4) if stride else ())

    def _f32(self, pointer: int | None, *shape: int) -> Any:
        return self._view(pointer, _abi.MISA_F32, shape)


class Queries(_Viewed):
    @property
    def rows(self) -> int:
        return self._struct.rows

    @property
    def heads(self) -> int:
        return self._struct.heads

    @property
    def dim(self) -> int:
        return self._struct.dim

    @property
    def dtype(self) -> str:
        """f32, bf16 or e4m3."""
        return DTYPES[self._struct.dtype]

    @cached_property
    def values(self) -> Any:
        """[rows, heads, dim]"""
        return self._view(self._struct.values, self._struct.dtype, (self.rows, self.heads, self.dim))

    @cached_property
    def weights(self) -> Any:
        """[rows, heads] f32, with every factor of a score but the key's scale."""
        return self._f32(self._struct.weights, self.rows, self.heads)

    def numbers(self) -> Any:
        """`values` as f32, exactly."""
        return self._views.numbers(self.values, self._struct.dtype)


class Keys(_Viewed):
    @property
    def pages(self) -> int:
        return self._struct.pages

    @property
    def page_size(self) -> int:
        return self._struct.page_size

    @property
    def dim(self) -> int:
        return self._struct.dim

    @property
    def dtype(self) -> str:
        """f32, bf16 or e4m3."""
        return DTYPES[self._struct.dtype]

    @property
    def paged(self) -> bool:
        """False: one page holds every token."""
        return bool(self._struct.block_table) or self._struct.max_pages > 0

    @cached_property
    def values(self) -> Any:
        """[pages, page_size, dim]"""
        one = self._struct
        strides = (one.values_page_stride, one.values_token_stride, SIZES[one.dtype])
        return self._view(one.values, one.dtype, (one.pages, one.page_size, one.dim), strides)

    @cached_property
    def scales(self) -> Any:
        """[pages, page_size] f32; None: every scale is 1."""
        one = self._struct
        if not one.scales:
            return None
        strides = (one.scales_page_stride, one.scales_token_stride)
        return self._view(one.scales, _abi.MISA_F32, (one.pages, one.page_size), strides)

    @cached_property
    def block_table(self) -> Any:
        """[sequences, max_pages] int32; None where keys are not paged."""
        one = self._struct
        if not one.block_table:
            return None
        return self._ids(one.block_table, one.sequences, one.max_pages, stride=one.block_table_stride)

    def numbers(self) -> Any:
        """`values` as f32, exactly; scales are not applied."""
        return self._views.numbers(self.values, self._struct.dtype)


class Windows(_Viewed):
    """Row m sees the tokens begin[m] to end[m] - 1 of sequence[m]."""

    def __init__(self, struct: Any, views: Any, rows: int) -> None:
        super().__init__(struct, views)
        self.rows = rows

    @cached_property
    def sequence(self) -> Any:
        """[rows] int32"""
        return self._ids(self._struct.sequence, self.rows)

    @cached_property
    def begin(self) -> Any:
        """[rows] int32"""
        return self._ids(self._struct.begin, self.rows)

    @cached_property
    def end(self) -> Any:
        """[rows] int32"""
        return self._ids(self._struct.end, self.rows)


class Candidates(_Viewed):
    """Run r of row m covers the tokens origin[m] + runs[m, r] * length + [0, length)."""

    def __init__(self, struct: Any, views: Any, rows: int) -> None:
        super().__init__(struct, views)
        self.rows = rows

    @property
    def runs_per_row(self) -> int:
        return self._struct.runs_per_row

    @property
    def length(self) -> int:
        return self._struct.length

    @cached_property
    def runs(self) -> Any:
        """[rows, runs_per_row] int32, ascending, -1 at the end."""
        return self._ids(self._struct.runs, self.rows, self.runs_per_row, stride=self._struct.runs_stride)

    @cached_property
    def origin(self) -> Any:
        """[rows] int32"""
        return self._ids(self._struct.origin, self.rows)


class _Columns(_Viewed):
    """What scores and selections share: columns, each of which is a token of its row."""

    rows: int

    @property
    def columns(self) -> int:
        return self._struct.columns

    @cached_property
    def windows(self) -> Windows:
        return Windows(self._struct.windows, self._views, self.rows)

    @cached_property
    def candidates(self) -> Candidates | None:
        """What a row scores; None: its whole window."""
        one = self._struct.candidates
        return Candidates(one, self._views, self.rows) if one.runs or one.runs_per_row else None

    @cached_property
    def logits(self) -> Any:
        """[rows, columns] f32"""
        strides = (self._struct.logits_stride, 4)
        return self._view(self._struct.logits, _abi.MISA_F32, (self.rows, self.columns), strides)

    def column_tokens(self) -> Any:
        """[rows, columns] int64: the token of each column; -1 where it holds none that the row sees."""
        where, column = self._views.module.where, self._views.arange(self.columns)
        begin, end = self.windows.begin[:, None], self.windows.end[:, None]
        within = self.candidates
        if within is None:
            tokens = begin + column
        else:
            run = column // within.length
            ids = within.runs[:, run.clip(0, max(within.runs_per_row - 1, 0))]
            tokens = within.origin[:, None] + ids * within.length + column % within.length
            tokens = where((ids < 0) | (run >= within.runs_per_row), -1, tokens)
        return where((tokens >= begin) & (tokens < end), tokens, -1)


class ScoreTask(_Columns):
    """logits[m, c] = scale(t) * sum over h of weights[m, h] * relu(q[m, h] . key(t)), t the token of column c; -inf
    where a column holds no token that the row sees."""

    @property
    def rows(self) -> int:  # type: ignore[override]
        return self._struct.queries.rows

    @cached_property
    def queries(self) -> Queries:
        return Queries(self._struct.queries, self._views)

    @cached_property
    def keys(self) -> Keys:
        return Keys(self._struct.keys, self._views)

    def column_slots(self) -> Any:
        """[rows, columns] int64: where the key of each column lies in keys seen as [pages * page_size, dim]; -1 where a
        column holds no token that the row sees."""
        tokens, table, size = self.column_tokens(), self.keys.block_table, self.keys.page_size
        if table is None:
            return tokens
        pages = table[self.windows.sequence[:, None], tokens.clip(0, None) // size]
        return self._views.module.where(tokens < 0, -1, pages * size + tokens % size)


class SelectTask(_Columns):
    """The k columns of each row with the highest logits; ties: the lower token; NaN ranks below every number."""

    @property
    def rows(self) -> int:  # type: ignore[override]
        return self._struct.rows

    @property
    def k(self) -> int:
        return self._struct.k

    @property
    def force_ends(self) -> bool:
        """The first and the last visible column come before all scores."""
        return bool(self._struct.force_ends)

    @property
    def forced(self) -> tuple[int, int]:
        """So many first visible columns come before all scores, then so many last ones; more than force_ends only where
        the file says `forces = True`."""
        return self._struct.force_first, self._struct.force_last

    @cached_property
    def tokens(self) -> Any:
        """[rows, k] int32 out: tokens counted from begin[m], -1 pads."""
        return self._ids(self._struct.tokens, self.rows, self.k, stride=self._struct.tokens_stride)


class _Rows(_Viewed):
    """Query rows, the keys, and what each row sees of them."""

    @cached_property
    def queries(self) -> Queries:
        return Queries(self._struct.queries, self._views)

    @cached_property
    def keys(self) -> Keys:
        return Keys(self._struct.keys, self._views)

    @cached_property
    def windows(self) -> Windows:
        return Windows(self._struct.windows, self._views, self.queries.rows)


class RouteTask(_Rows):
    """Ranks heads over keys[windows] by `router` and keeps the best; ties: the lower head. Keys are pooled or sampled
    ones, or tokens; their values are None where the router reads no keys."""

    @property
    def router(self) -> str:
        return self._struct.router.decode()

    @property
    def active(self) -> int:
        return self._struct.active

    @property
    def seed(self) -> int:
        return self._struct.seed

    @property
    def first_row(self) -> int:
        return self._struct.first_row

    @cached_property
    def tails(self) -> Any:
        """[rows, dim] f32 in place of the last key of each window; None: none is replaced."""
        return self._f32(self._struct.tails, self.queries.rows, self.queries.dim)

    @cached_property
    def norms(self) -> Any:
        """[rows, heads] f32 of the queries before quantisation, or None."""
        return self._f32(self._struct.norms, self.queries.rows, self.queries.heads)

    @cached_property
    def heads(self) -> Any:
        """[rows, active] int32 out, ascending."""
        return self._ids(self._struct.heads, self.queries.rows, self.active)


class IndexPlan(_Viewed):
    """What an indexer is planned for: the numbers of misa_index_plan, and windows as lists."""

    _TEXTS = ("indexer", "router", "block_window")
    _NUMBERS = ("rows", "heads", "dim", "pages", "page_size", "sequences", "max_pages", "top_k", "active_heads")
    _SETTINGS = ("block_size", "candidates", "blocks", "samples", "seed", "force_first", "force_last")

    def __init__(self, struct: Any, views: Any) -> None:
        super().__init__(struct, views)
        for name in self._TEXTS:
            text = getattr(struct, name)
            setattr(self, name, text.decode() if text else None)
        for name in self._NUMBERS + self._SETTINGS:
            setattr(self, name, getattr(struct, name))
        self.dtype = DTYPES[struct.dtype]
        self.sequence, self.begin, self.end = (
            self._list(pointer, struct.rows) for pointer in (struct.host_sequence, struct.host_begin, struct.host_end)
        )
        self.lengths = self._list(struct.host_lengths, struct.sequences)

    @staticmethod
    def _list(pointer: int | None, count: int) -> list[int] | None:
        return list((_abi.c_int32 * count).from_address(pointer)) if pointer else None


class IndexTask(_Rows):
    """One run of a planned indexer. `planned` is what the file's plan() returned, or None."""

    def __init__(self, struct: Any, views: Any, plan: IndexPlan, planned: Any) -> None:
        super().__init__(struct, views)
        self.plan, self.planned = plan, planned

    @cached_property
    def norms(self) -> Any:
        """[rows, heads] f32, for router qnorm; None otherwise."""
        return self._f32(self._struct.norms, self.queries.rows, self.queries.heads)

    @cached_property
    def tokens(self) -> Any:
        """[rows, top_k] int32 out: tokens counted from begin[m], -1 pads."""
        top_k = self.plan.top_k  # type: ignore[attr-defined]
        return self._ids(self._struct.tokens, self.queries.rows, top_k, stride=self._struct.tokens_stride)
