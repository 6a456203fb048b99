"""Which tokens each query row sees, and keys in pages."""

from __future__ import annotations

from typing import Any

import numpy as np

from .memory import host_array


class Windows:
    """Row m sees the tokens [begin[m], end[m]) of sequence[m].

    Contiguous keys count tokens from the start of the tensor, paged keys from the start of the sequence. The numbers
    are copied to the host here, once, and never change afterwards; of CUDA tensors that waits for the device. An
    indexer plans for a Windows once, and all indexers of the same settings share the plan, whose memory lives as long
    as this object: make one for a step of the model, and give it to every layer.

    `lengths`: tokens of each sequence of paged keys, where block_window="upstream" averages beyond the last row.
    """

    def __init__(self, begin: Any, end: Any, sequence: Any = None, lengths: Any = None) -> None:
        self.begin, self.end = host_array(begin, "begin"), host_array(end, "end")
        rows = len(self.begin)
        self.sequence = np.zeros(rows, np.int32) if sequence is None else host_array(sequence, "sequence")
        if not rows == len(self.end) == len(self.sequence):
            raise ValueError(f"windows have {rows} begins, {len(self.end)} ends and {len(self.sequence)} sequences")
        self.lengths = None if lengths is None else host_array(lengths, "lengths")
        self.plans: dict[Any, Any] = {}  # of the indexers that were planned for them
        self.recent: dict[int, Any] = {}  # of these, the one that an indexer of these settings used last
        for array in (self.begin, self.end, self.sequence):
            array.flags.writeable = False

    @classmethod
    def of(cls, given: Any) -> Windows:
        """Of (begin, end) or (sequence, begin, end)."""
        if isinstance(given, Windows):
            return given
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise ValueError("windows are (begin, end), (sequence, begin, end) or misa.Windows")
        return cls(*given) if len(given) == 2 else cls(given[1], given[2], given[0])

    @classmethod
    def prefill(cls, lengths: Any, first: Any = None) -> Windows:
        """Causal rows over contiguous keys: sequence s has lengths[s] keys, and rows for its tokens from first[s] on
        (default: for all). The row of a token sees the tokens of its sequence up to itself."""
        counts = host_array(lengths, "lengths")
        firsts = np.zeros_like(counts) if first is None else host_array(first, "first")
        starts = np.cumsum(counts) - counts
        rows = counts - firsts
        sequence = np.repeat(np.arange(len(counts)), rows)
        token = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows) + np.repeat(firsts, rows)
        begin = np.repeat(starts, rows)
        return cls(begin, begin + token + 1, sequence)

    @classmethod
    def decode(cls, lengths: Any, next_n: int = 1) -> Windows:
        """next_n rows for the last tokens of each sequence of paged keys, which has lengths[s] tokens."""
        counts = host_array(lengths, "lengths")
        sequence = np.repeat(np.arange(len(counts)), next_n)
        end = np.repeat(counts, next_n) - np.tile(np.arange(next_n)[::-1], len(counts))
        return cls(np.zeros_like(end), end, sequence, counts)

    def __len__(self) -> int:
        return len(self.begin)

    def same(self, other: Windows) -> bool:
        return (
            np.array_equal(self.begin, other.begin)
            and np.array_equal(self.end, other.end)
            and np.array_equal(self.sequence, other.sequence)
        )

    def lengths_of(self, sequences: int) -> np.ndarray:
        """Tokens of each of `sequences`: as given, else up to the end of its last row."""
        if self.lengths is not None:
            return self.lengths
        lengths = np.zeros(max(sequences, 1), np.int32)
        inside = self.sequence < sequences  # the library says which is not
        np.maximum.at(lengths, self.sequence[inside], self.end[inside])
        return lengths


class PagedKeys:
    """Token t of sequence s is entry t % page_size of page block_table[s, t // page_size].

    `cache` is [pages, page_size, D] of any dtype, with `scales` [pages, page_size] where it is FP8; or it is uint8
    [pages, page_size, D + 4] as vLLM, SGLang and DeepGEMM have it: page_size * D bytes of FP8, then page_size float32
    scales. SGLang's [pages, page_size * (D + 4)] is taken with `page_size`. `block_table` is int32 [sequences,
    max_pages] beside the cache. Nothing is copied or looked at: rows may see any page whose number the table has.
    """

    __slots__ = ("cache", "block_table", "scales", "page_size")

    def __init__(self, cache: Any, block_table: Any, scales: Any = None, page_size: int | None = None) -> None:
        self.cache, self.block_table, self.scales, self.page_size = cache, block_table, scales, page_size
