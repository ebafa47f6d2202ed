"""Receptive fields of random small graphs, against what really depends on what."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from receptive_dependence import SIZE, as_model, assert_exact, depends_on
from torch import Tensor, nn
from torch.nn import functional as F

small = st.integers(1, 3)
pair = st.tuples(small, small)
pads = st.tuples(*[st.integers(-1, 3)] * 4)
STEPS = st.one_of(
    st.tuples(st.just("conv"), pair, pair, st.integers(0, 2), small, st.booleans()),
    st.tuples(st.just("deconv"), pair, pair, st.integers(0, 1), small),
    st.tuples(st.sampled_from(["max", "average"]), pair, pair, st.booleans()),
    st.tuples(st.just("adaptive"), st.tuples(st.integers(1, 9), st.integers(1, 9))),
    st.tuples(st.just("pad"), st.sampled_from(["constant", "reflect", "replicate"]), pads),
    st.tuples(st.just("nearest"), st.tuples(st.integers(2, 15), st.integers(2, 15))),
    st.tuples(st.just("roll"), st.integers(-4, 4), st.sampled_from([2, 3])),
    st.tuples(st.just("flip"), st.sampled_from([1, 2, 3])),
    st.tuples(st.just("slice"), st.integers(0, 2), small, st.sampled_from([2, 3])),
    st.tuples(st.just("windows"), pair),
    st.tuples(st.sampled_from(["turn", "shuffle", "unshuffle", "pool rows", "write"])),
    st.tuples(st.sampled_from(["add", "cat", "gate"]), st.integers(0, 5)),
)


class Graph(nn.Module):
    """Steps one after another; some look back at an earlier result of a size that fits."""

    def __init__(self, steps: list[tuple]) -> None:
        super().__init__()
        self.steps = steps
        self.parts = nn.ModuleDict()
        x, earlier = torch.rand(2, 2, *SIZE), []
        self.taken = []
        for k, step in enumerate(steps):
            try:
                self._prepare(str(k), step, x.shape[1])
                result = self._step(str(k), step, x, earlier)
                assert 0 < result[0].numel() < 4000
            except (RuntimeError, AssertionError):
                continue  # does not fit here
            self.taken.append((str(k), step))
            earlier.append(x)
            x = result

    def _prepare(self, name: str, step: tuple, channels: int) -> None:
        if step[0] == "conv":
            _, kernel, stride, padding, dilation, grouped = step
            groups = 1 + (grouped and channels % 2 == 0)
            self.parts[name] = nn.Conv2d(channels, 4, kernel, stride, padding, dilation, groups)
        if step[0] == "deconv":
            _, kernel, stride, padding, dilation = step
            self.parts[name] = nn.ConvTranspose2d(
                channels, 2, kernel, stride, padding, dilation=dilation
            )

    def forward(self, x: Tensor) -> Tensor:
        earlier: list[Tensor] = []
        for name, step in self.taken:
            result = self._step(name, step, x, earlier)
            earlier.append(x)
            x = result
        return x

    def _step(self, name: str, step: tuple, x: Tensor, earlier: list[Tensor]) -> Tensor:
        n, c, h, w = x.shape
        match step:
            case ("conv" | "deconv", *_):
                return self.parts[name](x)
            case ("max", kernel, stride, ceil):
                return F.max_pool2d(x, kernel, stride, ceil_mode=ceil)
            case ("average", kernel, stride, ceil):
                return F.avg_pool2d(x, kernel, stride, 0, ceil, False)
            case ("adaptive", size):
                return F.adaptive_avg_pool2d(x, size)
            case ("pad", mode, amounts):
                return F.pad(x, amounts, mode=mode)
            case ("nearest", size):
                return F.interpolate(x, size=size)
            case ("roll", shift, dim):
                return x.roll(shift, dim)
            case ("flip", dim):
                return x.flip(dim)
            case ("slice", start, stride, dim):
                at = [slice(None)] * 4
                at[dim] = slice(start, None, stride)
                return x[tuple(at)]
            case ("windows", (wy, wx)):  # each position takes the mean of its window, doubled
                y = x.view(n, c, h // wy, wy, w // wx, wx).permute(0, 2, 4, 3, 5, 1)
                y = y.reshape(-1, wy * wx, c)
                y = y * y.mean(1, keepdim=True).softmax(-1)
                y = y.view(n, h // wy, w // wx, wy, wx, c).permute(0, 5, 1, 3, 2, 4)
                return y.reshape(n, c, h, w)
            case ("turn",):
                return x.transpose(2, 3)
            case ("shuffle",):
                return F.pixel_shuffle(x, 2)
            case ("unshuffle",):
                return F.pixel_unshuffle(x, 2)
            case ("pool rows",):
                return x * x.amax(2, keepdim=True)
            case ("write",):
                y = x.clone()
                y[:, :, 1:] += x[:, :, :-1]
                y.view(n, c, -1)[:, 0, 3:5] = 0
                return y
            case (how, back):
                others = [o for o in earlier if how == "gate" or o.shape[2:] == x.shape[2:]]
                other = others[back % len(others)] if others else x
                if how == "cat":
                    return torch.cat([other, x], 1)
                if how == "add":
                    return x[:, :1] + other
                return x * other.mean((1, 2, 3), keepdim=True)
        raise AssertionError(step)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=2, max_size=7))
def test_exact_on_random_graphs(steps: list[tuple]) -> None:
    model = as_model(lambda: Graph(steps))
    fields = model.receptive_fields(SIZE)
    assume(fields)
    assert_exact(fields, depends_on(model, fields))
