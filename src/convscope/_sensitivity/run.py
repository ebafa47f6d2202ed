"""``sensitivity``: what channels and layers follow, and what they ignore."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._data import Shapes
from convscope._errors import UsageError, closest
from convscope._images import Preprocess
from convscope._layers import Layer
from convscope._loading import ImageLoader, Progress, open_images
from convscope._models import UNKNOWN_PREPROCESS, Batch, load
from convscope._sensitivity.changes import CHANGES, Change
from convscope._sensitivity.curves import Tuning, tune
from convscope._sensitivity.factors import FACTORS, redrawn, shapes_of
from convscope._sensitivity.responses import Effect, Probe, Responses, Unchanged
from convscope._sensitivity.result import LayerSensitivity, Sensitivity

_POOLS = ("mean", "peak")


def sensitivity(
    model: Any,
    images: Any,
    layers: str | Iterable[str] | None = None,
    *,
    changes: str | Sequence[str] | None = None,
    first: int = 64,
    pool: str = "mean",
    size: int | tuple[int, int] | None = None,
    progress: Progress = lambda done, of: None,
) -> Sensitivity:
    """Change pictures in controlled ways, and see which channels and layers notice.

    - ``images``: anything ``open_dataset`` takes; ``first``: so many of it, spread evenly. On
      ``shapes`` every known factor is also redrawn by itself.
    - ``layers``: paths, globs or ``kind=conv``; by default a few through the depth.
    - ``changes``: some of ``brightness``, ``contrast``, ``hue``, ``blur``, ``noise``, ``JPEG``,
      ``rotation``, ``scale``, ``translation``, ``occlusion``, ``flip``; all by default. They are
      made to what the model sees, at several strengths.
    - ``pool``: a channel's answer is the ``mean`` or the ``peak`` of its map.

    One invariance number a channel and change: 1 − E[(changed − unchanged)²] / 2 Var[unchanged];
    1 where the change never matters, 0 where it matters as much as showing another picture.
    Gratings and plain colors give the classical tuning curves. Raises ``UsageError`` for fewer
    than two pictures, and for networks that take no pictures.
    """
    loaded = load(model)
    chosen = loaded.layers.representative() if layers is None else loaded.layers.select(layers)
    named = [one for one in chosen if one.shape]
    if not named:
        raise UsageError(f"{', '.join(la.path for la in chosen)}: no layer with channels")
    if pool not in _POOLS:
        raise UsageError(f"No pool {pool!r}. Known: {', '.join(_POOLS)}")
    if loaded.input.depth:
        raise UsageError(f"{loaded.name} takes volumes; sensitivity changes pictures")
    kinds = _kinds(changes, loaded.input.channels)
    source = open_images(loaded, images, first=first, size=size)
    source.batch_size = 16
    return _Measured(source, named, kinds, pool).run(progress)


def _kinds(changes: str | Sequence[str] | None, channels: int) -> list[Change]:
    named = list(CHANGES) if changes is None else [changes] if isinstance(changes, str) else changes
    for name in named:
        if name not in CHANGES:
            raise UsageError(
                f"No change {name!r}.{closest(name, CHANGES)} Known: {', '.join(CHANGES)}"
            )
    return [CHANGES[n] for n in named if channels in (CHANGES[n].channels or (channels,))]


class _Measured:
    """One pass over the pictures, every change and factor at once."""

    def __init__(
        self, source: ImageLoader, layers: Sequence[Layer], kinds: Sequence[Change], pool: str
    ):
        self._source, self._layers, self._kinds, self._pool = source, layers, kinds, pool
        self._paths = [layer.path for layer in layers]
        self._shapes = shapes_of(source.dataset)
        self._before = Unchanged()
        self._effects: dict[tuple[str, float, str], Effect] = {}
        self._size = (0, 0)
        self._numbers = ""  # what 0…1 means where no pictures were given

    def run(self, progress: Progress) -> Sensitivity:
        probe: Probe | None = None
        for indices, batch in self._source.batches(progress):
            probe = probe or self._probe(batch)
            before = probe.responses(_pictures(batch, probe.preprocess))
            self._before.add(before)
            for key, pictures in self._changed(batch, indices, probe.preprocess):
                for path, after in probe.responses(pictures).items():
                    self._effect(key, path, after.shape[1]).add(before[path], after)
        count = sum(map(len, next(iter(self._before.rows.values()), [])))
        if probe is None or count < 2:
            raise UsageError(
                f"{self._source.dataset.name!r} gave {count} picture; sensitivity compares at "
                "least two"
            )
        return self._result(tune(probe, self._size))

    def _probe(self, batch: Batch) -> Probe:
        self._size = batch.size
        preprocess = batch.preprocess or _scale(self._source.model.input.preprocess, batch)
        self._numbers = "" if batch.preprocess else preprocess.origin
        return Probe(self._source.model, self._paths, preprocess, self._pool)

    def _changed(
        self, batch: Batch, indices: NDArray[np.int64], preprocess: Preprocess
    ) -> Iterator[tuple[tuple[str, float], Tensor]]:
        pictures = _pictures(batch, preprocess)
        for kind in self._kinds:
            for level in kind.levels:
                yield (kind.name, level), kind.apply(pictures, level)
        for factor in FACTORS if self._shapes else ():
            yield (f"factor {factor}", 0.0), self._redrawn(self._shapes, indices, factor)

    def _redrawn(self, shapes: Shapes | None, indices: NDArray[np.int64], factor: str) -> Tensor:
        assert shapes is not None
        drawn = [redrawn(shapes, int(index), factor) for index in indices]
        batch = self._source.model.prepare(drawn, size=self._source.size)
        return _pictures(batch, batch.preprocess or self._source.model.input.preprocess)

    def _effect(self, key: tuple[str, float], path: str, channels: int) -> Effect:
        known = (*key, path)
        if known not in self._effects:
            self._effects[known] = Effect(np.zeros(channels), np.zeros(channels))
        return self._effects[known]

    def _result(self, tuned: dict[str, Tuning]) -> Sensitivity:
        variances = self._before.variances()
        found = tuple(self._layer(la, variances, tuned[la.path]) for la in self._layers)
        lines = (
            f"model {self._source.model.title} · {self._source.describe()}, seen at "
            f"{self._size[0]}×{self._size[1]} · a channel's answer is the {self._pool} of its map",
            *([f"0…1 stands for {self._numbers}"] if self._numbers else []),
        )
        return Sensitivity(
            found, self._source.model.title, self._source.describe(), self._pool, lines
        )

    def _layer(self, layer: Layer, variances: Responses, tuned: Tuning) -> LayerSensitivity:
        path, variance = layer.path, variances[layer.path]
        by_change = {
            k.name: [self._effects[k.name, level, path] for level in k.levels] for k in self._kinds
        }
        return LayerSensitivity(
            layer,
            {n: np.stack([e.invariance(variance) for e in es]) for n, es in by_change.items()},
            {n: np.stack([e.shift(variance) for e in es]) for n, es in by_change.items()},
            {
                f: 1 - self._effects[f"factor {f}", 0.0, path].invariance(variance)
                for f in (FACTORS if self._shapes else ())
            },
            tuned,
        )


def _scale(own: Preprocess, batch: Batch) -> Preprocess:
    """What turns 0…1 into numbers like these: the model's own where it is known, else their range.

    The changes are made to 0…1, so their strengths mean what they say.
    """
    if own.origin != UNKNOWN_PREPROCESS.origin:
        return own
    low, high = float(batch.values.min()), float(batch.values.max())
    span = max(high - low, 1e-12)
    origin = f"numbers from {low:.3g} to {high:.3g}, as the first {len(batch)} have them"
    return Preprocess(mean=-low / span, std=1 / span, origin=origin)


def _pictures(batch: Batch, preprocess: Preprocess) -> Tensor:
    """What the model sees, 0…1, ``(N, C, H, W)``."""
    if batch.views is None:
        arrays = [_with_channels(preprocess.restore(one)) for one in batch.values.cpu().numpy()]
    else:
        arrays = [_with_channels(np.array(view.seen)) for view in batch.views]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255


def _with_channels(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels[..., None] if pixels.ndim == 2 else pixels
