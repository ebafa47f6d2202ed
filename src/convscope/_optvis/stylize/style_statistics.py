"""Style and content of an image in a network's activations, and the losses that compare them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convscope._errors import ModelError
from convscope._optvis.optimizer import no_gradient, not_finite
from convscope._optvis.params import Size
from convscope._optvis.stylize.source_image import octave_sizes
from convscope._optvis.stylize.tiling import mirrored_indices
from convscope._optvis.transforms import Normalizer

_MIN_SIDE = 32  # shorter side of the smallest size
_EPSILON = 1e-12


class StyleFeatures:
    """The activations that style and content are computed from."""

    def __init__(
        self,
        normalizer: Normalizer,
        layers: Sequence[str],
        content: str,
        weight: float,
        smoothness: float,
    ) -> None:
        self.normalizer, self.layers, self.content = normalizer, tuple(layers), content
        self.weight, self.smoothness = weight, smoothness
        self.device = torch.device("cpu")

    def activations(self, image: Tensor, *, grad: bool = False) -> dict[str, Tensor]:
        """Of all layers of style and content."""
        layers = dict.fromkeys((*self.layers, self.content))
        batch = self.normalizer.to_batch(image)
        activations = self.normalizer.model.activations(batch, layers, grad=grad)
        self.device = next(iter(activations.values())).device
        return activations

    def content_maps(self, image: Tensor) -> Tensor:
        """Of the content layer alone."""
        model = self.normalizer.model
        with torch.no_grad():
            return model.activations(self.normalizer.to_batch(image), [self.content])[self.content]

    def error_at(self, size: Size) -> ModelError | None:
        """The error of a gray image of this size; ``None`` where the network takes it."""
        gray = torch.full((1, self.normalizer.model.input.channels, *size), 0.5, requires_grad=True)
        try:
            activations = self.activations(gray, grad=True)
        except ModelError as error:
            return error
        for path, values in activations.items():
            if not values.requires_grad:
                return no_gradient(self.normalizer.model, [path])
            if not bool(torch.isfinite(values).all()):
                name = self.normalizer.model.name
                return not_finite(f"{path!r} of {name} is not finite", "earlier layers")
        return None

    def sizes(self, size: Size, count: int) -> list[Size]:
        """Sizes that the network takes, the largest being the image's."""
        error = self.error_at(size)
        if error is not None:
            raise error
        sizes = octave_sizes(size, count, 2.0, _MIN_SIDE)
        while self.error_at(sizes[0]) is not None:
            sizes = sizes[1:]
        return sizes


def style_statistics(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The covariance of the channels of maps ``(1, C, H, W)``, and their means.

    In the Gram matrix of Gatys, Ecker and Bethge (CVPR 2016), which holds both, the means dominate
    after a ReLU.
    """
    flat = maps[0].flatten(1)
    means = flat.mean(1, keepdim=True)
    centered = flat - means
    return centered @ centered.T / flat.shape[1], means


def style_distance(maps: Tensor, target: tuple[Tensor, Tensor]) -> Tensor:
    """Relative squared distance between styles: 0 where equal, 1 for activations of zero."""
    statistics = style_statistics(maps)
    return torch.stack(
        [
            (mine - theirs).square().sum() / theirs.square().sum().clamp_min(_EPSILON)
            for mine, theirs in zip(statistics, target, strict=True)
        ]
    ).mean()


class StyleLoss:
    """The losses at one size."""

    def __init__(self, features: StyleFeatures, content: Tensor, style: Tensor) -> None:
        self.features, self.content = features, content
        with torch.no_grad():
            activations = features.activations(style)
            self.style = {path: style_statistics(activations[path]) for path in features.layers}
            self.variance = _variance(features.content_maps(content))
            self.total_variation = _total_variation(content).clamp_min(_EPSILON)

    def errors(self, image: Tensor, shift: tuple[int, int] = (0, 0)) -> tuple[Tensor, Tensor]:
        """The losses of style and of content."""
        features = self.features
        activations = features.activations(_shifted(image, shift), grad=image.requires_grad)
        styles = [style_distance(activations[path], self.style[path]) for path in features.layers]
        target = features.content_maps(_shifted(self.content, shift))
        content = (activations[features.content] - target).square().mean() / self.variance
        return torch.stack(styles).mean(), content

    def loss(self, image: Tensor, shift: tuple[int, int]) -> Tensor:
        """The weighted sum of all losses."""
        style, content = self.errors(image, shift)
        loss = style + self.features.weight * content
        if self.features.smoothness:
            relative = _total_variation(image) / self.total_variation
            loss = loss + self.features.smoothness * relative
        return loss


def _shifted(image: Tensor, shift: tuple[int, int]) -> Tensor:
    if shift == (0, 0):
        return image
    rows = mirrored_indices(image.shape[-2], shift[0], image.device)
    return image[..., rows, :][..., mirrored_indices(image.shape[-1], shift[1], image.device)]


def _variance(maps: Tensor) -> Tensor:
    return (maps - maps.mean((2, 3), keepdim=True)).square().mean().clamp_min(_EPSILON)


def _total_variation(image: Tensor) -> Tensor:
    """Total variation, squared."""
    rows, columns = image.diff(dim=-2), image.diff(dim=-1)
    return rows.square().mean() + columns.square().mean()
