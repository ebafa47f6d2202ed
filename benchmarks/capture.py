"""The cost of recording activations against the bare forward pass of VGG16 at 224²: random weights.

python benchmarks/capture.py [--batch 2] [--device cpu]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from peers import reach
from timing import Budget, Pair, Run, Setting, beside, compare, table
from torch import Tensor, nn

import convscope as cs

BLOCK3 = {"features.10": "first", "features.14": "last"}  # convolutions of the third block
PEERS = ("hooks by hand", "torchvision", "captum", "TorchLens")
OVERWRITTEN = "what it returns was overwritten by the in-place ReLUs"
WHOLE = "runs the whole network"


def vgg16() -> nn.Module:
    """VGG16's convolutions and classifier, with the in-place ReLUs of torchvision's."""
    layers: list[nn.Module] = []
    width = 3
    for channels in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if channels:
            layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU(inplace=True)]
            width = channels
        else:
            layers.append(nn.MaxPool2d(2))
    classifier = nn.Sequential(
        nn.Linear(512 * 7 * 7, 4096),
        nn.ReLU(True),
        nn.Linear(4096, 4096),
        nn.ReLU(True),
        nn.Linear(4096, 1000),
    )
    whole = nn.Sequential()
    whole.add_module("features", nn.Sequential(*layers))
    whole.add_module("flatten", nn.Flatten())
    whole.add_module("classifier", classifier)
    return whole.eval().requires_grad_(False)


def multiplications(module: nn.Module, images: Tensor) -> dict[str, int]:
    """Multiply-adds of each convolution and linear layer, by path, in order."""
    counts: dict[str, int] = {}

    def count(path: str) -> Callable[..., None]:
        def hook(layer: nn.Module, _inputs: object, output: Tensor) -> None:
            counts[path] = layer.weight[0].numel() * output.numel()  # type: ignore[union-attr,operator]

        return hook

    hooks = [
        part.register_forward_hook(count(path))
        for path, part in module.named_modules()
        if isinstance(part, (nn.Conv2d, nn.Linear))
    ]
    module(images)
    for hook in hooks:
        hook.remove()
    return counts


def hooked(module: nn.Module, images: Tensor, clone: bool) -> Callable[[], object]:
    """Hand-written hooks on every convolution; without ``clone`` their records are overwritten."""

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


@dataclass
class Bench:
    """The network, its images, and which convolutions to record."""

    module: nn.Module
    images: Tensor
    model: cs.Model
    paths: list[str]

    @classmethod
    def create(cls, batch: int, device: str) -> Bench:
        module, images = vgg16().to(device), torch.rand(batch, 3, 224, 224, device=device)
        model = cs.load(module, preprocess=cs.Preprocess(size=(224, 224)))
        return cls(module, images, model, [one.path for one in model.layers.select("kind=conv")])

    def until(self, path: str) -> list[str]:
        return self.paths[: self.paths.index(path) + 1]

    def bare(self) -> Tensor:
        with torch.no_grad():
            return self.module(self.images)  # type: ignore[no-any-return]

    def ours(self, paths: Sequence[str]) -> Run:
        return lambda: self.model.activations(self.images, paths)


def by_hand(bench: Bench, paths: Sequence[str]) -> Run:
    return hooked(bench.module, bench.images, clone=True)


def torchvisions(bench: Bench, paths: Sequence[str]) -> Run:
    """torchvision's feature extractor, traced once before."""
    reach("torchvision")
    from torchvision.models.feature_extraction import create_feature_extractor

    return partial(_quietly, create_feature_extractor(bench.module, list(paths)), bench.images)


def captums(bench: Bench, paths: Sequence[str]) -> Run:
    reach("captum")
    from captum.attr import LayerActivation

    parts = [bench.module.get_submodule(path) for path in paths]
    return partial(_quietly, LayerActivation(bench.module, parts).attribute, bench.images)


def torchlenses(bench: Bench, paths: Sequence[str]) -> Run:
    """TorchLens's fastest way: only convolutions recorded, ended in the module after the last."""
    lens = reach("TorchLens")
    after = int(paths[-1].rpartition(".")[2]) + 1
    options = {} if paths == bench.paths else {"halt": lens.in_module(f"features.{after}")}
    return partial(
        _quietly, lens.record, bench.module, bench.images, save=lens.func("conv2d"), **options
    )


def torchlens_extract(bench: Bench, paths: Sequence[str]) -> Run:
    lens = reach("TorchLens")
    return partial(_quietly, lens.extract, bench.module, bench.images, list(paths))


ROUTES: dict[str, tuple[tuple[str, Callable[[Bench, Sequence[str]], Run], str, str], ...]] = {
    "hooks by hand": (("hooks with a clone", by_hand, "", WHOLE),),
    "torchvision": (("torchvision's extractor", torchvisions, OVERWRITTEN, OVERWRITTEN),),
    "captum": (("captum LayerActivation", captums, "", WHOLE),),
    "TorchLens": (
        ("TorchLens record", torchlenses, "", ""),
        ("TorchLens extract", torchlens_extract, "", WHOLE),
    ),
}


def _quietly(run: Callable[..., object], *arguments: object, **options: object) -> object:
    with torch.no_grad():
        return run(*arguments, **options)


def pairs(peer: str, setting: Setting) -> list[Pair]:
    """Comparisons with one peer: all convolutions, and only those up to block 3."""
    bench = Bench.create(1 if setting.device == "cpu" else 32, setting.device)
    selections = {
        "all 13 convolutions of VGG16, 224²": bench.paths,
        "… up to the last of block 3": bench.until("features.14"),
        "… up to the first of block 3": bench.until("features.10"),
    }
    results = []
    for name, make, remark, early in ROUTES[peer]:
        for work, paths in selections.items():
            note = remark if paths == bench.paths else early
            theirs = partial(make, bench, paths)
            ours = {"bare": bench.bare, "ours": bench.ours(paths)}
            results.append(beside(work, name, setting, ours, theirs, note))
    return results


def shares(bench: Bench) -> dict[str, float]:
    """The fraction of the multiplications up to each layer, that layer included."""
    with torch.no_grad():
        work = multiplications(bench.module, bench.images)
    total = sum(work.values())
    return {path: sum(work[layer] for layer in bench.until(path)) / total for path in bench.paths}


def medians(bench: Bench, setting: Setting) -> dict[str, float]:
    runs: dict[str, Run] = {
        "bare forward": bench.bare,
        "bare forward again (the noise)": bench.bare,
        "convscope, all 13 convolutions": bench.ours(bench.paths),
        "plain hooks (overwritten by the ReLUs)": hooked(bench.module, bench.images, clone=False),
        "plain hooks with a clone": hooked(bench.module, bench.images, clone=True),
    }
    for path, which in BLOCK3.items():
        runs[f"convscope, block 3's {which}"] = bench.ours(bench.until(path))
    return compare(runs, setting.rounds, setting.device)


def budgets(setting: Setting) -> list[Budget]:
    bench = Bench.create(2, setting.device)
    times, share = medians(bench, setting), shares(bench)
    bare = times["bare forward"]
    rows = [
        Budget(
            "all convolutions of VGG16 captured, 224²",
            times["convscope, all 13 convolutions"] / bare,
            1.05,
            "× bare",
        )
    ]
    for path, which in BLOCK3.items():
        work = f"up to the {which} convolution of VGG16's block 3"
        ratio = times[f"convscope, block 3's {which}"] / bare
        rows.append(Budget(work, ratio, share[path] + 0.05, "× bare"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench.create(options.batch, options.device)
    times = medians(bench, Setting(options.rounds, options.device))
    table(f"VGG16 at 224², batch {options.batch}, one thread", times, "bare forward")
    print("  budgets: all ≤ × 1.05; up to a layer ≤ its fraction of the work + .05:")
    for path, which in BLOCK3.items():
        print(f"    block 3's {which} convolution {shares(bench)[path] + 0.05:.3f}")


if __name__ == "__main__":
    main()
