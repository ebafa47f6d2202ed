"""Time from a fresh interpreter to the first figure, and of the commands.

python benchmarks/cold.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from peers import FOLDER
from PIL import Image
from timing import Budget, Pair, Setting

PEERS = ("by hand, torchvision, captum, TorchLens",)
WORK = "fresh interpreter → the first 9 maps of SqueezeNet's features.3 as a PNG"
LAYER = "features.3"

OURS = f"""
import convscope as cs
model = cs.load("torchvision:squeezenet1_1,weights=none")
maps = cs.feature_maps(model, "image.png", layers=["{LAYER}"])
maps["{LAYER}"].grid(first=9, columns=3).save("out.png")
"""
# The code of a usual tutorial, with the line that differs between tools.
THEIRS = """
import torch
from PIL import Image
from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
network = squeezenet1_1(weights=None).eval()
batch = SqueezeNet1_1_Weights.DEFAULT.transforms()(Image.open("image.png"))[None]
with torch.no_grad():
    {capture}
figure, axes = plt.subplots(3, 3)
for axis, one in zip(axes.flat, maps[0]):
    axis.imshow(one, cmap="viridis")
    axis.axis("off")
figure.savefig("out.png")
"""
CAPTURES = {
    "a hook by hand": f"""outputs = []
    network.get_submodule("{LAYER}").register_forward_hook(lambda *a: outputs.append(a[2].clone()))
    network(batch)
    maps = outputs[0]""",
    "torchvision's extractor": f"""from torchvision.models.feature_extraction import \\
        create_feature_extractor
    maps = create_feature_extractor(network, ["{LAYER}"])(batch)["{LAYER}"]""",
    "captum LayerActivation": f"""from captum.attr import LayerActivation
    maps = LayerActivation(network, network.get_submodule("{LAYER}")).attribute(batch)""",
    "TorchLens extract": f"""import torchlens
    maps = torchlens.extract(network, batch, ["{LAYER}"])["{LAYER}"]""",
}


def cpu_seconds(command: list[str], folder: Path) -> float:
    """CPU seconds of a process and its children, user and system."""
    before = os.times()
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=one_thread)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    after = os.times()
    return (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )


def program(code: str, folder: Path) -> float:
    reached = f"import sys; sys.path.append({str(FOLDER / 'TorchLens')!r})\n"
    return cpu_seconds([sys.executable, "-W", "ignore", "-c", reached + code], folder)


def pairs(_peer: str, setting: Setting) -> list[Pair]:
    """Time each program in a new process, in turns, after a first run that fills file caches."""
    rounds = min(setting.rounds, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
        Image.fromarray(noise).save(folder / "image.png")
        codes = {"ours": OURS} | {n: THEIRS.format(capture=c) for n, c in CAPTURES.items()}
        seconds, errors = timed(codes, folder, rounds)
    return [
        Pair(WORK, name, seconds["ours"], seconds.get(name), None, "", errors.get(name, ""))
        for name in CAPTURES
    ]


def timed(
    codes: dict[str, str], folder: Path, rounds: int
) -> tuple[dict[str, float], dict[str, str]]:
    """Medians, and the error of what does not run."""
    taken: dict[str, list[float]] = {}
    errors: dict[str, str] = {}
    for k in range(rounds + 1):
        for name, code in codes.items():
            try:
                seconds = program(code, folder)
            except RuntimeError as error:
                errors[name] = str(error)[:160]
                continue
            if k:
                taken.setdefault(name, []).append(seconds)
    return {name: median(times) for name, times in taken.items()}, errors


def budgets(setting: Setting) -> Iterator[Budget]:
    command = [sys.executable, "-c", "from convscope._cli import main; main()"]
    with tempfile.TemporaryDirectory() as name:
        helped = wall(partial(cpu_seconds, [*command, "--help"], Path(name)), setting.rounds)
        yield Budget("`convscope --help`", helped, 0.2, "s")
        whole, first = time_demo([*command, "demo"], Path(name))
        yield Budget("`convscope demo`, everything in it", whole, 180, "s")
        yield Budget("… first figure after", first, 15, "s")


def wall(run: Callable[[], object], rounds: int) -> float:
    """Median elapsed seconds."""
    taken = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return median(taken[1:])


def time_demo(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds until the demo has ended, and until its first figure is written."""
    start, first = time.perf_counter(), None
    quiet = subprocess.DEVNULL
    all_cores = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    with subprocess.Popen(
        command, cwd=folder, stdout=quiet, stderr=quiet, env=all_cores
    ) as process:
        while process.poll() is None:
            if first is None and next(folder.rglob("*.png"), None):
                first = time.perf_counter() - start
            time.sleep(0.05)
    if process.returncode or first is None:
        raise RuntimeError(f"the demo ended with exit code {process.returncode}")
    return time.perf_counter() - start, first


def main() -> None:
    for pair in pairs("", Setting()):
        print(pair)
    for budget in budgets(Setting()):
        print(budget)


if __name__ == "__main__":
    main()
