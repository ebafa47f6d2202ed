"""What a scan costs beside the bare forward passes over the same batches (random weights).

python benchmarks/scan.py [--rounds 5] [--only toy|vgg16|resnet50|memory]

The data are in memory already: what is measured is the network and the summaries, not decoding.
Beside convscope: keeping every activation and sorting at the end, and hooks with naive statistics.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from capture import vgg16
from timing import compare, table
from torch import Tensor, nn

import convscope as cs
from convscope.models import Batch
from convscope.scanning.layer import Kept, LayerSummary
from convscope.scanning.readings import read
from convscope.scanning.summaries import Extremes

CLASSES = 10


def toy() -> nn.Module:
    """Five convolutions, 608 channels."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for width, (inside, outside) in enumerate(
        ((3, 32), (32, 64), (64, 128), (128, 128), (128, 256))
    ):
        stride = 2 if width in (1, 3) else 1
        layers += [nn.Conv2d(inside, outside, 3, stride, padding=1), nn.ReLU(inplace=True)]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, CLASSES))
    return nn.Sequential(*layers, *head).eval().requires_grad_(False)


def resnet50() -> nn.Module:
    """torchvision's, with random weights."""
    from torchvision.models import resnet50 as make

    return make(weights=None).eval().requires_grad_(False)  # type: ignore[no-any-return]


def batches(count: int, batch: int, side: int) -> list[tuple[np.ndarray, Tensor]]:
    """``count`` batches with their listing indices."""
    draw = torch.Generator().manual_seed(0)
    indices = [np.arange(k * batch, (k + 1) * batch) for k in range(count)]
    return [(images, torch.rand(batch, 3, side, side, generator=draw)) for images in indices]


class Scanned:
    """Summaries of all convolutions, fed batch by batch as a scan feeds them."""

    def __init__(self, model: cs.Model, everything: bool) -> None:
        self.model, self.everything = model, everything
        self.layers = model.layers.select("kind=conv")
        self.paths = [layer.path for layer in self.layers]
        kept = Kept(sample=512, labelled=True, limit=2**60)
        self.summaries: dict[str, Any] = {
            la.path: LayerSummary(kept, la.channels) if everything else Extremes(9, la.channels)
            for la in self.layers
        }

    def run(self, data: list[tuple[np.ndarray, Tensor]]) -> None:
        with self.model.at_rest():
            for images, values in data:
                labels = images // 7 % CLASSES

                def consume(
                    path: str, maps: Tensor, images: Any = images, labels: Any = labels
                ) -> None:
                    rest = (labels,) if self.everything else ()
                    self.summaries[path].update(read(images, maps), *rest)

                batch = Batch(values, None, ("",) * len(values), False)
                self.model.stream(batch, self.paths, consume)


def bare(module: nn.Module, data: list[tuple[np.ndarray, Tensor]]) -> None:
    with torch.no_grad():
        for _, values in data:
            module(values)


def naive(module: nn.Module, data: list[tuple[np.ndarray, Tensor]]) -> None:
    """Hooks as they are written first: Σx, Σx², how many above zero, the maximum, its place."""
    totals: dict[nn.Module, Any] = {}

    def hook(layer: nn.Module, _inputs: Any, maps: Tensor) -> None:
        flat = maps.flatten(2)
        found = (flat.sum(2).sum(0), (flat**2).sum(2).sum(0), (flat > 0).float().sum(2).sum(0))
        before = totals.get(layer, (0, 0, 0))
        totals[layer] = tuple(a + b for a, b in zip(before, found, strict=True))
        flat.max(2)

    hooks = [m.register_forward_hook(hook) for m in module.modules() if isinstance(m, nn.Conv2d)]
    bare(module, data)
    for one in hooks:
        one.remove()


def speed(name: str, make: Callable[[], nn.Module], side: int, batch: int, rounds: int) -> None:
    module = make()
    model = cs.load(module, preprocess=cs.Preprocess(size=(side, side)))
    lists, everything = Scanned(model, False), Scanned(model, True)
    # Lists fill up in the first images and change ever more rarely after: both are measured.
    fill = batches(max(2, 512 // batch), batch, side) if name == "toy" else batches(3, batch, side)
    for scanned in (lists, everything):
        scanned.run(fill)
    data = [(images + 10_000, values) for images, values in batches(2, batch, side)]
    first = partial(lambda: Scanned(model, True).run(data))
    medians = compare(
        {
            "bare forward": partial(bare, module, data),
            "bare forward again (the noise)": partial(bare, module, data),
            "lists with positions": partial(lists.run, data),
            "every summary": partial(everything.run, data),
            "every summary, the very first batches": first,
            "hooks with naive statistics, no lists": partial(naive, module, data),
        },
        rounds,
    )
    channels = sum(layer.channels for layer in lists.layers)
    title = (
        f"{name} at {side}², batch {batch}, {len(lists.layers)} convolutions, {channels} channels"
    )
    table(f"{title}, {torch.get_num_threads()} thread(s)", medians, "bare forward")


_PEAK = """
import resource, sys, shutil, tempfile, torch
sys.path.insert(0, "benchmarks")
torch.set_num_threads(1)
import convscope as cs
from scan import toy
count, scanning = int(sys.argv[1]), sys.argv[2] == "scan"
model = cs.load(toy(), preprocess=cs.Preprocess(size=(64, 64)))
data = cs.open_dataset(f"shapes,count={count},size=64")
folder = tempfile.mkdtemp()
if scanning:
    cs.scan(model, data, folder + "/atlas", batch=32)
else:
    from convscope.scanning.loading import load_batches
    import numpy as np
    model.layers
    indices = [np.arange(k, min(k + 32, count)) for k in range(0, count, 32)]
    with torch.no_grad():
        for loaded in load_batches(model, data, (64, 64), indices):
            model.module(loaded.values)
shutil.rmtree(folder)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def memory() -> None:
    """Peak memory of whole processes, scanning and only passing forward."""
    print("\nPeak memory of the toy network at 64², batch 32 (MB)")
    for count in (500, 5000):
        peaks = [int(subprocess.run([sys.executable, "-c", _PEAK, str(count), what], text=True,
                                    capture_output=True, check=True).stdout)
                 for what in ("bare", "scan")]  # fmt: skip
        print(f"  {count:>5} images: bare {peaks[0]}, scan {peaks[1]}: {peaks[1] - peaks[0]} more")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, make, side, batch in (("toy", toy, 64, 64), ("vgg16", vgg16, 224, 4),
                                    ("resnet50", resnet50, 224, 8)):  # fmt: skip
        if options.only in ("", name):
            speed(name, make, side, batch, options.rounds)
    if options.only in ("", "memory"):
        memory()


if __name__ == "__main__":
    main()
