"""The manner of a picture, as a network sees it, and how far another picture is from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convscope._errors import ModelError
from convscope._optvis.optimizer import no_gradient
from convscope._optvis.params import Size
from convscope._optvis.stylize.source_image import octave_sizes
from convscope._optvis.stylize.tiling import mirrored_indices
from convscope._optvis.transforms import Normalizer

_LEAST = 32  # the shortest side of the smallest size
_EMPTY = 1e-12


class StyleFeatures:
    """What a network sees of a picture: its manner, layer by layer, and its content."""

    def __init__(
        self,
        lens: Normalizer,
        layers: Sequence[str],
        content: str,
        weight: float,
        smoothness: float,
    ) -> None:
        self.lens, self.layers, self.content = lens, tuple(layers), content
        self.weight, self.smoothness = weight, smoothness
        self.device = torch.device("cpu")

    def activations(self, picture: Tensor, *, grad: bool = False) -> dict[str, Tensor]:
        wanted = dict.fromkeys((*self.layers, self.content))
        found = self.lens.model.activations(self.lens.batch(picture), wanted, grad=grad)
        self.device = next(iter(found.values())).device
        return found

    def maps(self, picture: Tensor) -> Tensor:
        """Of the content's layer alone."""
        model = self.lens.model
        with torch.no_grad():
            return model.activations(self.lens.batch(picture), [self.content])[self.content]

    def takes(self, size: Size) -> ModelError | None:
        """What the network says of a picture of this size; ``None`` where it takes it."""
        gray = torch.full((1, self.lens.model.input.channels, *size), 0.5, requires_grad=True)
        try:
            found = self.activations(gray, grad=True)
        except ModelError as error:
            return error
        for path, values in found.items():
            if not values.requires_grad:
                return no_gradient(self.lens.model, [path])
            if not bool(torch.isfinite(values).all()):
                return ModelError(
                    f"{path!r} of {self.lens.model.name} is not finite on a gray picture. Its "
                    "weights may hold NaN or infinity: load others, or take earlier layers"
                )
        return None

    def sizes(self, size: Size, count: int) -> list[Size]:
        """Sizes that the network takes, the largest being the picture's."""
        said = self.takes(size)
        if said is not None:
            raise said
        sizes = octave_sizes(size, count, 2.0, _LEAST)
        while self.takes(sizes[0]) is not None:
            sizes = sizes[1:]
        return sizes


def style_statistics(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The Gram matrix of maps about their means, and the means.

    Taken together, as by Gatys, the means drown the rest: after a ReLU they are most of it.
    """
    flat = maps[0].flatten(1)
    means = flat.mean(1, keepdim=True)
    apart = flat - means
    return apart @ apart.T / flat.shape[1], means


def distance(maps: Tensor, wanted: tuple[Tensor, Tensor]) -> Tensor:
    """Between manners: 0 where they are equal, 1 for a network that sees nothing."""
    found = style_statistics(maps)
    return torch.stack(
        [
            (mine - theirs).square().sum() / theirs.square().sum().clamp_min(_EMPTY)
            for mine, theirs in zip(found, wanted, strict=True)
        ]
    ).mean()


class StyleLoss:
    """What is wanted at one size."""

    def __init__(self, sight: StyleFeatures, content: Tensor, style: Tensor) -> None:
        self.sight, self.content = sight, content
        with torch.no_grad():
            seen = sight.activations(style)
            self.manner = {path: style_statistics(seen[path]) for path in sight.layers}
            self.contrast = _contrast(sight.maps(content))
            self.roughness = _roughness(content).clamp_min(_EMPTY)

    def errors(self, picture: Tensor, shift: tuple[int, int] = (0, 0)) -> tuple[Tensor, Tensor]:
        """In style and in content."""
        seen = self.sight.activations(_shifted(picture, shift), grad=picture.requires_grad)
        styles = [distance(seen[path], self.manner[path]) for path in self.sight.layers]
        wanted = self.sight.maps(_shifted(self.content, shift))
        content = (seen[self.sight.content] - wanted).square().mean() / self.contrast
        return torch.stack(styles).mean(), content

    def loss(self, picture: Tensor, shift: tuple[int, int]) -> Tensor:
        style, content = self.errors(picture, shift)
        loss = style + self.sight.weight * content
        if self.sight.smoothness:
            loss = loss + self.sight.smoothness * _roughness(picture) / self.roughness
        return loss


def _shifted(picture: Tensor, shift: tuple[int, int]) -> Tensor:
    if shift == (0, 0):
        return picture
    rows = mirrored_indices(picture.shape[-2], shift[0], picture.device)
    return picture[..., rows, :][..., mirrored_indices(picture.shape[-1], shift[1], picture.device)]


def _contrast(maps: Tensor) -> Tensor:
    return (maps - maps.mean((2, 3), keepdim=True)).square().mean().clamp_min(_EMPTY)


def _roughness(picture: Tensor) -> Tensor:
    """Total variation, of squares."""
    rows, columns = picture.diff(dim=-2), picture.diff(dim=-1)
    return rows.square().mean() + columns.square().mean()
