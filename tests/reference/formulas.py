"""docs/traces.md, docs/architecture.md and docs/misa-lr.md in NumPy and float64: a second reading that shares no code.

A row's tokens count from its window's begin. Errors of float64 are told apart from differences by `slack`, the size of
what was added up times a unit of rounding.
"""
import json
import pathlib

import numpy as np

MASK = (1 << 64) - 1


def e4m3_values():
    """[256] 1 sign, 4 exponent and 3 mantissa bits; bias 7; no infinity; 0x7F and 0xFF are NaN."""
    values = np.empty(256)
    for code in range(256):
        exponent, mantissa = code >> 3 & 15, code & 7
        size = mantissa * 2.0 ** -9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10)
        values[code] = np.nan if code & 127 == 127 else -size if code & 128 else size
    return values


E4M3 = e4m3_values()


def to_e4m3(values):
    """Codes of the nearest values, ties to the even code, at most 448."""
    sizes = np.abs(values)
    above = np.clip(np.searchsorted(E4M3[:127], sizes), 1, 126)
    low, high = sizes - E4M3[above - 1], E4M3[above] - sizes
    codes = np.where((high < low) | ((high == low) & (above % 2 == 0)), above, above - 1)
    return np.where(np.signbit(values), codes | 128, codes).astype(np.uint8)


def to_bf16(values):
    """Bits of the nearest values, ties to even."""
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(float)


READERS = {
    "F64": lambda raw: raw.view("<f8"),
    "F32": lambda raw: raw.view("<f4").astype(float),
    "BF16": lambda raw: from_bf16(raw.view("<u2")),
    "F8_E4M3": lambda raw: E4M3[raw],
    "F8_E8M0": lambda raw: 2.0 ** (raw.astype(float) - 127),
    "I32": lambda raw: raw.view("<i4").astype(int),
    "U8": lambda raw: raw,
}


def read(path):
    """{name: array} of a safetensors file, and {name: dtype}."""
    data = np.fromfile(path, np.uint8)
    length = int(data[:8].view("<u8")[0])
    header, body = json.loads(data[8:8 + length].tobytes()), data[8 + length:]
    header.pop("__metadata__", None)
    arrays = {name: READERS[entry["dtype"]](body[slice(*entry["data_offsets"])].copy()).reshape(entry["shape"])
              for name, entry in header.items()}
    return arrays, {name: entry["dtype"] for name, entry in header.items()}


def write(path, tensors, metadata):
    """`tensors` is {name: (dtype, shape, bytes)}; widest elements first, so that all are aligned."""
    order = sorted(tensors, key=lambda name: ("F32 I32 BF16".find(tensors[name][0]) % 100, name))
    header, offset = {"__metadata__": metadata}, 0
    for name in order:
        dtype, shape, data = tensors[name]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(tensors[name][2] for name in order)
    pathlib.Path(path).write_bytes(len(text).to_bytes(8, "little") + text + body)


def relu(x):
    return np.maximum(x, 0.0)


def dots(q, k):
    """[H, n] q . k, each added up alike, so that equal keys and equal heads have equal products."""
    return (q[:, None, :] * k[None, :, :]).sum(-1)


class Row:
    """What one row of a trace sees. q [H, D], w [H], norm [H] or None; k [n, D] and scale [n] of the visible tokens."""

    def __init__(self, arrays, dtypes, m):
        self.q, self.w, self.q_dtype = arrays["q"][m], arrays["weights"][m], dtypes["q"]
        self.heads, self.dim = self.q.shape
        if "k" in arrays:
            begin, end = arrays["ks"][m], arrays["ke"][m]
            scales = arrays.get("k_scale", np.ones(len(arrays["k"])))
            self.k, self.scale = arrays["k"][begin:end], scales[begin:end]
            self.all_k, self.all_scale, self.begin = arrays["k"], scales, begin
        else:
            sequences = len(arrays["seq_lens"])
            next_n = len(arrays["q"]) // sequences
            b, j = divmod(m, next_n)
            length = arrays["seq_lens"][b]
            self.all_k, self.all_scale = self.pages(arrays, b, length)
            count = max(0, length - next_n + j + 1)
            self.k, self.scale, self.begin = self.all_k[:count], self.all_scale[:count], 0
        self.tokens = len(self.k)
        self.norm = arrays["q_norm"][m] if "q_norm" in arrays else None
        if self.norm is None and self.q_dtype != "F8_E4M3":
            self.norm = np.sqrt((self.q ** 2).sum(-1))
        elif self.norm is None and "q_scale" in arrays:
            self.norm = np.sqrt((self.q ** 2).sum(-1)) * arrays["q_scale"][m]

    def pages(self, arrays, b, length):
        pages, dim = arrays["k_pages"], self.dim
        size = pages.shape[1]
        keys, scales = np.zeros((length, dim)), np.ones(length)
        for token in range(length):
            page, slot = pages[arrays["block_table"][b, token // size]], token % size
            if pages.dtype != np.uint8:
                keys[token] = page[slot]
                continue
            flat = page.reshape(-1)
            keys[token] = E4M3[flat[slot * dim:(slot + 1) * dim]]
            scales[token] = flat[size * dim + 4 * slot:size * dim + 4 * slot + 4].copy().view("<f4")[0]
        return keys, scales

    def scores(self, heads=None, linear=None, tokens=None):
        """I[s] of the tokens, and the size of what was added up, by these heads (all) and a linear query [D + 1]."""
        heads = range(self.heads) if heads is None else heads
        k, scale = (self.k, self.scale) if tokens is None else (self.k[tokens], self.scale[tokens])
        q, w = self.q[list(heads)], self.w[list(heads)]
        total = (w[:, None] * relu(dots(q, k))).sum(0)
        size = (np.abs(w)[:, None] * dots(np.abs(q), np.abs(k))).sum(0)
        if linear is not None:
            total = total + linear[-1] * dots(linear[None, :-1], k)[0]
            size = size + 2 * np.abs(linear[-1]) * dots(np.abs(linear[None, :-1]), np.abs(k))[0]
        return total * scale, size * np.abs(scale)

    def block_means(self, block_size, upstream=False):
        """Means of k_scale * k of the row's blocks, stored in f32. [M, D]"""
        keys, first, last = self.k * self.scale[:, None], 0, self.tokens
        if upstream:  # blocks of the whole buffer or sequence, none of them cut
            keys = self.all_k * self.all_scale[:, None]
            first, last = self.begin // block_size * block_size, self.begin + self.tokens
        if self.tokens == 0:
            return np.zeros((0, self.dim))
        means = [keys[at:at + block_size].mean(0) for at in range(first, last, block_size)]
        return np.array(means).astype(np.float32).astype(float)

    def energies(self, router, block_size, upstream):
        """What a router ranks heads by, and the size of what was added up."""
        zero = np.zeros(self.heads)
        if router == "gate":
            return np.abs(self.w), zero
        if router == "qnorm":
            return self.norm.astype(np.float32).astype(float), self.norm
        if self.tokens == 0:
            return zero, zero
        if router == "selfk":
            k, scale, w = self.k[-1:], self.scale[-1:], self.w
        elif router == "oracle":
            k, scale, w = self.k, self.scale, np.abs(self.w)
        else:
            k, w = self.block_means(block_size, upstream), np.abs(self.w)
            scale = np.ones(len(k))
        energy = w * (relu(dots(self.q, k)) * scale).mean(1)
        return energy, np.abs(w) * (dots(np.abs(self.q), np.abs(k)) * np.abs(scale)).mean(1)


def mix(x):
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def sampled_tokens(count, samples):
    """Every stride-th token from the stride's offset on; at most 2 * samples of them."""
    stride = 1
    while -(-count // stride) > 2 * samples:
        stride *= 2
    return np.arange(mix(0x9E3779B97F4A7C15 * stride & MASK) & stride - 1, count, stride)


def highest(values, count):
    """The `count` indices of highest value, ascending; ties: the lower index."""
    return np.sort(np.argsort(-values, kind="stable")[:count])


def boundary(values, count, slack):
    """Whether rounding may change which `count` values are the highest: the next one is close, but not equal."""
    if count == 0 or count >= len(values):
        return False
    ranked = np.sort(values)[::-1]
    near = ranked[np.abs(ranked - ranked[count - 1]) <= slack]
    return len(near) > 1 and near.min() != near.max()


class Samples:
    """Lines and residuals of a row's heads over its sampled keys (docs/misa-lr.md)."""

    def __init__(self, row, samples, linear, unit):
        self.row, self.linear, self.unit = row, linear, unit
        tokens = sampled_tokens(row.tokens, samples)
        k = (row.k[tokens] * row.scale[tokens, None]).astype(np.float32).astype(float)
        x = dots(row.q, k)
        totals = (row.w[:, None] * relu(x)).sum(0)
        sizes = (np.abs(row.w)[:, None] * dots(np.abs(row.q), np.abs(k))).sum(0)
        count = -(-len(tokens) // 2) if linear else len(tokens)
        # Two points are on a line: what is left of them is rounding alone.
        self.unsure = boundary(totals, count, unit * sizes.max(initial=0)) or (linear and count == 2)
        x = x[:, highest(totals, count)]
        y = relu(x)
        self.count, self.slope = count, np.zeros(row.heads)
        self.left = np.zeros((row.heads, count))
        for h in range(row.heads if count else 0):
            about, of_y = x[h] - x[h].mean(), y[h] - y[h].mean()
            squares = (about ** 2).sum()
            if linear:
                line = np.clip((about * of_y).sum() / squares, 0, 1) if squares > 0 else float(x[h][0] > 0)
                self.slope[h] = line
            rest = y[h] - self.slope[h] * x[h]
            self.left[h] = rest - rest.mean()
        self.deviation = np.sqrt((self.left ** 2).mean(1)) if count else np.zeros(row.heads)
        self.energies = np.abs(row.w) * self.deviation
        self.size = np.abs(row.w) * np.sqrt((dots(np.abs(row.q), np.abs(k)) ** 2).mean(1)) if count else self.energies

    def covariance_heads(self, kept):
        """The heads that backward elimination keeps, and whether rounding could have changed that."""
        heads = self.row.heads
        slack = self.unit * self.size.max(initial=0)
        shortlist = min(heads, 2 * kept + 4)
        unsure = self.unsure or boundary(self.energies, shortlist, slack)
        stay = list(highest(self.energies, shortlist))
        gone = [h for h in range(heads) if h not in stay]
        y = self.row.w[:, None] * self.left
        while len(stay) > kept:
            # What is dropped would have this variance with one head more.
            before = y[gone].sum(0)
            costs = np.array([((before + y[h]) ** 2).sum() - (before ** 2).sum() for h in stay]) / max(1, self.count)
            near = np.abs(costs - costs.min()) <= 16 * heads * self.unit * (self.size.sum() ** 2)
            equal = [h for h, close in zip(stay, near) if close]
            unsure = unsure or any(not np.array_equal(y[h], y[equal[0]]) for h in equal)
            gone.append(max(equal))
            stay.remove(gone[-1])
        return np.array(stay, int), unsure

    def linear_query(self, kept):
        """sum of w a q over the heads that are not kept, and the size of what was added up."""
        others = [h for h in range(self.row.heads) if h not in kept]
        factor = (self.row.w * self.slope)[others]
        terms = factor[:, None] * self.row.q[others]
        return terms.sum(0), np.abs(terms).sum(0)


def rounded_linear_query(query, size, dtype):
    """The query as it is scored and its weight, [D + 1]; and which of its numbers rounding could have changed."""
    def stored(values):
        single = values.astype(np.float32).astype(float)
        return {"F32": lambda: single, "BF16": lambda: from_bf16(to_bf16(single)),
                "F8_E4M3": lambda: E4M3[to_e4m3(single / scale)]}[dtype]()

    scale, unsure = 1.0, False
    if dtype == "F8_E4M3":  # the least power of two that brings the largest number to 448 or less
        ratio = float(np.float32(np.abs(query).max()) / np.float32(448))
        fraction, exponent = np.frexp(ratio)
        scale = 2.0 ** max(-126, exponent - (fraction == 0.5))
        unsure = ratio == 0 or abs(ratio / 2.0 ** round(np.log2(ratio)) - 1) < 1e-6
    slack = 1e-11 * size.max(initial=0)
    moved = stored(query - slack) != stored(query + slack)
    return np.append(stored(query), scale), np.append(moved | unsure, unsure)
