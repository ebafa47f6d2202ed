"""The seam as captum wants it: a torch module from images to one score each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn

from convscope._attribution.target import Target
from convscope._errors import UsageError, closest
from convscope._models import Batch, Model

BASELINES = ("black", "gray", "blurred")


@dataclass(frozen=True)
class Question:
    """Why does ``target`` have this value on this image?

    - ``batch``: the one image; ``layer``: where Grad-CAM and the channels are asked for.
    - ``baseline``: ``(1, C, H, W)``, the picture that shows nothing, as the model takes it.
    - ``steps``: of the path of integrated gradients; ``samples``: of SmoothGrad.
    """

    model: Model
    batch: Batch
    target: Target
    layer: str
    baseline: Tensor
    seed: int = 0
    steps: int = 64
    samples: int = 24

    def of(self, model: Model) -> Question:
        """The same question to another network."""
        return replace(self, model=model)

    def module(self, layer: str | None = None) -> Asked:
        """The network as a module that returns the target's score."""
        return Asked(self.model, self.target, layer)

    def score(self, values: Tensor) -> Tensor:
        """The target's value on ``(N, C, H, W)``, without gradients: ``(N,)``."""
        with torch.no_grad():
            found: Tensor = self.module()(values)
        return found.cpu()


class Asked(nn.Module):
    """From images ``(N, C, H, W)`` to ``(N,)``, differentiable on every backend.

    ``layer`` is a module for captum to hook: the result of a layer passes through it, and the score
    depends on that very tensor.
    """

    def __init__(self, model: Model, target: Target, layer: str | None = None) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self._model, self._target, self._path = model, target, layer

    def forward(self, values: Tensor) -> Tensor:
        paths = list({self._target.path, self._path or self._target.path})
        batch = Batch(values, None, ("",) * len(values), single=False)
        found = self._model.activations(batch, paths, grad=torch.is_grad_enabled())
        if self._path:
            self.layer(found[self._path])
        return self._target.score(found).to(values.device)


def baseline(model: Model, batch: Batch, kind: str) -> tuple[Tensor, str]:
    """The picture that shows nothing, and what it is in words."""
    if kind not in BASELINES:
        raise UsageError(
            f"No baseline {kind!r}.{closest(kind, BASELINES)} Known: {', '.join(BASELINES)}"
        )
    if batch.views is None or batch.preprocess is None:
        if kind == "blurred":
            raise UsageError("A blurred baseline needs a picture, not numbers. Take baseline=gray")
        value = 0.0 if kind == "black" else float(batch.values.mean())
        return torch.full_like(batch.values, value), f"{value:.3g} everywhere"
    seen = batch.views[0].seen
    made = _picture(seen, kind)
    words = {"black": "black", "gray": "mid-gray", "blurred": "the picture blurred"}[kind]
    return torch.from_numpy(batch.preprocess.normalize(made))[None], words


def _picture(seen: Image.Image, kind: str) -> Image.Image:
    if kind == "blurred":
        return seen.filter(ImageFilter.GaussianBlur(min(seen.size) / 10))
    level: Any = {"black": 0, "gray": 128}[kind]
    return Image.fromarray(np.full_like(np.asarray(seen), level))
