"""The model: a decoder whose layers attend to the last tokens and to all tokens in turns, and the DSA indexers of the latter.

Local layers have rotary positions and a window; global ones have no positions, so that they know no length they were not trained on,
and their logits grow with the logarithm of the number of tokens, so that one token among many can still be found. Sources: RoPE of
every second layer, arXiv:2501.18795; scalable softmax, arXiv:2501.19399. An indexer is that of DeepSeek-V3.2: inference/model.py,
Indexer, with queries from the layer's input for want of a latent.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Config:
    vocabulary: int = 8192
    layers: int = 6
    width: int = 512
    heads: int = 8
    hidden: int = 1408
    window: int = 512         # tokens that a local layer sees
    index_heads: tuple = (64, 32)
    index_dim: int = 128
    index_rope: int = 64      # of its dimensions, the first ones
    top_k: int = 2048

    def is_global(self, layer):
        return layer % 2 == 1

    def global_layers(self):
        return [layer for layer in range(self.layers) if self.is_global(layer)]

    def as_dict(self):
        return asdict(self)


def rotate(x, positions, base):
    """Rotary positions on all of the last dimension, half against half. x: [..., N, D], positions: [N]."""
    half = x.shape[-1] // 2
    angles = positions[:, None].float() * base ** (-torch.arange(half, device=x.device).float() / half)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def norm(x):
    return F.rms_norm(x, x.shape[-1:])


def attend_locally(q, k, v, window):
    """Each token attends to the last `window` ones, itself among them: blocks of that size and the block before. [B, heads, N, D]"""
    batch, heads, tokens, dim = q.shape
    rest = -tokens % window
    q, k, v = (F.pad(x, (0, 0, 0, rest)).view(batch, heads, -1, window, dim) for x in (q, k, v))
    blocks = q.shape[2]
    first = F.scaled_dot_product_attention(q[:, :, 0], k[:, :, 0], v[:, :, 0], is_causal=True)
    out = [first]
    if blocks > 1:
        i, j = torch.arange(window, device=q.device)[:, None], torch.arange(2 * window, device=q.device)[None]
        mask = (j > i) & (j <= i + window)
        both = [torch.cat([x[:, :, :-1], x[:, :, 1:]], dim=3).transpose(1, 2).flatten(0, 1) for x in (k, v)]
        others = F.scaled_dot_product_attention(q[:, :, 1:].transpose(1, 2).flatten(0, 1), *both, attn_mask=mask)
        out.append(others.view(batch, blocks - 1, heads, window, dim).transpose(1, 2).flatten(2, 3))
    return torch.cat(out, dim=2)[:, :, :tokens]


def attend_to_all(layer, hidden, q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class Block(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.config, self.layer = config, layer
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.up = nn.Linear(config.width, 2 * config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.width, bias=False)
        self.gain = nn.Parameter(torch.full((config.heads,), 1.5))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.down.weight)

    def project(self, x):
        """What attention is over: hidden states [B, N, width], and q, k, v [B, heads, N, D]."""
        config = self.config
        hidden = norm(x)
        q, k, v = (part.unflatten(-1, (config.heads, -1)).transpose(1, 2) for part in self.qkv(hidden).chunk(3, dim=-1))
        q, k = norm(q) * self.gain.to(q.dtype)[:, None, None], norm(k)
        positions = torch.arange(x.shape[1], device=x.device)
        if config.is_global(self.layer):
            return hidden, q * ((positions + 2.0).log() / math.log(512)).to(q.dtype)[:, None], k, v
        return hidden, rotate(q, positions, 1e4), rotate(k, positions, 1e4), v

    def finish(self, x, y):
        """The layer's output, of its input and what was attended to."""
        x = x + self.out(y.transpose(1, 2).flatten(2))
        gate, up = self.up(norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)

    def forward(self, x, attend):
        """`attend(layer, hidden, q, k, v)` is the attention of a global layer."""
        hidden, q, k, v = self.project(x)
        if self.config.is_global(self.layer):
            y = attend(self.layer, hidden, q, k, v)
        else:
            y = attend_locally(q, k, v, self.config.window)
        return self.finish(x, y)

    def compile_parts(self):
        """Lets torch fuse what is not attention."""
        self.project, self.finish = (torch.compile(part, dynamic=True) for part in (self.project, self.finish))


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens, attend=attend_to_all):
        """Hidden states [B, N, width], of which logits() makes predictions."""
        x = norm(self.embedding(tokens))
        for block in self.blocks:
            x = block(x, attend)
        return norm(x)

    def logits(self, hidden):
        return F.linear(hidden, self.embedding.weight)


def loss_of(model, hidden, targets, weights, piece=16384):
    """The weighted mean cross-entropy of the next tokens, a piece at a time for want of memory for all logits."""
    def of_piece(states, wanted, factors):
        return (F.cross_entropy(model.logits(states).float(), wanted, reduction="none") * factors).sum()

    hidden, targets, weights = hidden.flatten(0, 1), targets.flatten(), weights.flatten()
    total = 0.0
    for states, wanted, factors in zip(hidden.split(piece), targets.split(piece), weights.split(piece)):
        total = total + torch.utils.checkpoint.checkpoint(of_piece, states, wanted, factors, use_reentrant=False)
    return total / weights.sum()


def hadamard(size):
    """The orthogonal Hadamard matrix of Sylvester, [size, size]."""
    matrix = torch.ones(1, 1)
    while matrix.shape[0] < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)], 0)
    return matrix / math.sqrt(size)


def quantise(x):
    """FP8 values of vectors and their scales, absmax / 448: x is about values * scales. [..., D] -> [..., D] e4m3, [...]"""
    scales = x.float().abs().amax(-1).clamp_min(1e-4) / 448
    return (x.float() / scales[..., None]).clamp(-448, 448).to(torch.float8_e4m3fn), scales


def rounded(x):
    """x as FP8 holds it; gradients pass as if it did not round."""
    values, scales = quantise(x)
    return x + (values.float() * scales[..., None] - x).detach()


class Indexer(nn.Module):
    """score[m, s] = sum over h of weights[m, h] * relu(q[m, h] . k[s]), in FP8."""

    def __init__(self, config, heads):
        super().__init__()
        self.heads, self.dim, self.rope = heads, config.index_dim, config.index_rope
        self.query = nn.Linear(config.width, heads * self.dim, bias=False)
        self.key = nn.Linear(config.width, self.dim, bias=False)
        self.key_norm = nn.LayerNorm(self.dim)
        self.weight = nn.Linear(config.width, heads, bias=False)
        self.register_buffer("turn", hadamard(self.dim), persistent=False)

    def place(self, x, positions):
        """Rotary positions on the first dimensions, then the Hadamard transform. x: [..., N, D]"""
        x = torch.cat([rotate(x[..., :self.rope], positions, 1e6), x[..., self.rope:]], dim=-1)
        return x @ self.turn

    def keys(self, hidden):
        """[N, D] of hidden states [N, width]."""
        hidden = hidden.float()
        return self.place(self.key_norm(self.key(hidden)), torch.arange(hidden.shape[0], device=hidden.device))

    def queries(self, hidden, positions):
        """[M, H, D] and weights [M, H] of the hidden states of some positions."""
        hidden = hidden.float()
        q = self.query(hidden).unflatten(-1, (self.heads, self.dim)).transpose(0, 1)
        return self.place(q, positions).transpose(0, 1), self.weight(hidden) * (self.heads * self.dim) ** -0.5

    def scores(self, hidden, positions, rows):
        """[M, N] scores of the positions `rows`' queries, -inf for tokens behind them; in numbers that FP8 holds."""
        q, weights = self.queries(hidden[rows], positions[rows])
        dots = rounded(q).flatten(0, 1) @ rounded(self.keys(hidden)).T
        scores = torch.einsum("mh,mhn->mn", weights, dots.unflatten(0, (-1, self.heads)).relu())
        return scores.masked_fill(positions[None] > positions[rows][:, None], -math.inf)


def mean_attention(q, k, rows):
    """The mean over heads of the softmax of rows over the tokens before them: [M, N] of q, k [heads, N, D]."""
    logits = q[:, rows].float() @ k.float().transpose(1, 2) * q.shape[-1] ** -0.5
    later = torch.arange(k.shape[1], device=k.device)[None] > rows[:, None]
    return logits.masked_fill(later, -math.inf).softmax(-1).mean(0)


def divergence(target, scores):
    """The mean over rows of KL(target || softmax(scores)); where scores are -inf the target counts for nothing, and is made to sum to 1."""
    seen = scores > -math.inf
    target = torch.where(seen, target, 0)
    target = target / target.sum(-1, keepdim=True).clamp_min(1e-20)
    logs = torch.where(seen, scores.log_softmax(-1), 0)
    return (target * (target.clamp_min(1e-20).log() - logs)).sum(-1).mean()
