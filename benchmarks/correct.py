"""Does each tool compute the right result? Small networks, independent references.

python benchmarks/correct.py
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from peers import reach
from rankers import RANKERS, convolutions
from timing import one_line
from torch import Tensor, nn

import convscope as cs
from scan import toy

TOOLS = (
    "convscope",
    "torchvision",
    "captum",
    "TorchLens",
    "lucent",
    "horama",
    "semanticlens",
    "zennit-crp",
)
INPLACE = "activations of a convolution before an in-place ReLU"
EXEMPLARS = "top 9 of 128 images for each of 608 channels"
OBLONG = "activation maximization at 96×160: shapes of the network's input"
ONE_CHANNEL = "activation maximization for a network of one input channel, 28×28"
STATE = "state of the network afterwards: hooks, gradients, mode, in-place flags"


@dataclass(frozen=True)
class Check:
    """The result of one task by one tool; ``result`` says what was found."""

    task: str
    tool: str
    correct: bool
    result: str


def small_network(channels: int = 3) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    ).eval()


# The activations of a convolution


def lucent_activations(network: nn.Module, images: Tensor) -> Tensor:
    reach("lucent")
    from lucent.optvis.render import hook_model

    activations_of = hook_model(network, lambda: images)
    network(images)
    return activations_of("0")


def activations(tool: str, network: nn.Module, images: Tensor) -> Tensor:
    """Of the first convolution, as the tool's documentation has it."""
    if tool == "convscope":
        return cs.load(network, input=tuple(images.shape[1:])).activations(images, ["0", "2"])["0"]
    if tool == "lucent":
        return lucent_activations(network, images)
    reach(tool)
    if tool == "torchvision":
        from torchvision.models.feature_extraction import create_feature_extractor

        return create_feature_extractor(network, ["0", "2"])(images)["0"]
    if tool == "captum":
        from captum.attr import LayerActivation

        return LayerActivation(network, [network[0], network[2]]).attribute(images)[0]  # type: ignore[index]
    import torchlens

    return next(iter(torchlens.extract(network, images, ["0", "2"]).values()))


def check_inplace(tool: str) -> Check:
    network, images = small_network(), torch.rand(2, 3, 32, 32)
    truth = network[0](images).detach()  # type: ignore[index]
    found = activations(tool, network, images).detach()
    correct = bool(torch.allclose(found, truth, atol=1e-5))
    return Check(INPLACE, tool, correct, f"minimum {found.min():.2f}, truth {truth.min():.2f}")


def check_state(tool: str) -> Check:
    network, images = small_network(), torch.rand(2, 3, 32, 32)
    before = state_of(network)
    if tool in MAXIMIZERS:
        maximize(tool, network, (32, 32))
    else:
        activations(tool, network, images)
    after = state_of(network)
    changed = [
        f"{name} {after[name]} (before {before[name]})"
        for name in after
        if after[name] != before[name]
    ]
    return Check(STATE, tool, not changed, "; ".join(changed) or "unchanged")


def state_of(network: nn.Module) -> dict[str, int]:
    modules = list(network.modules())
    return {
        "hooks": sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules),
        "gradients": sum(p.grad is not None for p in network.parameters()),
        "trainable": sum(p.requires_grad for p in network.parameters()),
        "in training mode": sum(m.training for m in modules),
        "in-place": sum(getattr(m, "inplace", False) for m in modules),
    }


# Activation maximization: the shapes of the network's input

MAXIMIZERS = ("convscope", "lucent", "horama")


def maximize(tool: str, network: nn.Module, size: tuple[int, int], channels: int = 3) -> None:
    """Two steps, as the tool's documentation has them."""
    if tool == "convscope":
        model = cs.load(network, input=(channels, *size), preprocess=cs.Preprocess(size=size))
        cs.maximize(model, "2:0", steps=2, size=size)
        return
    reach(tool)
    if tool == "lucent":
        from lucent.optvis import param, render

        given = {"channels": channels} if channels != 3 else {}
        image = lambda: param.image(size[1], size[0], **given)  # noqa: E731
        render.render_vis(network, "2:0", image, thresholds=(2,), show_image=False, progress=False)
        return
    import horama

    side = size[0] if size[0] == size[1] else size  # it is documented for squares
    horama.fourier(
        lambda images: network(images)[:, 0].mean(),
        total_steps=2,
        image_size=side,
        model_input_size=side,
        device="cpu",
    )


def input_shapes(network: nn.Module, run: Callable[[], None]) -> set[tuple[int, ...]]:
    """The shapes ``(C, H, W)`` that the network, or its first layer, is called with."""
    shapes: set[tuple[int, ...]] = set()
    hooks = [
        module.register_forward_pre_hook(lambda _m, images: shapes.add(tuple(images[0].shape[1:])))
        for module in (network, network[0])  # type: ignore[index]
    ]
    with hooks[0], hooks[1]:
        run()
    return shapes


def in_words(shapes: set[tuple[int, ...]]) -> str:
    return ", ".join("×".join(map(str, shape)) for shape in sorted(shapes))


def check_oblong(tool: str) -> Check:
    network = small_network()
    shapes = input_shapes(network, lambda: maximize(tool, network, (96, 160)))
    # convscope's first steps are at a smaller size of the same aspect ratio, and are documented.
    same_ratio = all(0.55 < shape[1] / shape[2] < 0.65 for shape in shapes)
    return Check(OBLONG, tool, (3, 96, 160) in shapes and same_ratio, in_words(shapes))


def check_one_channel(tool: str) -> Check:
    network = small_network(1)
    shapes = input_shapes(network, lambda: maximize(tool, network, (28, 28), channels=1))
    return Check(ONE_CHANNEL, tool, (1, 28, 28) in shapes, in_words(shapes))


# Exemplars


def check_exemplars(tool: str) -> Check:
    draw = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (128, 64, 64, 3), dtype=torch.uint8, generator=draw)
    network, images = toy(), pixels.permute(0, 3, 1, 2).float() / 255
    truth = RANKERS["by hand"][0].prepare(network, images)()
    if tool == "convscope":
        found = scan_exemplars(network, pixels)
    else:
        found = RANKERS[tool][0].prepare(network, images)()
    same = torch.cat([(found[path] == truth[path]).flatten() for path in truth])  # type: ignore[index,call-overload]
    share = float(same.float().mean())
    return Check(EXEMPLARS, tool, share == 1, f"{share:.1%} agree")


def scan_exemplars(network: nn.Module, pixels: Tensor) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        model = cs.load(network, preprocess=cs.Preprocess(size=(64, 64)))
        atlas = cs.scan(model, list(pixels.numpy()), f"{folder}/atlas", "kind=conv", batch=64)
        return {
            path: torch.tensor(
                [[one.image for one in atlas[f"{path}:{k}"].top(by="peak")] for k in range(width)]
            )
            for path, width in ((p, m.out_channels) for p, m in convolutions(network).items())
        }


TASKS: dict[Callable[[str], Check], tuple[str, tuple[str, ...]]] = {
    check_inplace: (INPLACE, ("convscope", "torchvision", "captum", "TorchLens", "lucent")),
    check_exemplars: (EXEMPLARS, ("convscope", "semanticlens", "zennit-crp")),
    check_oblong: (OBLONG, MAXIMIZERS),
    check_one_channel: (ONE_CHANNEL, MAXIMIZERS),
    check_state: (STATE, ("convscope", "captum", "TorchLens", "lucent")),
}


def checks(tool: str) -> Iterator[Check]:
    """All tasks that a tool has a function for; an exception is a result too."""
    warnings.simplefilter("ignore")
    for check, (task, tools) in TASKS.items():
        if tool not in tools:
            continue
        quiet = io.StringIO()
        try:
            with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
                result = check(tool)
        except Exception as error:  # whatever a tool raises
            result = Check(task, tool, False, one_line(error))
        yield result


if __name__ == "__main__":
    for tool in TOOLS:
        for check in checks(tool):
            print(check)
