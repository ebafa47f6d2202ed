"""Training a small network, well enough to look inside it.

The recipe is the plain modern one: SGD with Nesterov momentum, a one-cycle learning rate, label
smoothing, and small shifts and flips of the pictures. The result is a ``.safetensors`` file with a
JSON card beside it, which ``cs.load`` reads back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from convscope.data import Dataset, split_dataset
from convscope.errors import ConvscopeError, DatasetError, UsageError
from convscope.models.architectures import build
from convscope.preprocess import Preprocess

_MEMORY_LIMIT = 6 * 2**30


@dataclass(frozen=True)
class Epoch:
    """Progress after one epoch: mean training loss, and accuracy on the test part (0 to 1)."""

    number: int
    of: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Trained:
    """The outcome of ``train``: the network, its card, and the file it was written to."""

    module: nn.Module
    card: dict[str, Any]
    path: Path

    @property
    def accuracy(self) -> float:
        """Accuracy on the test part, 0 to 1."""
        return float(self.card["accuracy"]["test"])


@dataclass(frozen=True)
class Recipe:
    """How to train.

    - ``batch``: pictures in a step; fewer where the data would make less than 50 steps a pass.
    - ``shift``: largest random translation, in pixels; ``flip``: mirror at random.
    - ``precision``: ``"float32"``, or ``"bfloat16"`` (twice as fast where the processor has it).
    """

    epochs: int = 10
    batch: int = 128
    rate: float = 0.1
    decay: float = 5e-4
    smoothing: float = 0.1
    shift: int = 2
    flip: bool = False
    precision: str = "float32"
    seed: int = 0


def train(
    dataset: str | Path | Dataset,
    out: str | Path,
    *,
    architecture: str = "simplecnn",
    size: int | tuple[int, int] | None = None,
    recipe: Recipe | None = None,
    command: str = "",
    on_epoch: Callable[[Epoch], None] | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train ``architecture`` on a labelled ``dataset`` and write ``out`` (``.safetensors``).

    ``dataset`` is whatever ``open_dataset`` takes; its own test part is used where it has one,
    else a tenth is held out. ``size`` is the side the pictures are resized to, by default that of
    the first. The same ``recipe`` gives the same weights on the same machine and thread count.
    The best epoch so far is on disk at any time, so Ctrl-C loses at most the running one.
    """
    recipe = recipe or Recipe()
    path = _checked(Path(out), recipe)
    parts = split_dataset(dataset, seed=recipe.seed)
    (images, labels), test = (_load(part, size) for part in parts)
    channels, sides = images.shape[1], (images.shape[2], images.shape[3])
    torch.manual_seed(recipe.seed)
    module = build(architecture, channels, sides, len(parts[0].classes))
    preprocess = _statistics(images, sides)
    card: dict[str, Any] = {
        "convscope": 1,
        "architecture": {
            "name": architecture, "channels": channels, "size": list(sides),
            "parameters": sum(p.numel() for p in module.parameters()),
        },
        "classes": list(parts[0].classes),
        "preprocess": _preprocess_card(preprocess),
        "data": {"train": _describe(parts[0], labels), "test": _describe(parts[1], test[1])},
        "recipe": vars(recipe),
        "command": command,
        "accuracy": {"test": 0.0, "images": len(test[1]), "epoch": 0},
    }  # fmt: skip
    normalise = _normaliser(preprocess)
    for epoch in _epochs(module, images, labels, normalise, recipe, on_batch):
        accuracy = evaluate(module, *test, normalise)
        card["accuracy"] |= {"test": accuracy, "epoch": epoch.number}
        _write(module, card, path)
        if on_epoch:
            on_epoch(Epoch(epoch.number, epoch.of, epoch.loss, accuracy))
    return Trained(module.eval(), card, path)


def _checked(path: Path, recipe: Recipe) -> Path:
    if path.suffix != ".safetensors":
        raise UsageError(f"Weights are written as .safetensors, not {path.name!r}. "
                         f"Use -o {path.with_suffix('.safetensors')}")  # fmt: skip
    if recipe.precision not in ("float32", "bfloat16"):
        raise UsageError(f"precision is float32 or bfloat16, not {recipe.precision!r}")
    if recipe.epochs < 1 or recipe.batch < 2:
        raise UsageError(f"epochs is at least 1 and batch at least 2, not {recipe.epochs} "
                         f"and {recipe.batch}")  # fmt: skip
    return path


def _describe(part: Dataset, labels: Tensor) -> dict[str, Any]:
    card: dict[str, Any] = {"name": Path(part.name).name, "images": len(labels)}
    if len(labels) < len(part):  # pictures that could not be read
        card["skipped"] = len(part) - len(labels)
    return card


def _load(part: Dataset, size: int | tuple[int, int] | None) -> tuple[Tensor, Tensor]:
    """All pictures of ``part`` as uint8 ``(N, C, H, W)``, and their labels."""
    if part.labels is None:
        raise DatasetError(
            f"{part.name} is not labelled: training needs one sub-folder per class, or IDX labels"
        )
    first = part.picture(0)
    sides = (size, size) if isinstance(size, int) else size or (first.height, first.width)
    channels = 1 if first.mode == "L" else 3
    if len(part) * channels * sides[0] * sides[1] > _MEMORY_LIMIT:
        raise DatasetError(
            f"{part.name} at {sides[0]}×{sides[1]} is more than {_MEMORY_LIMIT // 2**30} GiB. "
            f"Train on smaller pictures: --size {min(sides) // 2}"
        )
    shape = Preprocess(size=sides)
    pixels = np.zeros((len(part), channels, *sides), np.uint8)
    kept = np.ones(len(part), bool)
    for index in range(len(part)):
        try:
            seen = np.asarray(shape.view(part.picture(index), channels).seen)
        except ConvscopeError:
            kept[index] = False
            continue
        pixels[index] = seen if seen.ndim == 2 else np.moveaxis(seen, 2, 0)
    if not kept.any():
        raise DatasetError(f"No image of {part.name} could be read")
    return torch.from_numpy(pixels[kept]), torch.from_numpy(part.labels[kept])


def _statistics(images: Tensor, sides: tuple[int, int]) -> Preprocess:
    """Mean and standard deviation per channel, over a sample of the training pictures."""
    sample = images[:: max(1, len(images) // 5000)].double() / 255
    mean, std = sample.mean((0, 2, 3)), sample.std((0, 2, 3)).clamp_min(1e-3)
    return Preprocess(
        size=sides,
        mean=tuple(round(float(m), 4) for m in mean),
        std=tuple(round(float(s), 4) for s in std),
    )


def _preprocess_card(preprocess: Preprocess) -> dict[str, Any]:
    return {"size": preprocess.size, "mean": preprocess.mean, "std": preprocess.std}


def _normaliser(preprocess: Preprocess) -> Callable[[Tensor], Tensor]:
    mean, std = (torch.tensor(v).reshape(1, -1, 1, 1) for v in (preprocess.mean, preprocess.std))

    def normalise(pixels: Tensor) -> Tensor:
        values = (pixels.float() / 255 - mean) / std
        return values.contiguous(memory_format=torch.channels_last)

    return normalise


def _epochs(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    normalise: Callable[[Tensor], Tensor],
    recipe: Recipe,
    on_batch: Callable[[int, int], None] | None,
) -> Iterator[Epoch]:
    """Train, one epoch between two yields."""
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    random = torch.Generator().manual_seed(recipe.seed)
    batch = min(recipe.batch, max(2, len(images) // 50))
    steps = len(images) // batch
    optimiser = torch.optim.SGD(
        _without_decay_on_vectors(module, recipe.decay), recipe.rate, momentum=0.9, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.rate, total_steps=recipe.epochs * steps, pct_start=0.25
    )
    for number in range(1, recipe.epochs + 1):
        module.train()
        order = torch.randperm(len(images), generator=random)
        total = 0.0
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            pixels = _augment(images[chosen], recipe, random)
            loss = _loss(module, normalise(pixels), labels[chosen], recipe)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
            if on_batch:
                on_batch((number - 1) * steps + step + 1, recipe.epochs * steps)
        yield Epoch(number, recipe.epochs, total / steps, 0.0)


def _without_decay_on_vectors(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weight decay on kernels only: on biases and norms it costs accuracy and buys nothing."""
    parameters = list(module.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _loss(module: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        logits = module(images)
    return functional.cross_entropy(logits.float(), labels, label_smoothing=recipe.smoothing)


def _augment(pixels: Tensor, recipe: Recipe, random: torch.Generator) -> Tensor:
    """Shift each picture by its own offset (edges repeated), and mirror half of them."""
    count, _, height, width = pixels.shape
    if recipe.flip:
        mirrored = torch.rand(count, generator=random) < 0.5
        pixels = torch.where(mirrored.reshape(-1, 1, 1, 1), pixels.flip(3), pixels)
    if recipe.shift:
        reach = recipe.shift
        dy, dx = torch.randint(-reach, reach + 1, (2, count, 1), generator=random)
        rows = (torch.arange(height) + dy).clamp(0, height - 1)
        columns = (torch.arange(width) + dx).clamp(0, width - 1)
        picture = torch.arange(count).reshape(-1, 1, 1)
        moved = pixels.permute(0, 2, 3, 1)[picture, rows[:, :, None], columns[:, None, :]]
        pixels = moved.permute(0, 3, 1, 2)
    return pixels


def evaluate(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    normalise: Callable[[Tensor], Tensor],
    batch: int = 500,
) -> float:
    """Accuracy of ``module`` on uint8 ``images`` ``(N, C, H, W)``, 0 to 1, in float32."""
    module.eval()
    right = 0
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            scores = module(normalise(images[start : start + batch]))
            right += int((scores.argmax(1) == labels[start : start + batch]).sum())
    return right / len(images)


def _write(module: nn.Module, card: dict[str, Any], path: Path) -> None:
    """Weights and card, each through a temporary file: an interrupted write leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().contiguous() for name, value in module.state_dict().items()}
    temporary = path.with_suffix(".tmp")
    save_file(weights, temporary)
    os.replace(temporary, path)
    temporary.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path.with_suffix(".json"))


