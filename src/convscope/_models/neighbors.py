"""What stands around a layer: the ReLU its values go through next, the filters that made them.

A scan asks this of the live model once, and keeps the answer, so that the findings need no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from convscope._errors import ConvscopeError
from convscope._layers import Layer
from convscope._models import Batch, Model

Wires = dict[str, str | None]
_PASSED = ("maxpool", "dropout", "identity")  # a ReLU is on behind these only if it is before them
_PER_CHANNEL = ("pool", "norm", "relu")  # families that leave each channel by itself
_ANY_SIZE = (64, 64)


def wiring(
    model: Model, paths: Sequence[str], size: tuple[int, int] | None = None
) -> dict[str, Wires]:
    """For each layer of ``paths``, as plain values for JSON, at ``size`` (height, width):

    - ``gate``: the path of the ReLU that this layer's values go through next, or ``None``. Found
      by the order of execution and checked on noise: the ReLU's output must be max(x, 0),
      or that cut at 6.
    - ``kernel``: the path of the layer whose filters make its channels, itself or one before it
      with only per-channel steps (normalization, ReLU, pooling) between; ``None`` where there is
      none.
    """
    steps = [layer for layer in model.layers if not layer.container]
    gates = _gates(model, steps, paths, size or model.input.size or _ANY_SIZE)
    return {path: {"gate": gates.get(path), "kernel": _kernel(steps, path)} for path in paths}


def _gates(
    model: Model, steps: list[Layer], paths: Iterable[str], size: tuple[int, int]
) -> dict[str, str]:
    likely = {path: gate for path in paths if (gate := _next_relu(steps, path))}
    if not likely:
        return {}
    chains = {path: [path, *_between(steps, path, gate), gate] for path, gate in likely.items()}
    wanted = list(dict.fromkeys(step for chain in chains.values() for step in chain))
    found = _on_noise(model, wanted, size)
    return {
        path: likely[path]
        for path, chain in chains.items()
        if found and _gated(found[chain[-2]], found[chain[-1]])
    }


def _on_noise(model: Model, paths: list[str], size: tuple[int, int]) -> dict[str, Tensor]:
    """Some layers' outputs for one picture of noise; empty where the model does not take it."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1, model.input.channels, *size, generator=generator)
    try:
        return model.activations(Batch(values, None, ("noise",), single=True), paths)
    except ConvscopeError:
        raise
    except Exception:  # whatever a network raises at a size that it was not made for
        return {}


def _gated(before: Tensor, after: Tensor) -> bool:
    if before.shape != after.shape:
        return False
    return any(torch.equal(before.clamp(0, most), after) for most in (torch.inf, 6.0))


def _next_relu(steps: list[Layer], path: str) -> str | None:
    for step in _after(steps, path):
        if perhaps_relu(step):
            return step.path
        if not step.kind.lower().startswith(_PASSED):
            return None
    return None


def _between(steps: list[Layer], path: str, gate: str) -> list[str]:
    names = [step.path for step in steps]
    return names[names.index(path) + 1 : names.index(gate)]


def _after(steps: list[Layer], path: str) -> list[Layer]:
    names = [step.path for step in steps]
    return steps[names.index(path) + 1 :] if path in names else []


def _kernel(steps: list[Layer], path: str) -> str | None:
    names = [step.path for step in steps]
    if path not in names:
        return None
    at = names.index(path)
    channels = steps[at].channels
    for step in reversed(steps[: at + 1]):
        if step.channels != channels:
            return None
        if step.parameters and {*step.families, step.kind.lower()} & {"conv", "linear", "dense"}:
            return step.path
        if not set(step.families) & set(_PER_CHANNEL) and not perhaps_relu(step):
            return None
    return None


def perhaps_relu(step: Layer) -> bool:
    """By its name; Keras's ``Activation`` does not say which."""
    return "relu" in step.families or step.kind.lower() in ("relu", "relu6", "activation")
