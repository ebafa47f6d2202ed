"""What one ascent step costs beside the bare forward to the layer and backward to the image.

python benchmarks/ascent.py [--model torchvision:squeezenet1_1] [--layer features.10] [--size 224]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from timing import compare, table
from torch import Tensor

import convscope as cs
from convscope.ascent.climb import Adam, Climb, Plan, Unit
from convscope.ascent.lens import Lens
from convscope.ascent.params import Fourier
from convscope.ascent.transforms import Transforms
from convscope.ascent.wanted import channel
from convscope.models import Model


class _Reached(Exception):
    """The bare pass has come to its layer."""


def bare(model: Model, layer: str, count: int, size: int) -> Callable[[], object]:
    """A hand-written loop's least: the first ``count`` channels of ``layer``, weights frozen."""
    module = model.module.eval().requires_grad_(False)  # type: ignore[attr-defined]
    part = dict(module.named_modules())[layer]
    values = torch.rand(count, model.input.channels, size, size, requires_grad=True)
    wanted = torch.arange(count)
    found: list[Tensor] = []

    def reach(_module: object, _inputs: object, output: Tensor) -> None:
        found[:] = [output]
        raise _Reached

    def run() -> object:
        hook = part.register_forward_hook(reach)
        try:
            module(values)
        except _Reached:
            pass
        finally:
            hook.remove()
        scores = found[0][wanted, wanted].flatten(1).mean(1)
        return torch.autograd.grad(scores.sum(), values)

    return run


def ours(model: Model, layer: str, count: int, size: int) -> Callable[[], object]:
    """One step of ours, everything in it; every other one is blurred."""
    wanted = [channel(layer, k) for k in range(count)]
    units = [Unit(one, one.bind(model), 0, 1) for one in wanted]
    plan = Plan((size, size), 10_000, Fourier(), Transforms())
    climb = Climb(Lens(model), units, plan, torch.device("cpu"))
    adam, step = Adam(climb._state.detach(), plan.rate), iter(range(48, 10_000))
    return lambda: (climb._step(next(step), adam), climb._step(next(step), adam))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="torchvision:squeezenet1_1,weights=none")
    parser.add_argument("--layer", default="features.10")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = cs.load(options.model)
    print(torch.__version__)
    for count in options.batches:
        plain = bare(model, options.layer, count, options.size)
        with model.at_rest():
            medians = compare(
                {
                    "bare forward and backward": plain,
                    "the same again (the noise)": plain,
                    "convscope, a step (of two)": ours(model, options.layer, count, options.size),
                },
                options.rounds,
            )
        medians["convscope, a step (of two)"] /= 2
        title = f"{options.model} {options.layer}, {options.size}², {count} at once, one thread"
        table(title, medians, "bare forward and backward")
    print("  budget × 1.15")


if __name__ == "__main__":
    main()
