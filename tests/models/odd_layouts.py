"""Steps of odd networks that leave (N, C, H, W): permuted, folded, cut into windows, joined."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import torch
from odd_meaning import Atom, Dim, Meaning
from odd_steps import Fn, Step, on_maps, sized, step
from torch import Tensor, nn

# --- other layouts


@step
def turned(m: Meaning, rng: Random) -> Step:
    order = list(range(len(m.dims)))
    rng.shuffle(order)
    return _permuted(m, order)


@step
def channels_last(m: Meaning, rng: Random) -> Step | None:
    if len(m.dims) < 3 or not m.dims[0].only("n"):
        return None
    return _permuted(m, [0, *range(2, len(m.dims)), 1])


def _permuted(m: Meaning, order: list[int]) -> Step:
    return Step(Fn(lambda _, x: x.permute(order)), m.over(*(m.dims[at] for at in order)))


@step
def folded(m: Meaning, rng: Random) -> Step | None:
    """The batch and its neighbor in one dimension: axial attention has (N·H, W, C)."""
    return _folded(m, mixed=False)


@step
def folded_with_channels(m: Meaning, rng: Random) -> Step | None:
    """The batch, places and channels in one dimension."""
    return _folded(m, mixed=True)


def _folded(m: Meaning, mixed: bool) -> Step | None:
    for at, (a, b) in enumerate(pairwise(m.dims)):
        kinds = {atom.kind for atom in a.atoms + b.atoms}
        mixes = {"n", "c"} <= kinds and len(kinds) > 2
        if "n" in kinds and mixes == mixed and not a.apart + b.apart and len(m.dims) > 2:
            return _flat(m, at)
    return None


@step
def flattened(m: Meaning, rng: Random) -> Step | None:
    """Rows and columns as a sequence."""
    return _flat(m, 2) if m.is_map else None


def _flat(m: Meaning, at: int) -> Step:
    joined = Dim(m.dims[at].atoms + m.dims[at + 1].atoms)
    return Step(
        Fn(lambda _, x: x.flatten(at, at + 1)), m.over(*m.dims[:at], joined, *m.dims[at + 2 :])
    )


class _Token(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1)


@on_maps
def tokens(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    places = Dim(m.dims[2].atoms + m.dims[3].atoms, apart=1)
    return Step(_Token(c), m.over(m.dims[0], places, m.dims[1]))


@on_maps
def windows(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step | None:
    """(N·windows, size·size, C), as shifted-window transformers have it."""
    k = rng.choice([2, 4])
    if h % k or w % k:
        return None
    rows, columns = h // k, w // k

    def run(_: Any, x: Tensor) -> Tensor:
        x = x.view(len(x), c, rows, k, columns, k)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, k * k, c)

    outer = Dim((*m.dims[0].atoms, Atom("h", rows), Atom("w", columns)))
    inner = Dim((Atom("h", k, 1), Atom("w", k, 1)))
    return Step(Fn(run), m.over(outer, inner, m.dims[1]))


@on_maps
def rolled(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step | None:
    a, b = rng.randint(1, 3), -rng.randint(0, 2)
    if m.rolled:
        return None
    rolled = Meaning(m.dims, (("h", a), ("w", b)))
    return Step(Fn(lambda _, x: torch.roll(x, (a, b), (2, 3))), rolled)


@on_maps
def stacked(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    """A stack in front of the batch: (2, N, C, H, W)."""
    both = Meaning((Dim((Atom("c", 2, -1),)), *m.dims), m.rolled)
    block = Fn(
        lambda s, x: s.act(torch.stack([x, s.conv(x)])).sum(0),
        conv=nn.Conv2d(c, c, 1),
        act=nn.GELU(),
    )
    return Step(block, m, {"conv": m, "act": both})


@on_maps
def stacked_behind(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    """A stack behind the batch: (N, 2, C, H, W)."""
    both = Meaning((m.dims[0], Dim((Atom("c", 2, -1),)), *m.dims[1:]), m.rolled)
    block = Fn(lambda s, x: s.act(torch.stack([x, x + 1], 1)).amax(1), act=nn.Tanh())
    return Step(block, m, {"act": both})


@on_maps
def scales_joined(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step | None:
    if min(h, w) < 4:
        return None
    length = h * w + (h // 2) * (w // 2)

    def run(s: Any, x: Tensor) -> Tensor:
        return s.head(torch.cat([x.flatten(2), s.pool(x).flatten(2)], 2))

    line = Meaning((*m.dims[:2], Dim((Atom("s", length),))), m.rolled, scale=(h, w))
    block = Fn(run, pool=nn.AvgPool2d(2), head=nn.Conv1d(c, c, 1))
    return Step(block, line, {"pool": sized(m, c, h // 2, w // 2), "head": line})


@on_maps
def rows_in_time(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    return _recurrent(m, c, h, w, batch_first=True)


@on_maps
def time_first(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    return _recurrent(m, c, h, w, batch_first=False)


def _recurrent(m: Meaning, c: int, h: int, w: int, batch_first: bool) -> Step:
    order = (0, 2, 1, 3) if batch_first else (2, 0, 1, 3)
    back = (0, 2, 1) if batch_first else (1, 2, 0)

    def run(s: Any, x: Tensor) -> Tensor:
        states = s.rnn(x.permute(order).flatten(2))[0]
        return x + s.fc(states).permute(back)[..., None]

    rnn = nn.LSTM(c * w, 6, batch_first=batch_first)
    dims = [m.dims[0], m.dims[2]] if batch_first else [m.dims[2], m.dims[0]]
    inner = m.over(*dims, Dim((Atom("c", 6),)))
    inside = {"rnn": inner, "fc": m.over(*dims, m.dims[1])}
    return Step(Fn(run, rnn=rnn, fc=nn.Linear(6, c)), m, inside)


class _Attention(nn.Module):
    """Self-attention over the second dimension of (N, L, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        n, length, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, length, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-2, -1)).mul(0.5).softmax(-1) @ v
        return x + self.proj(mixed.transpose(1, 2).reshape(n, length, c))


@step
def attention(m: Meaning, rng: Random) -> Step | None:
    if len(m.dims) != 3 or not m.dims[2].only("c") or m.dims[2].size % 2 or m.dims[1].has("n"):
        return None
    c = m.dims[2].size
    wide = m.over(*m.dims[:2], Dim((Atom("c", 3 * c),)))
    return Step(_Attention(c), m, {"norm": m, "qkv": wide, "proj": m})


# --- one number at a time, in any layout


@step
def activation(m: Meaning, rng: Random) -> Step:
    return Step(rng.choice([nn.ReLU, nn.ReLU6, nn.SiLU])(inplace=rng.random() < 0.5), m)


@step
def nothing(m: Meaning, rng: Random) -> Step:
    return Step(rng.choice([nn.Identity, nn.Dropout])(), m)


@step
def layer_norm(m: Meaning, rng: Random) -> Step | None:
    return Step(nn.LayerNorm(m.dims[-1].size), m) if m.dims[-1].only("c") else None


@step
def linear(m: Meaning, rng: Random) -> Step | None:
    if not m.dims[-1].only("c"):
        return None
    out = rng.choice([4, 6, 8])
    return Step(nn.Linear(m.dims[-1].size, out), m.over(*m.dims[:-1], Dim((Atom("c", out),))))


@step
def pointwise(m: Meaning, rng: Random) -> Step | None:
    """A convolution of one element, over whatever the network keeps behind the channels."""
    if len(m.dims) not in (3, 4) or not m.dims[1].only("c"):
        return None
    out = rng.choice([4, 6, 8])
    layer = (nn.Conv1d if len(m.dims) == 3 else nn.Conv2d)(m.dims[1].size, out, 1)
    return Step(layer, m.over(m.dims[0], Dim((Atom("c", out),)), *m.dims[2:]))


@step
def restored(m: Meaning, rng: Random) -> Step | None:
    """Back to (N, C, H, W), from whatever layout."""
    return None if m.is_map else restoring(m)


def restoring(m: Meaning) -> Step:
    if m.of_kind("s"):
        return _first_scale(m)
    atoms = m.atoms()
    order = [atoms.index(atom) for kind in "nchw" for atom in m.of_kind(kind)]
    sizes = [m.size_of(kind) for kind in "chw"]

    def run(_: Any, x: Tensor) -> Tensor:
        for at, dim in enumerate(m.dims):
            if dim.apart:
                x = x.narrow(at, dim.apart, x.shape[at] - dim.apart)
        return x.reshape([atom.size for atom in atoms]).permute(order).reshape(-1, *sizes)

    return Step(Fn(run), sized(m, *sizes))


def _first_scale(m: Meaning) -> Step:
    """Only the first of several scales, as a map."""
    atoms = m.atoms()
    order = [atoms.index(atom) for kind in "ncs" for atom in m.of_kind(kind)]
    height, width = m.scale
    c = m.size_of("c")

    def run(_: Any, x: Tensor) -> Tensor:
        x = x.reshape([atom.size for atom in atoms]).permute(order)
        return x[..., : height * width].reshape(-1, c, height, width)

    return Step(Fn(run), sized(m, c, height, width))
