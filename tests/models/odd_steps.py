"""Steps of odd networks: each knows, by construction, the meaning of what it returns."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch
from odd_meaning import Dim, Meaning, image_map
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune


@dataclass
class Step:
    """A module, the meaning of its result, and of those of the modules inside it."""

    module: nn.Module
    meaning: Meaning
    inside: dict[str, Meaning] = field(default_factory=dict)


Maker = Callable[[Meaning, Random], Step | None]
STEPS: dict[str, Maker] = {}


def step(maker: Maker) -> Maker:
    STEPS[maker.__name__.replace("_", " ")] = maker
    return maker


def on_maps(make: Callable[[Meaning, Random, int, int, int], Step | None]) -> Maker:
    """For steps that take ``(N, C, H, W)``; they are given C, H and W."""

    def maker(meaning: Meaning, rng: Random) -> Step | None:
        if not meaning.is_map:
            return None
        return make(meaning, rng, *(dim.size for dim in meaning.dims[1:]))

    maker.__name__ = make.__name__
    return step(maker)


class Fn(nn.Module):
    """A function of one tensor as a block, with modules inside it where it has some."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def sized(meaning: Meaning, channels: int, height: int, width: int) -> Meaning:
    return Meaning(image_map(channels, height, width).dims, meaning.rolled)


# --- maps to maps


@on_maps
def conv(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    groups = 2 if c % 2 == 0 and rng.random() < 0.5 else 1
    down = rng.random() < 0.4 and min(h, w) >= 8
    out = rng.choice([4, 8])
    layer = nn.Conv2d(c, out, 3, 2 if down else 1, 1, groups=groups)
    return Step(layer, sized(m, out, -(-h // (1 + down)), -(-w // (1 + down))))


@on_maps
def transposed(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step | None:
    if h * w > 200:
        return None
    return Step(nn.ConvTranspose2d(c, 4, 2, stride=2), sized(m, 4, 2 * h, 2 * w))


@on_maps
def pool(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step | None:
    kind = rng.choice([nn.MaxPool2d, nn.AvgPool2d])
    return Step(kind(2), sized(m, c, h // 2, w // 2)) if min(h, w) >= 6 else None


@on_maps
def batch_norm(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    norm = nn.BatchNorm2d(c)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.normal_(norm.running_mean)
    return Step(norm, m)


@on_maps
def residual_over_in_place(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    act = rng.choice([nn.ReLU, nn.ReLU6, nn.Hardswish])(inplace=True)
    block = Fn(lambda s, x: x + s.conv(s.act(x)), act=act, conv=nn.Conv2d(c, c, 3, padding=1))
    return Step(block, m, {"act": m, "conv": m})


@on_maps
def add_in_place(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    def run(s: Any, x: Tensor) -> Tensor:
        y = s.conv(x)
        z = F.relu(y, inplace=True)
        y.add_(x)
        return z * 2 + s.norm(y).mul_(0.5)

    parts = {"conv": nn.Conv2d(c, c, 1), "norm": nn.BatchNorm2d(c)}
    return Step(Fn(run, **parts), m, {"conv": m, "norm": m})


@on_maps
def used_again(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    block = Fn(
        lambda s, x: F.relu(s.act(s.conv(s.act(s.conv(x)))) - 0.1),
        conv=nn.Conv2d(c, c, 3, padding=1),
        act=nn.ReLU(rng.random() < 0.5),
    )
    return Step(block, m, dict.fromkeys(("conv", "act", "conv#2", "act#2"), m))


@on_maps
def split_and_cat(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step | None:
    if c % 2:
        return None
    cut = rng.choice([lambda x: x.split(x.shape[1] // 2, 1), lambda x: x.chunk(2, dim=1)])

    def run(s: Any, x: Tensor) -> Tensor:
        a, b = cut(x)
        return torch.cat([s.left(a), s.right(b)], 1)

    right = nn.ReLU(rng.random() < 0.5)
    half = sized(m, c // 2, h, w)
    parts = {"left": nn.Conv2d(c // 2, c // 2, 3, padding=1), "right": right}
    return Step(Fn(run, **parts), m, {"left": half, "right": half})


@on_maps
def padded(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step | None:
    if m.rolled:  # rows that windows wrap around: padding beside them is shown apart
        return None
    a, b, d, e = (rng.randint(0, 2) for _ in range(4))
    wide = sized(m, c, h + d + e, w + a + b)
    if rng.random() < 0.5:
        return Step(nn.ZeroPad2d((a, b, d, e)), wide)
    return Step(Fn(lambda _, x: F.pad(x, (a, b, d, e))), wide)


@on_maps
def padded_over_channels(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step | None:
    more = rng.choice([1, 2])
    if c > 8:
        return None
    return Step(Fn(lambda _, x: F.pad(x, (0, 0, 0, 0, more, more))), sized(m, c + 2 * more, h, w))


@on_maps
def pixel_unshuffle(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step | None:
    if h % 2 or w % 2 or c > 4 or m.rolled:
        return None
    return Step(nn.PixelUnshuffle(2), sized(m, 4 * c, h // 2, w // 2))


@on_maps
def pixel_shuffle(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step | None:
    if c % 4 or h * w > 200 or m.rolled:
        return None
    return Step(nn.PixelShuffle(2), sized(m, c // 4, 2 * h, 2 * w))


@on_maps
def gate(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    block = Fn(
        lambda s, x: x * s.fc(s.pool(x)).sigmoid(),
        pool=nn.AdaptiveAvgPool2d(1),
        fc=nn.Conv2d(c, c, 1),
    )
    one = m.over(*m.dims[:2], Dim(), Dim())
    return Step(block, m, {"pool": one, "fc": one})


@on_maps
def gate_of_linear(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    block = Fn(lambda s, x: x * s.fc(x.mean((2, 3)))[:, :, None, None], fc=nn.Linear(c, c))
    return Step(block, m, {"fc": m.over(*m.dims[:2])})


@on_maps
def written_into(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    def run(s: Any, x: Tensor) -> Tensor:
        y = s.conv(x)
        y[:, 0] = 0.25
        y[..., :2] *= 2
        return y

    return Step(Fn(run, conv=nn.Conv2d(c, c, 3, padding=1)), m, {"conv": m})


@on_maps
def data_written(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    def run(s: Any, x: Tensor) -> Tensor:
        y = s.conv(x)
        y.data.clamp_(min=0)
        return y * 1.5

    return Step(Fn(run, conv=nn.Conv2d(c, c, 1)), m, {"conv": m})


class _Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * (1 + self.calls)


@on_maps
def buffer_that_is_written(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    return Step(_Counts(), m)


# --- what a block returns


@dataclass(frozen=True, slots=True)
class Frozen:
    map: Tensor
    more: Tensor | None = None


@dataclass
class Plain:
    map: Tensor
    name: str = "a block"


class Named(dict):  # type: ignore[type-arg]
    @property
    def map(self) -> Tensor:
        return self["map"]


RETURNED: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "tuple": (lambda t: (t, t.mean()), lambda r: r[0]),
    "list": (lambda t: [t], lambda r: r[0]),
    "dict": (lambda t: {"map": t}, lambda r: r["map"]),
    "frozen": (lambda t: Frozen(t), lambda r: r.map),
    "plain": (lambda t: Plain(t), lambda r: r.map),
    "namespace": (lambda t: types.SimpleNamespace(map=t), lambda r: r.map),
    "named": (lambda t: Named(map=t), lambda r: r.map),
    "nested": (lambda t: ({"a": [Frozen(t)]}, 3), lambda r: r[0]["a"][0].map),
}


@on_maps
def returned_otherwise(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    wrap, unwrap = RETURNED[rng.choice(list(RETURNED))]
    inner = Fn(lambda s, x: wrap(s.conv(x)), conv=nn.Conv2d(c, c, 3, padding=1))
    block = Fn(lambda s, x: unwrap(s.inner(x)) + x, inner=inner)
    return Step(block, m, {"inner": m, "inner.conv": m})


# --- weights and registration


@on_maps
def parametrized(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    layer = nn.Conv2d(c, c, 3, padding=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        rng.choice(
            [
                parametrizations.spectral_norm,
                parametrizations.weight_norm,
                nn.utils.weight_norm,
                nn.utils.spectral_norm,
                lambda part: prune.l1_unstructured(part, "weight", amount=0.4),
            ]
        )(layer)
    return Step(layer, m)


class _Hidden(nn.Module):
    """Modules in a plain list, a closure, a bound method, under a second name, or early."""

    def __init__(self, c: int, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv = nn.Conv2d(c, c, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        if how == "list":
            self.plain = [nn.Conv2d(c, c, 1), self.conv]
        if how == "closure":
            kept = self.conv
            self.run = lambda x: kept(x)
        if how == "bound":
            self.run = self.conv.forward
        if how == "called":
            self.run = self.conv.__call__
        if how == "alias":
            self.again = self.conv
        if how == "early":
            self.block = nn.Sequential(self.act, self.conv)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "list":
            for part in self.plain:
                x = part(x)
            return self.act(x)
        if self.how in ("closure", "bound", "called"):
            return self.act(self.run(x) + x)
        if self.how == "alias":
            return self.act(self.again(self.conv(x)))
        return self.block(x)


@on_maps
def hidden_modules(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    how = rng.choice(["list", "closure", "bound", "called"])
    return Step(_Hidden(c, how), m, {"act": m} | ({} if how == "bound" else {"conv": m}))


@on_maps
def second_names(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    how = rng.choice(["alias", "early"])
    return Step(_Hidden(c, how), m, {"act": m, "conv": m})


def _halve(_part: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    return output * 0.5 + 0.1


@on_maps
def hooked_by_its_owner(m: Meaning, rng: Random, c: int, h: int, w: int) -> Step:
    layer = nn.Conv2d(c, c, 3, padding=1)
    layer.register_forward_hook(_halve)
    layer.register_forward_pre_hook(lambda _part, inputs: (inputs[0] + 0.2,))
    return Step(layer, m)
