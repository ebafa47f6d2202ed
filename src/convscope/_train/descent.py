"""Gradient descent, one epoch at a time; its whole state can be saved and put back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from convscope._train.pictures import Normalize, Part
from convscope._train.recipe import Recipe


class Descent:
    """Trains ``module`` on ``part`` by ``recipe``."""

    def __init__(self, module: nn.Module, part: Part, normalize: Normalize, recipe: Recipe) -> None:
        self._module = module.to(memory_format=torch.channels_last)
        self._part = part
        self._normalize = normalize
        self._recipe = recipe
        self._random = torch.Generator().manual_seed(recipe.seed)
        self._batch = min(recipe.batch, max(16, len(part.images) // 50))
        self._steps = len(part.images) // self._batch
        groups = _without_decay_on_vectors(module, recipe.decay)
        self._optimizer = torch.optim.SGD(groups, recipe.rate, momentum=0.9, nesterov=True)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer,
            recipe.rate,
            total_steps=max(8, recipe.epochs * self._steps),
            pct_start=0.25,
        )

    def epoch(self, number: int, on_batch: Callable[[int, int], None] | None) -> float:
        """One pass over the pictures; the mean loss."""
        self._module.train()
        order = torch.randperm(len(self._part.images), generator=self._random)
        total = 0.0
        for step in range(self._steps):
            total += self._step(order[step * self._batch : (step + 1) * self._batch])
            if on_batch:
                done = (number - 1) * self._steps + step + 1
                on_batch(done, self._recipe.epochs * self._steps)
        return total / self._steps

    def _step(self, chosen: Tensor) -> float:
        pixels = augment(self._part.images[chosen], self._recipe, self._random)
        loss = _loss(self._module, self._normalize(pixels), self._part.labels[chosen], self._recipe)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._optimizer.step()
        self._schedule.step()
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, as tensors, numbers and text."""
        return {
            "weights": self._module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "random": self._random.get_state(),
            "torch_random": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken."""
        self._module.load_state_dict(state["weights"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._random.set_state(state["random"])
        torch.set_rng_state(state["torch_random"])


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


def augment(pixels: Tensor, recipe: Recipe, random: torch.Generator) -> Tensor:
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
