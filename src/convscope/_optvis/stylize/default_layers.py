"""The default layers of DeepDream and style transfer."""

from __future__ import annotations

from collections.abc import Sequence

from convscope._errors import ModelError
from convscope._layers import Layer
from convscope._models import Model

_ACTIVATIONS = ("relu", "elu", "gelu", "silu", "swish", "mish", "activation")


def check_takes_images(model: Model) -> None:
    """Refuse networks of volumes and of signals."""
    kind = model.input.kind
    if kind != "image":
        raise ModelError(f"{model.name} takes {kind}s; DeepDream and style transfer need images")


def layers_by_depth(model: Model) -> list[str]:
    """Paths of layers from shallow to deep: blocks, activations or convolutions.

    After the nonlinearity where there is one: negative values before it do not reach the next
    layer.
    """
    maps = [layer for layer in model.layers if layer.is_map and min(layer.shape[1:]) > 1]  # type: ignore[index]
    blocks = _blocks(maps)
    after = [layer for layer in maps if not layer.container and _is_activation(layer)]
    if blocks:
        first = maps.index(blocks[0])
        stem = [layer for layer in after if maps.index(layer) < first][:1]
        return [layer.path for layer in (*stem, *blocks)]
    convolutions = [la for la in maps if "conv" in la.families and not la.path.endswith("/pre")]
    layers = after if len(after) >= max(1, len(convolutions) / 2) else convolutions or maps
    if not layers:
        raise ModelError(f"{model.name} has no layer of maps. Name a layer. See: convscope layers")
    return [layer.path for layer in layers]


def _blocks(maps: Sequence[Layer]) -> list[Layer]:
    """Containers of the kind that comes most often, four times at least."""
    by_kind: dict[str, list[Layer]] = {}
    for layer in maps:
        if layer.container and layer.kind != "Sequential":
            by_kind.setdefault(layer.kind, []).append(layer)
    often = [layers for layers in by_kind.values() if len(layers) > 3]
    return max(often, key=lambda layers: sum(la.parameters for la in layers), default=[])


def _is_activation(layer: Layer) -> bool:
    return any(word in layer.kind.lower() for word in _ACTIVATIONS)


def layer_at_depth(paths: Sequence[str], share: float) -> str:
    """The path at this share of the depth, 0…1."""
    return paths[int(share * (len(paths) - 1) + 0.5)]


def shallow_layers(paths: Sequence[str], share: float, limit: int) -> list[str]:
    """At most ``limit`` paths at equal steps among the first ``share`` of them."""
    shallow = paths[: int(share * (len(paths) - 1)) + 1]
    if len(shallow) <= limit:
        return list(shallow)
    return [shallow[round(k * (len(shallow) - 1) / (limit - 1))] for k in range(limit)]
