"""Cost of an optimization step, relative to the bare forward and backward pass of its layer.

python benchmarks/ascent.py [--model torchvision:squeezenet1_1] [--layer features.10] [--size 224]
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from peers import reach
from timing import Budget, Pair, Run, Setting, beside, compare, table
from torch import Tensor

import convscope as cs
from convscope._models import Model
from convscope._optvis.objectives import channel
from convscope._optvis.optimizer import Adam, Optimization, OptimizationPlan, RenderTarget
from convscope._optvis.params import Fourier
from convscope._optvis.transforms import Normalizer, Transforms

PEERS = ("lucent", "horama")
NETWORK, LAYER, SIZE = "torchvision:squeezenet1_1,weights=none", "features.10", 224
STEPS = 8  # in one call: peers cannot run a single step


class _Reached(Exception):
    """The bare pass has reached its layer."""


def bare(model: Model, layer: str, channels: list[int], size: int) -> Run:
    """The least that a hand-written loop does: an image per channel, frozen weights."""
    module = model.module.eval().requires_grad_(False)
    part = dict(module.named_modules())[layer]
    device = next(module.parameters()).device
    shape = len(channels), model.input.channels, size, size
    values = torch.rand(shape, device=device, requires_grad=True)
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
        scores = found[0][torch.arange(len(channels)), channels].flatten(1).mean(1)
        return torch.autograd.grad(scores.sum(), values)

    return run


def ours(model: Model, layer: str, channels: list[int], size: int) -> Run:
    """Two complete steps of convscope; every other one blurs the gradient."""
    objectives = [channel(layer, k) for k in channels]
    units = [RenderTarget(one, one.bind(model), 0, 1) for one in objectives]
    plan = OptimizationPlan((size, size), 10_000, Fourier(), Transforms())
    device = next(model.module.parameters()).device
    optimization = Optimization(Normalizer(model), units, plan, device)
    adam, step = Adam(optimization._state.detach(), plan.learning_rate), iter(range(48, 10_000))
    return lambda: [optimization._step(next(step), adam) for _ in range(2)]


def live(model: Model, layer: str, size: int) -> list[int]:
    """The channels that are active on noise; others need a different gradient at first."""
    noise = torch.rand(1, model.input.channels, size, size)
    maps = model.activations(noise, [layer])[layer]
    return [int(k) for k in maps[0].flatten(1).amax(1).sort(descending=True).indices]


def lucents(module: Any, side: int = SIZE) -> Run:
    """``STEPS`` steps with its own transforms, on a copy, because it leaves its hooks behind."""
    reach("lucent")
    from lucent.optvis import param, render

    def run() -> object:
        return render.render_vis(
            copy.deepcopy(module),
            f"{LAYER.replace('.', '_')}:0",
            lambda: param.image(side),
            thresholds=(STEPS,),
            show_image=False,
            progress=False,
        )

    return run


def horamas(module: Any, device: str) -> Run:
    """``STEPS`` steps at the same size, with its default of six crops."""
    horama = reach("horama")
    found: list[Tensor] = []
    dict(module.named_modules())[LAYER].register_forward_hook(lambda _m, _i, o: found.append(o))

    def objective(images: Tensor) -> Tensor:
        found.clear()
        module(images)
        return found[0][:, 0].mean()

    def run() -> object:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            return horama.fourier(
                objective, total_steps=STEPS, image_size=SIZE, model_input_size=SIZE, device=device
            )

    return run


def loaded(device: str, spec: str = NETWORK) -> Model:
    torch.manual_seed(0)
    model = cs.load(spec)
    model.module.to(device)
    return model


def pairs(peer: str, setting: Setting) -> list[Pair]:
    """Seconds of ``STEPS`` optimization steps of one image."""
    warnings.simplefilter("ignore")
    model = loaded(setting.device)
    two = ours(model, LAYER, live(model, LAYER, SIZE)[:1], SIZE)
    module = copy.deepcopy(model.module)
    make, remark = {
        "lucent": (partial(lucents, module), "its own transforms; does not stop at the layer"),
        "horama": (partial(horamas, module, setting.device), "six crops per step, its default"),
    }[peer]
    work = f"{STEPS} optimization steps, SqueezeNet {LAYER}, {SIZE}²"

    def steps() -> None:
        with model.eval_frozen():
            for _ in range(STEPS // 2):
                two()

    return [beside(work, peer, setting, {"ours": steps}, make, remark)]


def medians(model: Model, layer: str, count: int, size: int, setting: Setting) -> dict[str, float]:
    channels = live(model, layer, size)[:count]
    plain = bare(model, layer, channels, size)
    with model.eval_frozen():
        found = compare(
            {
                "bare forward and backward": plain,
                "the same again (the noise)": plain,
                "convscope, a step (of two)": ours(model, layer, channels, size),
            },
            setting.rounds,
            setting.device,
        )
    found["convscope, a step (of two)"] /= 2
    return found


def budgets(setting: Setting) -> Iterator[Budget]:
    model = loaded(setting.device)
    for count in (1, 4):
        bare, _, step = medians(model, LAYER, count, SIZE, setting).values()
        images = "one image" if count == 1 else f"{count} images"
        work = f"an optimization step, SqueezeNet's {LAYER}, {SIZE}², {images}"
        yield Budget(work, step / bare, 1.15, "× bare")
    vgg = loaded(setting.device, "torchvision:vgg16,weights=none")
    bare, _, step = medians(vgg, "features.21", 1, 112, setting).values()
    yield Budget("… VGG16's features.21, 112², one image", step / bare, 1.15, "× bare")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default=NETWORK)
    parser.add_argument("--layer", default=LAYER)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = loaded("cpu", options.model)
    print(torch.__version__)
    for count in options.batches:
        found = medians(model, options.layer, count, options.size, Setting(options.rounds))
        title = f"{options.model} {options.layer}, {options.size}², {count} at once, one thread"
        table(title, found, "bare forward and backward")
    print("  budget × 1.15")


if __name__ == "__main__":
    main()
