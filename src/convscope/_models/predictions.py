"""From what a classifier returns to class names with probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from convscope._errors import ModelError

Prediction: TypeAlias = list[tuple[str, float]]
"""Class names with their probabilities, the most probable first."""


def check_classifier(model: str, logits: Tensor, classes: Sequence[str]) -> None:
    """Raise ``ModelError`` where a network does not return one logit for each class."""
    shape = "×".join(map(str, logits.shape[1:]))
    if logits.ndim < 2 or logits.shape[1] != logits[0].numel():
        raise ModelError(
            f"{model} returns {shape or 'one number'} for an image, not one logit per "
            "class, so it predicts nothing. Look at its feature maps"
        )
    if classes and len(classes) != logits.shape[1]:
        raise ModelError(
            f"{model} has {logits.shape[1]} outputs and {len(classes)} class "
            "names. Give their names in order: --classes FILE"
        )


def ranked(row: Tensor, top: int, classes: Sequence[str]) -> Prediction:
    """The ``top`` most probable classes of one image."""
    best = torch.topk(row, max(1, min(top, len(row))))
    return [
        (class_name(int(k), classes), float(p))
        for p, k in zip(best.values, best.indices, strict=True)
    ]


def class_name(index: int, classes: Sequence[str]) -> str:
    """The name of class ``index``, or ``class 7`` where names are unknown."""
    return classes[index] if index < len(classes) else f"class {index}"


def probabilities(outputs: Tensor) -> Tensor:
    """``(N, classes)``: softmax of what is no distribution yet, sigmoid of a single output."""
    rows = outputs.detach().float().flatten(1)
    if rows.shape[1] == 1:
        inside = bool(((rows >= 0) & (rows <= 1)).all())
        return rows if inside else rows.sigmoid()
    if bool((rows >= 0).all()) and bool(((rows.sum(1) - 1).abs() < 1e-3).all()):
        return rows
    return rows.softmax(1)
