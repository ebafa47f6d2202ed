"""The recipe of a training, and its optimization, one epoch at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from convscope._errors import UsageError
from convscope._train.training_data import Normalize, TrainingSplit

_MIN_STEPS = 50  # of an epoch: of little data, batches are smaller
_MIN_BATCH = 16


@dataclass(frozen=True)
class Recipe:
    """The settings of a training.

    Attributes:
        epochs: Number of passes over the training images.
        batch: Number of images in a step; fewer where an epoch would have less than 50 steps.
        rate: The highest learning rate of the one-cycle schedule (Smith and Topin, 2018).
        decay: Weight decay of the filters; biases and normalizations have none.
        smoothing: Label smoothing, 0 to 1 (Szegedy et al., CVPR 2016).
        shift: Largest random translation, in pixels.
        flip: Whether images are mirrored at random.
        precision: ``"float32"``, or ``"bfloat16"`` (twice as fast on processors that support it).
        seed: Seed of the weights, the order of the images and the augmentation.
        patience: Stop after this number of epochs without a better accuracy and keep the best
            epoch; 0 trains to the end and keeps the last.
    """

    epochs: int = 10
    batch: int = 128
    rate: float = 0.02
    decay: float = 5e-4
    smoothing: float = 0.1
    shift: int = 2
    flip: bool = False
    precision: str = "float32"
    seed: int = 0
    patience: int = 0

    def validated(self) -> Recipe:
        """Return the recipe itself if its settings are possible.

        Returns:
            The recipe.

        Raises:
            UsageError: A setting is out of its range.
        """
        if self.precision not in ("float32", "bfloat16"):
            raise UsageError(f"precision is float32 or bfloat16, not {self.precision!r}")
        if self.epochs < 1 or self.batch < 2:
            raise UsageError(
                f"epochs is at least 1 and batch at least 2, not {self.epochs} and {self.batch}"
            )
        if self.patience < 0:
            raise UsageError(f"patience is 0 (train to the end) or more, not {self.patience}")
        return self


@dataclass(frozen=True)
class EpochResult:
    """The state of a training after an epoch.

    Attributes:
        number: The number of the epoch, from 1.
        total: The number of epochs in all.
        loss: Mean training loss.
        accuracy: Accuracy on the test split, 0 to 1.
    """

    number: int
    total: int
    loss: float
    accuracy: float

    def __str__(self) -> str:
        return f"epoch {self.number} of {self.total} · accuracy {self.accuracy:.1%}"


class Trainer:
    """Trains ``module`` on a split by a recipe; its whole state can be saved and restored."""

    def __init__(
        self, module: nn.Module, split: TrainingSplit, normalize: Normalize, recipe: Recipe
    ) -> None:
        self._module = module.to(memory_format=torch.channels_last)
        self._split = split
        self._normalize = normalize
        self._recipe = recipe
        self._random = torch.Generator().manual_seed(recipe.seed)
        self._batch = min(recipe.batch, max(_MIN_BATCH, len(split.images) // _MIN_STEPS))
        self._steps = len(split.images) // self._batch
        groups = _parameter_groups(module, recipe.decay)
        self._optimizer = torch.optim.SGD(groups, recipe.rate, momentum=0.9, nesterov=True)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer,
            recipe.rate,
            total_steps=max(8, recipe.epochs * self._steps),
            pct_start=0.25,
        )

    def train_epoch(self, number: int, on_batch: Callable[[int, int], None] | None) -> float:
        """Train on every image once; return the mean loss."""
        self._module.train()
        order = torch.randperm(len(self._split.images), generator=self._random)
        total = 0.0
        for step in range(self._steps):
            total += self._step(order[step * self._batch : (step + 1) * self._batch])
            if on_batch:
                done = (number - 1) * self._steps + step + 1
                on_batch(done, self._recipe.epochs * self._steps)
        return total / self._steps

    def _step(self, indices: Tensor) -> float:
        images = augment(self._split.images[indices], self._recipe, self._random)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._recipe.precision == "bfloat16"):
            logits = self._module(self._normalize(images))
        loss = functional.cross_entropy(
            logits.float(), self._split.labels[indices], label_smoothing=self._recipe.smoothing
        )
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._optimizer.step()
        self._schedule.step()
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        """Return everything that the next epoch depends on, as tensors, numbers and text."""
        return {
            "weights": self._module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "random": self._random.get_state(),
            "torch_random": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved ``state``."""
        self._module.load_state_dict(state["weights"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._random.set_state(state["random"])
        torch.set_rng_state(state["torch_random"])


def _parameter_groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weight decay on filters only: on biases and normalizations it costs accuracy."""
    parameters = list(module.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def augment(images: Tensor, recipe: Recipe, random: torch.Generator) -> Tensor:
    """Mirror half of the images ``(N, C, H, W)``, and shift each by its own offset.

    Shifted images repeat their edges.
    """
    count, _, height, width = images.shape
    if recipe.flip:
        mirrored = torch.rand(count, generator=random) < 0.5
        images = torch.where(mirrored.reshape(-1, 1, 1, 1), images.flip(3), images)
    if recipe.shift:
        limit = recipe.shift
        dy, dx = torch.randint(-limit, limit + 1, (2, count, 1), generator=random)
        rows = (torch.arange(height) + dy).clamp(0, height - 1)
        columns = (torch.arange(width) + dx).clamp(0, width - 1)
        image = torch.arange(count).reshape(-1, 1, 1)
        shifted = images.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]]
        images = shifted.permute(0, 3, 1, 2)
    return images
