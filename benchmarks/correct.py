"""Does each tool give the right answer? Small networks, independent references.

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
INPLACE = "the convolution before an in-place ReLU"
EXEMPLARS = "the 9 images that raise each of 608 channels most, of 128"
OBLONG = "ascent at 96×160: what the network is shown"
ONE = "ascent for a network of one channel, 28×28"
LEFT = "the network afterwards: hooks, gradients, mode, in-place flags"


@dataclass(frozen=True)
class Answer:
    """``right`` is ``None`` where the tool has no such function."""

    question: str
    tool: str
    right: bool | None
    said: str


def small(channels: int = 3) -> nn.Module:
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


# The output of a convolution, by each tool


def by_lucent(network: nn.Module, images: Tensor) -> Tensor:
    reach("lucent")
    from lucent.optvis.render import hook_model

    read = hook_model(network, lambda: images)
    network(images)
    return read("0")


def capture(tool: str, network: nn.Module, images: Tensor) -> Tensor:
    if tool == "convscope":
        return cs.load(network, input=tuple(images.shape[1:])).activations(images, ["0", "2"])["0"]
    if tool == "lucent":
        return by_lucent(network, images)
    reach(tool)
    if tool == "torchvision":
        from torchvision.models.feature_extraction import create_feature_extractor

        return create_feature_extractor(network, ["0", "2"])(images)["0"]
    if tool == "captum":
        from captum.attr import LayerActivation

        return LayerActivation(network, [network[0], network[2]]).attribute(images)[0]  # type: ignore[index]
    import torchlens

    return next(iter(torchlens.extract(network, images, ["0", "2"]).values()))


def in_place(tool: str) -> Answer:
    network, images = small(), torch.rand(2, 3, 32, 32)
    truth = network[0](images).detach()  # type: ignore[index]
    found = capture(tool, network, images).detach()
    right = bool(torch.allclose(found, truth, atol=1e-5))
    return Answer(INPLACE, tool, right, f"lowest value {found.min():.2f}, truly {truth.min():.2f}")


def left(tool: str) -> Answer:
    network, images = small(), torch.rand(2, 3, 32, 32)
    state = found_as(network)
    ascend(tool, network, (32, 32)) if tool in CLIMBERS else capture(tool, network, images)
    now = found_as(network)
    changed = [
        f"{name} {now[name]} (before {state[name]})" for name in now if now[name] != state[name]
    ]
    return Answer(LEFT, tool, not changed, "; ".join(changed) or "as it was found")


def found_as(network: nn.Module) -> dict[str, int]:
    parts = list(network.modules())
    return {
        "hooks": sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in parts),
        "gradients": sum(p.grad is not None for p in network.parameters()),
        "trainable": sum(p.requires_grad for p in network.parameters()),
        "in training mode": sum(m.training for m in parts),
        "in-place": sum(getattr(m, "inplace", False) for m in parts),
    }


# Ascent: what the network is shown

CLIMBERS = ("convscope", "lucent", "horama")


def ascend(tool: str, network: nn.Module, size: tuple[int, int], channels: int = 3) -> None:
    """Two steps as the tool's documentation has them."""
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


def shown(network: nn.Module, run: Callable[[], None]) -> set[tuple[int, ...]]:
    sizes: set[tuple[int, ...]] = set()
    hook = network.register_forward_pre_hook(lambda _m, images: sizes.add(images[0].shape[1:]))
    part = network[0].register_forward_pre_hook(lambda _m, i: sizes.add(i[0].shape[1:]))  # type: ignore[index]
    with hook, part:
        run()
    return {tuple(size) for size in sizes}


def oblong(tool: str) -> Answer:
    network = small()
    sizes = shown(network, lambda: ascend(tool, network, (96, 160)))
    # The first steps of ours are at a smaller size of the same shape, and are said to be.
    said = ", ".join("×".join(map(str, size)) for size in sorted(sizes))
    right = (3, 96, 160) in sizes and all(0.55 < size[1] / size[2] < 0.65 for size in sizes)
    return Answer(OBLONG, tool, right, said)


def one_channel(tool: str) -> Answer:
    network = small(1)
    sizes = shown(network, lambda: ascend(tool, network, (28, 28), channels=1))
    said = ", ".join("×".join(map(str, size)) for size in sorted(sizes))
    return Answer(ONE, tool, (1, 28, 28) in sizes, said)


# Dataset examples


def exemplars(tool: str) -> Answer:
    draw = torch.Generator().manual_seed(3)
    pictures = torch.randint(0, 256, (128, 64, 64, 3), dtype=torch.uint8, generator=draw)
    network, images = toy(), pictures.permute(0, 3, 1, 2).float() / 255
    truth = RANKERS["by hand"][0].prepare(network, images)()
    if tool == "convscope":
        found = scanned(network, pictures)
    else:
        found = RANKERS[tool][0].prepare(network, images)()
    same = torch.cat([(found[path] == truth[path]).flatten() for path in truth])  # type: ignore[index,call-overload]
    share = float(same.float().mean())
    return Answer(EXEMPLARS, tool, share == 1, f"{share:.1%} of the places")


def scanned(network: nn.Module, pictures: Tensor) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        model = cs.load(network, preprocess=cs.Preprocess(size=(64, 64)))
        atlas = cs.scan(model, list(pictures.numpy()), f"{folder}/atlas", "kind=conv", batch=64)
        return {
            path: torch.tensor(
                [[one.image for one in atlas[f"{path}:{k}"].top(by="peak")] for k in range(width)]
            )
            for path, width in ((p, m.out_channels) for p, m in convolutions(network).items())
        }


QUESTIONS: dict[Callable[[str], Answer], tuple[str, tuple[str, ...]]] = {
    in_place: (INPLACE, ("convscope", "torchvision", "captum", "TorchLens", "lucent")),
    exemplars: (EXEMPLARS, ("convscope", "semanticlens", "zennit-crp")),
    oblong: (OBLONG, CLIMBERS),
    one_channel: (ONE, CLIMBERS),
    left: (LEFT, ("convscope", "captum", "TorchLens", "lucent")),
}


def answers(tool: str) -> Iterator[Answer]:
    """What one tool says; what raises is an answer too."""
    warnings.simplefilter("ignore")
    for ask, (question, tools) in QUESTIONS.items():
        if tool not in tools:
            continue
        quiet = io.StringIO()
        try:
            with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
                answer = ask(tool)
        except Exception as error:  # whatever a tool does not bear
            answer = Answer(question, tool, False, one_line(error))
        yield answer


if __name__ == "__main__":
    for tool in TOOLS:
        for answer in answers(tool):
            print(answer)
