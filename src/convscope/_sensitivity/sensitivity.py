"""``sensitivity``: which changes of an image change the responses of channels and layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._errors import UsageError, check_name
from convscope._images import Preprocess
from convscope._layers import Layer
from convscope._loading import ImageLoader, ImagesLike, Progress, open_images
from convscope._models import UNKNOWN_PREPROCESS, Batch, ModelLike, load
from convscope._sensitivity.layer_sensitivity import LayerSensitivity
from convscope._sensitivity.perturbations import (
    FACTORS,
    PERTURBATIONS,
    Perturbation,
    redraw_factor,
    shapes_of,
)
from convscope._sensitivity.responses import (
    OriginalResponses,
    PerturbationEffect,
    ResponseExtractor,
    Responses,
)
from convscope._sensitivity.sensitivity_result import SensitivityResult
from convscope._sensitivity.tuning import TuningCurves, measure_tuning

_POOLS = ("mean", "peak")
_BATCH_SIZE = 16


def sensitivity(
    model: ModelLike,
    images: ImagesLike,
    layers: str | Iterable[str] | None = None,
    *,
    perturbations: str | Sequence[str] | None = None,
    first: int = 64,
    pool: str = "mean",
    size: int | tuple[int, int] | None = None,
    progress: Progress = lambda done, total: None,
) -> SensitivityResult:
    """Perturb images in controlled ways, and measure how much the responses of channels change.

    One invariance per channel, perturbation and level: 1 − E[(perturbed − original)²] /
    2 Var[original]: 1 where the perturbation never changes the response, 0 where it changes it as
    much as another image does (compare Goodfellow et al., NIPS 2009). Gratings and plain colors
    give the classical tuning curves (Hubel and Wiesel, 1959).

    Args:
        model: A loaded model, or anything ``load`` takes.
        images: Anything ``open_dataset`` takes. On the procedural ``shapes``, every factor is
            also redrawn by itself, for the variance that it explains.
        layers: Paths, globs or ``kind=conv``; by default a few through the depth.
        perturbations: Some of ``brightness``, ``contrast``, ``hue``, ``blur``, ``noise``,
            ``JPEG``, ``rotation``, ``scale``, ``translation``, ``occlusion``, ``flip``; by default
            all. They apply to resized and cropped images, at several levels.
        first: Number of images, spread evenly over the dataset.
        pool: The response of a channel is the ``mean`` or the ``peak`` of its map.
        size: Side, or height and width, in pixels to resize images to, instead of the model's.
        progress: Called with the number of images done and their total.

    Returns:
        By path of a layer, invariances ``(levels, C)`` for each perturbation, and tuning curves.

    Raises:
        UsageError: For fewer than two images, an unknown perturbation or pool, and for networks
            whose input is not an image.
        UnknownLayer: For a layer that does not exist.
    """
    loaded = load(model)
    selected = loaded.layers.representative() if layers is None else loaded.layers.select(layers)
    with_channels = [layer for layer in selected if not layer.refusal]
    if not with_channels:
        raise UsageError(f"{', '.join(la.path for la in selected)}: no layer with channels")
    check_name("pool", pool, _POOLS)
    if loaded.input.kind != "image":
        raise UsageError(f"{loaded.name} takes {loaded.input.kind}s; sensitivity perturbs images")
    kinds = _select_perturbations(perturbations, loaded.input.channels)
    loader = open_images(loaded, images, first=first, size=size)
    loader.batch_size = _BATCH_SIZE
    return _Measurement(loader, with_channels, kinds, pool).run(progress)


def _select_perturbations(names: str | Sequence[str] | None, channels: int) -> list[Perturbation]:
    """Those of these names that are defined for a number of input channels."""
    names = list(PERTURBATIONS) if names is None else [names] if isinstance(names, str) else names
    kinds = [PERTURBATIONS[check_name("perturbation", name, PERTURBATIONS)] for name in names]
    return [kind for kind in kinds if channels in (kind.channels or (channels,))]


class _Measurement:
    """One pass over the images, all perturbations and factors at once."""

    def __init__(
        self,
        loader: ImageLoader,
        layers: Sequence[Layer],
        perturbations: Sequence[Perturbation],
        pool: str,
    ):
        self._loader, self._layers, self._pool = loader, layers, pool
        self._perturbations = perturbations
        self._shapes = shapes_of(loader.dataset)
        self._factors = tuple(FACTORS) if self._shapes else ()
        self._original = OriginalResponses()
        self._effects: dict[tuple[str, float, str], PerturbationEffect] = {}
        self._size = (0, 0)
        self._value_range = ""  # what 0…1 means where the input is no image

    def run(self, progress: Progress) -> SensitivityResult:
        extractor: ResponseExtractor | None = None
        for indices, batch in self._loader.batches(progress):
            extractor = extractor or self._extractor(batch)
            original = extractor.responses(_images(batch, extractor.preprocess))
            self._original.add(original)
            for key, images in self._changed(batch, indices, extractor.preprocess):
                for path, perturbed in extractor.responses(images).items():
                    self._effect(key, path, perturbed.shape[1]).add(original[path], perturbed)
        if extractor is None or self._original.count < 2:
            raise UsageError(
                f"{self._loader.dataset.name!r} gave {self._original.count} image; sensitivity "
                "compares at least two"
            )
        return self._result(measure_tuning(extractor, self._size))

    def _extractor(self, batch: Batch) -> ResponseExtractor:
        self._size = batch.size
        model = self._loader.model
        preprocess = batch.preprocess or _value_scale(model.input.preprocess, batch)
        self._value_range = "" if batch.preprocess else preprocess.origin
        paths = [layer.path for layer in self._layers]
        return ResponseExtractor(model, paths, preprocess, self._pool)

    def _changed(
        self, batch: Batch, indices: NDArray[np.int64], preprocess: Preprocess
    ) -> Iterator[tuple[tuple[str, float], Tensor]]:
        images = _images(batch, preprocess)
        for kind in self._perturbations:
            for level in kind.levels:
                yield (kind.name, level), kind.apply(images, level)
        for factor in self._factors:
            yield _factor_key(factor), self._redrawn(indices, factor)

    def _redrawn(self, indices: NDArray[np.int64], factor: str) -> Tensor:
        assert self._shapes is not None
        redrawn = [redraw_factor(self._shapes, int(index), factor) for index in indices]
        batch = self._loader.model.prepare(redrawn, size=self._loader.size)
        return _images(batch, batch.preprocess or self._loader.model.input.preprocess)

    def _effect(self, key: tuple[str, float], path: str, channels: int) -> PerturbationEffect:
        zeros = np.zeros((2, channels))
        return self._effects.setdefault((*key, path), PerturbationEffect(*zeros))

    def _result(self, tuning: dict[str, TuningCurves]) -> SensitivityResult:
        variances = self._original.variances()
        model, images = self._loader.model.title, self._loader.describe()
        lines = (
            f"model {model} · {images}, preprocessed to {self._size[0]}×{self._size[1]} · response "
            f"of a channel: {self._pool} of its map",
            *([f"0…1 stands for {self._value_range}"] if self._value_range else []),
        )
        layers = tuple(self._layer(la, variances, tuning[la.path]) for la in self._layers)
        return SensitivityResult(layers, model, images, self._pool, lines)

    def _layer(self, layer: Layer, variances: Responses, tuning: TuningCurves) -> LayerSensitivity:
        path, variance = layer.path, variances[layer.path]
        effects = {
            kind.name: [self._effects[kind.name, level, path] for level in kind.levels]
            for kind in self._perturbations
        }
        return LayerSensitivity(
            layer,
            {n: np.stack([e.invariance(variance) for e in es]) for n, es in effects.items()},
            {n: np.stack([e.shift(variance) for e in es]) for n, es in effects.items()},
            {
                factor: 1 - self._effects[(*_factor_key(factor), path)].invariance(variance)
                for factor in self._factors
            },
            tuning,
        )


def _factor_key(factor: str) -> tuple[str, float]:
    return f"factor {factor}", 0.0


def _value_scale(own: Preprocess, batch: Batch) -> Preprocess:
    """From 0…1 to numbers like these: the model's own preprocessing, else the range of the batch.

    Perturbations apply to 0…1, so that their levels mean what they say.
    """
    if own.origin != UNKNOWN_PREPROCESS.origin:
        return own
    low, high = float(batch.values.min()), float(batch.values.max())
    span = max(high - low, 1e-12)
    origin = f"numbers from {low:.3g} to {high:.3g}, the range of the first {len(batch)}"
    return Preprocess(mean=-low / span, std=1 / span, origin=origin)


def _images(batch: Batch, preprocess: Preprocess) -> Tensor:
    """Resized and cropped images, 0…1, ``(N, C, H, W)``."""
    if batch.views is None:
        arrays = [_with_channels(preprocess.restore(one)) for one in batch.values.cpu().numpy()]
    else:
        arrays = [_with_channels(np.array(view.pixels)) for view in batch.views]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255


def _with_channels(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels[..., None] if pixels.ndim == 2 else pixels
