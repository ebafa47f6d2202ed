"""What is to be explained: the score of a class, a unit, or one position of a unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from convscope._errors import UsageError, closest
from convscope._layers import Address, parse_address
from convscope._models import Batch, Model, probabilities
from convscope._models.outputs import output_layer


@dataclass(frozen=True)
class Target:
    """One number of a network's results.

    - ``path``, ``channel``, ``position``: where it is; a channel without a position is its mean.
    - ``name``: ``class cat``, or the address; ``index``: of the class, ``None`` for a unit.
    """

    path: str
    channel: int
    position: tuple[int, int] | None
    name: str
    index: int | None = None

    def score(self, found: Mapping[str, Tensor]) -> Tensor:
        """One number for each image: ``(N,)``."""
        values = found[self.path][:, self.channel]
        if self.position and values.ndim == 3:
            return values[:, self.position[0], self.position[1]]
        return values.reshape(len(values), -1).mean(1)


def resolve(model: Model, target: int | str | None, batch: Batch) -> Target:
    """A class by number or name, an address, or by default the class the network predicts."""
    if isinstance(target, str):
        named = _named_class(model, target)
        if named is None and _is_address(model, target):
            return _unit(model, target)
        target = named if named is not None else _number(model, target)
    path = output_layer(model)
    count = model.layers[path].channels
    if target is None:
        target = int(probabilities(model.logits(batch.one(0)))[0].argmax())
    if not 0 <= target < count:
        raise UsageError(
            f"No class {target} in {model.name}: it has {count}, 0 to {count - 1}. "
            f"See: convscope predict IMAGE -m {model.name}"
        )
    return Target(path, target, None, model.class_name(target), target)


def _named_class(model: Model, text: str) -> int | None:
    names = [name.lower() for name in model.input.classes]
    return names.index(text.strip().lower()) if text.strip().lower() in names else None


def _number(model: Model, text: str) -> int:
    if text.strip().lstrip("-").isdigit():
        return int(text)
    near = closest(text, model.input.classes) or " Give its number."
    raise UsageError(
        f"{text!r} is no class of {model.name} and no address of a unit.{near} "
        "A unit is PATH:CHANNEL"
    )


def _is_address(model: Model, text: str) -> bool:
    """Whether it reads as an address: it names a layer, or has a channel."""
    return _is_layer(model, text) or ":" in text


def _is_layer(model: Model, text: str) -> bool:
    return any(text == layer.path for layer in model.layers)


def _unit(model: Model, text: str) -> Target:
    layer, where = model.layers.at(Address(text) if _is_layer(model, text) else parse_address(text))
    if where.channel is None:
        raise UsageError(
            f"{text!r} is a layer, and one number is to be explained. Name a unit: "
            f"{layer.path}:0 to {layer.path}:{max(layer.channels - 1, 0)}"
        )
    return Target(layer.path, where.channel, where.position, str(where))
