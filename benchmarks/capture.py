"""What capturing costs beside the bare forward pass of VGG16 at 224² (random weights).

python benchmarks/capture.py [--batch 2]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import torch
from timing import compare, table
from torch import Tensor, nn

import convscope as cs

BLOCK3 = {"features.10": "first", "features.14": "last"}  # convolutions of the third block


def vgg16() -> nn.Module:
    """VGG16's convolutions and classifier, with the in-place ReLUs of torchvision's."""
    layers: list[nn.Module] = []
    width = 3
    for wanted in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if wanted:
            layers += [nn.Conv2d(width, wanted, 3, padding=1), nn.ReLU(inplace=True)]
            width = wanted
        else:
            layers.append(nn.MaxPool2d(2))
    classifier = nn.Sequential(
        nn.Linear(512 * 7 * 7, 4096), nn.ReLU(True), nn.Linear(4096, 4096), nn.ReLU(True),
        nn.Linear(4096, 1000),
    )  # fmt: skip
    whole = nn.Sequential()
    whole.add_module("features", nn.Sequential(*layers))
    whole.add_module("flatten", nn.Flatten())
    whole.add_module("classifier", classifier)
    return whole.eval().requires_grad_(False)


def multiplications(module: nn.Module, images: Tensor) -> dict[str, int]:
    """Multiply-adds of each convolution and linear layer, by path, in order."""
    found: dict[str, int] = {}

    def count(path: str) -> Callable[..., None]:
        def hook(layer: nn.Module, _inputs: object, output: Tensor) -> None:
            found[path] = layer.weight[0].numel() * output.numel()  # type: ignore[union-attr,operator]

        return hook

    hooks = [
        part.register_forward_hook(count(path))
        for path, part in module.named_modules()
        if isinstance(part, (nn.Conv2d, nn.Linear))
    ]
    module(images)
    for hook in hooks:
        hook.remove()
    return found


def hooked(module: nn.Module, images: Tensor, clone: bool) -> Callable[[], object]:
    """What people write: a hook on every convolution; without the clone it records a lie."""

    def run() -> object:
        maps: dict[str, Tensor] = {}

        def keep(path: str) -> Callable[..., None]:
            return lambda _m, _i, o: maps.__setitem__(path, o.clone() if clone else o)

        hooks = [
            part.register_forward_hook(keep(path))
            for path, part in module.named_modules()
            if isinstance(part, nn.Conv2d)
        ]
        with torch.no_grad():
            module(images)
        for hook in hooks:
            hook.remove()
        return maps

    return run


def peers(
    module: nn.Module, images: Tensor, paths: Sequence[str], layers: str
) -> dict[str, Callable[[], object]]:
    """The same layers by the libraries that are installed; the others are named."""
    found: dict[str, Callable[[], object]] = {}
    try:
        from torchvision.models.feature_extraction import create_feature_extractor

        extractor = create_feature_extractor(module, list(paths))
        found[f"torchvision's extractor (overwritten), {layers}"] = partial(
            _quietly, extractor, images
        )
    except ImportError as error:
        print(f"not measured: torchvision ({error})")
    try:
        import torchlens

        found[f"TorchLens extract, {layers}"] = partial(
            _quietly, torchlens.extract, module, images, list(paths)
        )
    except ImportError as error:
        print(f"not measured: TorchLens ({error})")
    return found


def _quietly(run: Callable[..., object], *arguments: object) -> object:
    with torch.no_grad():
        return run(*arguments)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    module, images = vgg16(), torch.rand(options.batch, 3, 224, 224)
    model = cs.load(module, preprocess=cs.Preprocess(size=(224, 224)))
    convolutions = [layer.path for layer in model.layers.select("kind=conv")]
    early = {path: convolutions[: convolutions.index(path) + 1] for path in BLOCK3}

    def bare() -> Tensor:
        with torch.no_grad():
            return module(images)  # type: ignore[no-any-return]

    medians = compare(
        {
            "bare forward": bare,
            "bare forward again (the noise)": bare,
            "convscope, all 13 convolutions": lambda: model.activations(images, convolutions),
            "plain hooks (overwritten by the ReLUs)": hooked(module, images, clone=False),
            "plain hooks with a clone": hooked(module, images, clone=True),
            **{
                f"convscope, block 3's {which}": partial(model.activations, images, early[path])
                for path, which in BLOCK3.items()
            },
            **peers(module, images, convolutions, "all convolutions"),
            **peers(module, images, early["features.10"], "block 3's first"),
        },
        options.rounds,
    )
    table(f"VGG16 at 224², batch {options.batch}, one thread", medians, "bare forward")
    with torch.no_grad():
        work = multiplications(module, images)
    print("  budgets: all ≤ × 1.05; up to a layer ≤ its share of the work + .05:")
    for path, which in BLOCK3.items():
        share = sum(work[layer] for layer in early[path]) / sum(work.values())
        print(f"    block 3's {which} convolution {share + 0.05:.3f}")


if __name__ == "__main__":
    main()
