"""The cost of a scan relative to the bare forward passes over the same batches (random weights).

python benchmarks/scan.py [--rounds 5] [--only toy|vgg16|resnet50|memory]

The data are in memory: this measures the network and the summaries, not decoding. For comparison:
hooks with naive statistics; other tools are in ``rankers.py``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from capture import vgg16
from timing import Budget, Pair, Run, Setting, beside, compare, table
from torch import Tensor, nn

import convscope as cs
from convscope._models import Batch
from convscope._scan.layer_batch_stats import compute_batch_stats
from convscope._scan.summaries import ExtremeImages, LayerSummary, SummarySettings

CLASSES = 10
PEERS = ("by hand", "semanticlens", "zennit-crp")
# name: network, input side, batch, budget of the lists, budget of every summary
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int, float, float]] = {}


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


def batches(
    count: int, batch: int, side: int, device: str = "cpu"
) -> list[tuple[np.ndarray, Tensor]]:
    """``count`` batches with their listing indices."""
    draw = torch.Generator().manual_seed(0)
    indices = [np.arange(k * batch, (k + 1) * batch) for k in range(count)]
    values = (torch.rand(batch, 3, side, side, generator=draw) for _ in indices)
    return [(images, one.to(device)) for images, one in zip(indices, values, strict=True)]


class Summarizing:
    """Summaries of all convolutions, updated batch by batch as a scan does."""

    def __init__(self, model: cs.Model, everything: bool) -> None:
        self.model, self.everything = model, everything
        self.layers = model.layers.select("kind=conv")
        self.paths = [layer.path for layer in self.layers]
        settings = SummarySettings(sample=512, labeled=True, sample_limit=2**60)
        self.summaries: dict[str, Any] = {
            la.path: LayerSummary(settings, la.channels)
            if everything
            else ExtremeImages(9, la.channels)
            for la in self.layers
        }

    def run(self, data: list[tuple[np.ndarray, Tensor]]) -> None:
        with self.model.eval_frozen():
            for images, values in data:
                labels = images // 7 % CLASSES

                def consume(
                    path: str, maps: Tensor, images: Any = images, labels: Any = labels
                ) -> None:
                    rest = (labels,) if self.everything else ()
                    self.summaries[path].update(compute_batch_stats(images, maps), *rest)

                batch = Batch(values, None, ("",) * len(values), False)
                self.model.stream(batch, self.paths, consume)

    def fill_lists(self, count: int = 512) -> None:
        """Bring the lists to their state after ``count`` more images, with random scores.

        The scores are drawn like those listed so far, after eight images at most.
        """
        draw = np.random.default_rng(0)
        images = np.arange(5_000, 5_000 + count)
        for summary in self.summaries.values():
            extremes = summary._summaries["extremes"] if self.everything else summary
            seen = extremes.lists.state()["score"]
            middle, spread = np.nanmean(seen, 0), np.nanstd(seen, 0)
            drawn = draw.standard_normal((count, len(middle)), np.float32) * spread + middle
            extremes.lists.update(
                images, drawn, lambda rows, columns: np.zeros(len(rows), np.int32)
            )


def bare(module: nn.Module, data: list[tuple[np.ndarray, Tensor]]) -> None:
    with torch.no_grad():
        for _, values in data:
            module(values)


def naive(module: nn.Module, data: list[tuple[np.ndarray, Tensor]]) -> None:
    """Hooks as one writes them first: Σx, Σx², values above zero, the maximum and its position."""
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


class Contest:
    """One network, its batches, and what is run over them."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        make, side, batch, *_ = NETWORKS[name]
        self.module = make().to(device)
        self.model = cs.load(self.module, preprocess=cs.Preprocess(size=(side, side)))
        # Lists fill up in the first images and change ever more rarely after: both are measured.
        fill = batches(8 if name == "toy" else 8 // batch, batch, side, device)
        self.lists, self.everything = (Summarizing(self.model, all_) for all_ in (False, True))
        for scanned in (self.lists, self.everything):
            scanned.run(fill)
            if name != "toy":  # which has now seen 512
                scanned.fill_lists()
        later = batches(2, batch, side, device)
        self.data = [(images + 10_000, values) for images, values in later]
        paths = self.lists.layers
        self.title = (
            f"{name} at {side}², batch {batch}, {len(paths)} convolutions, "
            f"{sum(layer.channels for layer in paths)} channels"
        )

    def runs(self) -> dict[str, Run]:
        return {
            "bare forward": partial(bare, self.module, self.data),
            "bare forward again (the noise)": partial(bare, self.module, self.data),
            "lists with positions": partial(self.lists.run, self.data),
            "every summary": partial(self.everything.run, self.data),
            "every summary, the very first batches": self.first,
            "hooks with naive statistics, no lists": partial(naive, self.module, self.data),
        }

    def first(self) -> None:
        Summarizing(self.model, True).run(self.data)


NETWORKS.update(
    toy=(toy, 64, 64, 1.25, 1.40),
    vgg16=(vgg16, 224, 4, 1.10, 1.40),
    resnet50=(resnet50, 224, 8, 1.10, 1.40),
)


def pairs(peer: str, setting: Setting) -> list[Pair]:
    """A scan with every summary and what the peer does with the same images."""
    from rankers import RANKERS

    if peer == "zennit-crp":  # ten times as long as the others
        setting = replace(setting, rounds=min(setting.rounds, 3))
    contest = Contest("toy", setting.device)
    work = "ranking 128 images at 64² for 608 channels"
    ours = {
        "bare": partial(bare, contest.module, contest.data),
        "ours": partial(contest.everything.run, contest.data),
    }
    images = torch.cat([values for _, values in contest.data])
    return [
        beside(
            work, one.name, setting, ours, partial(one.prepare, contest.module, images), one.remark
        )
        for one in RANKERS[peer]
    ]


def budgets(setting: Setting) -> Iterator[Budget]:
    for name, (*_, lists, everything) in NETWORKS.items():
        contest = Contest(name, setting.device)
        runs = contest.runs()
        names = ("bare forward", "lists with positions", "every summary")
        first = "every summary, the very first batches"
        chosen = {key: runs[key] for key in (*names, first)}
        found = compare(chosen, min(setting.rounds, 5), setting.device)
        bare, begun = found.pop("bare forward"), found.pop(first)
        for (what, seconds), allowed in zip(found.items(), (lists, everything), strict=True):
            remark = (
                f"the very first batches {begun / bare:.2f} ×" if what == "every summary" else ""
            )
            work = f"scan, {what}: {contest.title}"
            yield Budget(work, seconds / bare, allowed, "× bare", remark=remark)
    if setting.device == "cpu":
        small, large = (peak(count) for count in (100, 1000))
        yield Budget(
            "memory of a scan above that of forward passes, 1,000 images",
            large,
            100,
            "MB",
            remark=f"with 100 images {small} MB",
        )


_PEAK = """
import re, sys, shutil, tempfile, torch
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
import convscope as cs
from scan import toy
count, scanning = int(sys.argv[2]), sys.argv[3] == "scan"
model = cs.load(toy(), preprocess=cs.Preprocess(size=(64, 64)))
data = cs.open_dataset(f"shapes,count={count},size=64")
folder = tempfile.mkdtemp()
if scanning:
    cs.scan(model, data, folder + "/atlas", batch=32)
else:
    from convscope._loading import prefetch_batches
    import numpy as np
    model.layers
    indices = [np.arange(k, min(k + 32, count)) for k in range(0, count, 32)]
    with torch.no_grad():
        for batch in prefetch_batches(model, data, (64, 64), indices):
            model.module(batch.values)
shutil.rmtree(folder)
# Not getrusage: on Linux its value includes the parent's peak.
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


def peak(count: int) -> int:
    """Peak memory of a process that scans, in MB above one that only passes the images forward."""
    peaks = [
        subprocess.run(
            [sys.executable, "-c", _PEAK, str(Path(__file__).parent), str(count), what],
            text=True,
            capture_output=True,
            check=True,
        ).stdout
        for what in ("bare", "scan")
    ]
    return int(peaks[1]) - int(peaks[0])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in NETWORKS:
        if options.only in ("", name):
            contest = Contest(name)
            title = f"{contest.title}, one thread"
            table(title, compare(contest.runs(), options.rounds), "bare forward")
    if options.only in ("", "memory"):
        for count in (500, 5000):
            print(f"memory, toy at 64², {count:>5} images: {peak(count)} MB above bare")


if __name__ == "__main__":
    main()
