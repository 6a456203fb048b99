"""Keys of several calls in one trace: what a later call shares with an earlier one is stored once."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

import torch

from .calls import Call, Pages


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool(torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8)))


class ContiguousKeys:
    """Sequences of keys. A call whose keys begin with those of an earlier call, or are their beginning, joins them."""

    def __init__(self) -> None:
        self._keys: List[torch.Tensor] = []
        self._scales: List[Optional[torch.Tensor]] = []
        self._rows: List[Tuple[int, int, int]] = []  # of each row: sequence, length of the window, position

    def add(self, call: Call) -> None:
        assert call.k is not None
        places: Dict[int, int] = {}
        for ks in sorted(set(call.ks)):
            end = max(ke for begin, ke in zip(call.ks, call.ke) if begin == ks)
            scale = None if call.k_scale is None else call.k_scale[ks:end]
            places[ks] = self._place(call.k[ks:end], scale)
        positions = call.q_pos or [ke - ks - 1 for ks, ke in zip(call.ks, call.ke)]
        self._rows += [(places[ks], ke - ks, position) for ks, ke, position in zip(call.ks, call.ke, positions)]

    def _place(self, keys: torch.Tensor, scales: Optional[torch.Tensor]) -> int:
        for place in reversed(range(len(self._keys))):
            known, known_scales = self._keys[place], self._scales[place]
            common = min(len(known), len(keys))
            if known.dtype != keys.dtype or not _same(known[:1], keys[:1]) or not _same(known[:common], keys[:common]):
                continue
            if scales is not None and (known_scales is None or not _same(known_scales[:common], scales[:common])):
                continue
            if len(keys) > len(known):
                self._keys[place], self._scales[place] = keys, scales
            return place
        self._keys.append(keys)
        self._scales.append(scales)
        return len(self._keys) - 1

    @property
    def nbytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in self._keys + [s for s in self._scales if s is not None])

    def tensors(self) -> Dict[str, torch.Tensor]:
        """k, k_scale, ks, ke and q_pos of a trace."""
        begins = [0]
        for keys in self._keys:
            begins.append(begins[-1] + len(keys))
        ks = torch.tensor([begins[place] for place, _, _ in self._rows], dtype=torch.int32)
        lengths = torch.tensor([length for _, length, _ in self._rows], dtype=torch.int32)
        positions = torch.tensor([position for _, _, position in self._rows], dtype=torch.int32)
        tensors = {"k": concatenated(self._keys), "ks": ks, "ke": ks + lengths, "q_pos": positions}
        scales = [scale for scale in self._scales if scale is not None]
        if scales:
            tensors["k_scale"] = torch.cat(scales)
        return tensors


class PagedKeys:
    """Pages of a cache. A page that a later call finds grown is stored as it was last; a changed one, once more."""

    def __init__(self) -> None:
        self._pages: List[torch.Tensor] = []
        self._tokens: List[int] = []  # of each stored page: tokens that some row sees
        self._latest: Dict[int, int] = {}  # number in the stack's cache -> stored page
        self._sequences: List[Tuple[List[int], List[int]]] = []  # table, tokens that each of its rows sees

    def add(self, call: Call) -> None:
        pages = call.pages
        assert pages is not None
        seen = seen_tokens(pages)
        stored = [self._place(number, pages.bytes[i], seen[i]) for i, number in enumerate(pages.ids)]
        for table, lengths in zip(pages.tables, pages.lengths):
            self._sequences.append(([stored[place] for place in table], lengths))

    def _place(self, number: int, page: torch.Tensor, tokens: int) -> int:
        known = self._latest.get(number)
        if known is not None and self._agree(self._pages[known], page, min(self._tokens[known], tokens)):
            if tokens > self._tokens[known]:
                self._pages[known], self._tokens[known] = page, tokens
            return known
        self._pages.append(page)
        self._tokens.append(tokens)
        self._latest[number] = len(self._pages) - 1
        return self._latest[number]

    @staticmethod
    def _agree(a: torch.Tensor, b: torch.Tensor, tokens: int) -> bool:
        size, width = a.shape
        a, b, scales = a.reshape(-1), b.reshape(-1), size * (width - 4)
        return _same(a[: tokens * (width - 4)], b[: tokens * (width - 4)]) and _same(
            a[scales : scales + 4 * tokens], b[scales : scales + 4 * tokens])

    @property
    def nbytes(self) -> int:
        return sum(page.numel() for page in self._pages)

    def tensors(self) -> Dict[str, torch.Tensor]:
        """k_pages, block_table and seq_lens of a trace.

        Sequences keep their next_n rows where all have as many, each row one token longer than the one before. Else
        every row becomes a sequence of its own with the same pages, which changes no score.
        """
        sequences = self._sequences
        next_n = len(sequences[0][1])
        if any(lengths != list(range(lengths[-1] - next_n + 1, lengths[-1] + 1)) for _, lengths in sequences):
            sequences = [(table, [length]) for table, lengths in sequences for length in lengths]
        width = max(len(table) for table, _ in sequences)
        table = torch.tensor([table + [0] * (width - len(table)) for table, _ in sequences], dtype=torch.int32)
        lengths = torch.tensor([lengths[-1] for _, lengths in sequences], dtype=torch.int32)
        return {"k_pages": torch.stack(self._pages), "block_table": table, "seq_lens": lengths}


def concatenated(parts: List[torch.Tensor]) -> torch.Tensor:
    """torch.cat, for FP8 too, and in bf16 where nothing is lost by it."""
    dtype = parts[0].dtype
    if parts[0].element_size() == 1:
        return torch.cat([part.contiguous().view(torch.uint8) for part in parts]).view(dtype)
    whole = torch.cat([part.float() for part in parts])
    half = whole.bfloat16()
    return half if bool(torch.equal(half.float(), whole)) else whole


def pages_used(tables: List[List[int]], lengths: List[List[int]], size: int) -> Pages:
    """Pages without their bytes: which of the cache are used, and the tables in places of that list."""
    used = [table[: -(-max(tokens) // size)] for table, tokens in zip(tables, lengths)]
    ids = sorted({number for table in used for number in table})
    place = {number: i for i, number in enumerate(ids)}
    return Pages(ids, torch.empty(len(ids), size, 0), [[place[number] for number in table] for table in used], lengths)


def seen_tokens(pages: Pages) -> List[int]:
    """How many tokens of each page some row sees."""
    size = pages.bytes.shape[1]
    seen = [0] * len(pages.ids)
    for table, lengths in zip(pages.tables, pages.lengths):
        for block, place in enumerate(table):
            seen[place] = max(seen[place], min(size, max(lengths) - block * size))
    return seen
