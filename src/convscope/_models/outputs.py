"""The layer that holds a network's class scores, before any softmax."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from convscope._errors import ModelError, UsageError, closest
from convscope._models.base import Batch, Model

_FALLBACK = (224, 224)


def class_index(model: Model, target: int | str) -> int:
    """A class as its number; names in any case."""
    if isinstance(target, int):
        return target
    names = [name.lower() for name in model.input.classes]
    if target.lower() in names:
        return names.index(target.lower())
    known = closest(target, model.input.classes) or " Give its number."
    raise UsageError(f"No class {target!r} in {model.name}.{known}")


def output_layer(model: Model) -> str:
    """The path whose result the network returns, or turns into probabilities.

    Found by looking: on one picture of noise, the results are compared with what comes out.
    """
    height, width = model.input.size or _FALLBACK
    noise = torch.rand(
        2, model.input.channels, height, width, generator=torch.Generator().manual_seed(0)
    )
    batch = Batch(noise, None, ("noise", "noise"), single=False)
    scores = model.logits(batch).flatten(1)
    fitting = [la.path for la in model.layers if la.shape and prod(la.shape) == scores.shape[1]]
    found = model.activations(batch, fitting) if fitting else {}
    last_first = list(reversed(fitting))
    for path in sorted(last_first, key=lambda path: ("/" in path, "/pre" not in path)):
        if _is_score(found[path].flatten(1), scores):
            return path
    raise ModelError(
        f"{model.name} has no layer that gives one score a class, so there is no class to climb. "
        "Take a unit of a layer: PATH:CHANNEL"
    )


def _is_score(values: Tensor, output: Tensor) -> bool:
    """Whether ``values`` are the scores that the network returns or makes probabilities of."""
    sums = output.sum(1)
    probable = bool((output >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)
    if not probable:
        return torch.allclose(values, output, rtol=1e-4, atol=1e-5)
    return torch.allclose(values.softmax(1), output, rtol=1e-3, atol=1e-5) and not torch.allclose(
        values, output, atol=1e-7
    )
