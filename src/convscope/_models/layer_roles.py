"""Which ReLU follows a layer, which kernel makes its channels, which layer gives the logits.

A scan determines this once on the live model and stores it, so that later steps need no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import torch
from torch import Tensor

from convscope._errors import ConvscopeError, ModelError, UsageError, closest
from convscope._layers import Layer
from convscope._models.inputs import Batch
from convscope._models.model import Model

NextReluAndKernel = dict[str, str | None]
_TRANSPARENT = ("maxpool", "dropout", "identity")  # active behind these only if active before them
_PER_CHANNEL = ("pool", "norm", "relu")  # families that treat each channel on its own
_ANY_SIZE = (64, 64)
_FALLBACK = (224, 224)


def find_relus_and_kernels(
    model: Model, paths: Sequence[str], size: tuple[int, int] | None = None
) -> dict[str, NextReluAndKernel]:
    """For each layer of ``paths``, as plain values for JSON, at ``size`` (height, width):

    - ``gate``: the path of the ReLU that this layer's values go through next, or ``None``. Found
      by execution order and checked on noise: the ReLU's output must be max(x, 0), or that cut
      at 6.
    - ``kernel``: the path of the layer whose kernel makes its channels, itself or one before it
      with only per-channel steps (normalization, ReLU, pooling) between; ``None`` where there is
      none.
    """
    steps = [layer for layer in model.layers if not layer.container]
    relus = _relus(model, steps, paths, size or model.input.size or _ANY_SIZE)
    return {path: {"gate": relus.get(path), "kernel": _kernel(steps, path)} for path in paths}


def _relus(
    model: Model, steps: list[Layer], paths: Iterable[str], size: tuple[int, int]
) -> dict[str, str]:
    likely = {path: relu for path in paths if (relu := _next_relu(steps, path))}
    if not likely:
        return {}
    chains = {path: [path, *_between(steps, path, relu), relu] for path, relu in likely.items()}
    recorded = _on_noise(
        model, list(dict.fromkeys(step for c in chains.values() for step in c)), size
    )
    return {
        path: likely[path]
        for path, chain in chains.items()
        if recorded and _is_rectified(recorded[chain[-2]], recorded[chain[-1]])
    }


def _on_noise(model: Model, paths: list[str], size: tuple[int, int]) -> dict[str, Tensor]:
    """Some layers' outputs for a noise image; empty where the model does not accept it."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1, model.input.channels, *size, generator=generator)
    try:
        return model.activations(Batch(values, None, ("noise",), single=True), paths)
    except ConvscopeError:
        raise
    except Exception:  # whatever a network raises at a size that it was not made for
        return {}


def _is_rectified(before: Tensor, after: Tensor) -> bool:
    if before.shape != after.shape:
        return False
    return any(torch.equal(before.clamp(0, limit), after) for limit in (torch.inf, 6.0))


def _next_relu(steps: list[Layer], path: str) -> str | None:
    for step in _after(steps, path):
        if may_be_relu(step):
            return step.path
        if not step.kind.lower().startswith(_TRANSPARENT):
            return None
    return None


def _between(steps: list[Layer], path: str, relu: str) -> list[str]:
    names = [step.path for step in steps]
    return names[names.index(path) + 1 : names.index(relu)]


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
        if not set(step.families) & set(_PER_CHANNEL) and not may_be_relu(step):
            return None
    return None


def may_be_relu(step: Layer) -> bool:
    """Whether a layer is a ReLU by its name; Keras's ``Activation`` does not say which it is."""
    return "relu" in step.families or step.kind.lower() in ("relu", "relu6", "activation")


def class_index(model: Model, target: int | str) -> int:
    """A class as its index; names in any case."""
    if isinstance(target, int):
        return target
    names = [name.lower() for name in model.input.classes]
    if target.lower() in names:
        return names.index(target.lower())
    known = closest(target, model.input.classes) or " Give its number."
    raise UsageError(f"No class {target!r} in {model.name}.{known}")


def output_layer(model: Model) -> str:
    """The path of the layer that gives the logits: what is returned, or softmax is applied to.

    Found by comparing the results for a noise image with the network's output.
    """
    height, width = model.input.size or _FALLBACK
    noise = torch.rand(
        2, model.input.channels, height, width, generator=torch.Generator().manual_seed(0)
    )
    batch = Batch(noise, None, ("noise", "noise"), single=False)
    output = model.logits(batch).flatten(1)
    fitting = [
        la.path for la in model.layers if not la.refusal and prod(la.shape or ()) == output.shape[1]
    ]
    results = model.activations(batch, fitting) if fitting else {}
    last_first = list(reversed(fitting))
    for path in sorted(last_first, key=lambda path: ("/" in path, "/pre" not in path)):
        if _are_logits(results[path].flatten(1), output):
            return path
    raise ModelError(
        f"{model.name} has no layer that gives one logit per class, so there is no class to "
        "maximize. Take a unit of a layer: PATH:CHANNEL"
    )


def _are_logits(values: Tensor, output: Tensor) -> bool:
    """Whether ``values`` are what the network returns or makes probabilities of."""
    sums = output.sum(1)
    probable = bool((output >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)
    if not probable:
        return torch.allclose(values, output, rtol=1e-4, atol=1e-5)
    return torch.allclose(values.softmax(1), output, rtol=1e-3, atol=1e-5) and not torch.allclose(
        values, output, atol=1e-7
    )
