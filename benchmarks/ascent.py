"""What one ascent step costs beside the bare forward to the layer and backward to the image.

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
STEPS = 8  # of a peer at once: it takes no fewer than a whole call


class _Reached(Exception):
    """The bare pass has come to its layer."""


def bare(model: Model, layer: str, channels: list[int], size: int) -> Run:
    """A hand-written loop's least: a picture for each channel of ``layer``, weights frozen."""
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
    """Two steps of ours, everything in them; every other one is blurred."""
    wanted = [channel(layer, k) for k in channels]
    units = [RenderTarget(one, one.bind(model), 0, 1) for one in wanted]
    plan = OptimizationPlan((size, size), 10_000, Fourier(), Transforms())
    device = next(model.module.parameters()).device
    climb = Optimization(Normalizer(model), units, plan, device)
    adam, step = Adam(climb._state.detach(), plan.rate), iter(range(48, 10_000))
    return lambda: (climb._step(next(step), adam), climb._step(next(step), adam))


def live(model: Model, layer: str, size: int) -> list[int]:
    """The channels that noise switches on: the others are helped at first, which costs more."""
    noise = torch.rand(1, model.input.channels, size, size)
    maps = model.activations(noise, [layer])[layer]
    return [int(k) for k in maps[0].flatten(1).amax(1).sort(descending=True).indices]


def lucents(module: Any, side: int = SIZE) -> Run:
    """``STEPS`` steps with its own moves; what it hooks stays hooked, so each call has a copy."""
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
    """``STEPS`` steps at our size, with the six crops of its default."""
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
    """A step of one picture; seconds for ``STEPS`` of them."""
    warnings.simplefilter("ignore")
    model = loaded(setting.device)
    two = ours(model, LAYER, live(model, LAYER, SIZE)[:1], SIZE)
    module = copy.deepcopy(model.module)
    make, remark = {
        "lucent": (partial(lucents, module), "its own moves; does not stop at the layer"),
        "horama": (partial(horamas, module, setting.device), "six crops a step, its default"),
    }[peer]
    work = f"{STEPS} steps of ascent, SqueezeNet {LAYER}, {SIZE}²"

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
        pictures = "one picture" if count == 1 else f"{count} at once"
        work = f"a step of ascent to SqueezeNet's {LAYER}, {SIZE}², {pictures}"
        yield Budget(work, step / bare, 1.15, "× bare")
    vgg = loaded(setting.device, "torchvision:vgg16,weights=none")
    bare, _, step = medians(vgg, "features.21", 1, 112, setting).values()
    yield Budget("… to VGG16's features.21, 112², one picture", step / bare, 1.15, "× bare")


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
