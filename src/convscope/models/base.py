"""What the rest of convscope may know of a model: the seam.

Above this line activations are float32 torch tensors, ``N C H W``, keyed by path. Layouts, devices,
frameworks and hooks are settled in ``models/`` and nowhere else.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope.errors import ImageError, ModelError, UnknownLayer, UsageError
from convscope.images import is_picture
from convscope.layers import Layers
from convscope.preprocess import Preprocess, View

UNKNOWN_PREPROCESS = Preprocess(origin="assumed: the model brings none; tell it with --preprocess")


@dataclass(frozen=True)
class Input:
    """What a model takes and what its outputs mean.

    - ``channels``: of the input.
    - ``preprocess``: from a picture to numbers; its ``size`` is ``(height, width)`` or ``None``.
    - ``classes``: names of the outputs, empty where they are unknown.
    - ``note``: what had to be assumed, to be shown with every result; empty where nothing was.
    """

    channels: int = 3
    preprocess: Preprocess = UNKNOWN_PREPROCESS
    classes: tuple[str, ...] = ()
    note: str = ""

    @property
    def size(self) -> tuple[int, int] | None:
        """``(height, width)`` the model expects, ``None`` where any will do or none is known."""
        return self.preprocess.size


@dataclass(frozen=True)
class Batch:
    """Model-ready images: ``values`` float32 ``(N, C, H, W)``, and where they come from.

    ``views`` holds one ``View`` per picture, and ``preprocess`` is what made them; both are
    ``None`` where the caller gave numbers.
    """

    values: Tensor
    views: tuple[View, ...] | None
    names: tuple[str, ...]
    single: bool
    preprocess: Preprocess | None = None

    def __len__(self) -> int:
        return len(self.values)

    def one(self, index: int) -> Batch:
        """The image at ``index`` as a batch of its own."""
        views = None if self.views is None else (self.views[index],)
        return Batch(self.values[index : index + 1], views, (self.names[index],), True, self.preprocess)

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of the images as the model sees them."""
        return int(self.values.shape[2]), int(self.values.shape[3])


class Model(abc.ABC):
    """A network that can be looked into. Made by ``cs.load``; never changed by convscope.

    - ``name``: what the user typed, or the class name.
    - ``input``: what it takes.
    """

    def __init__(self, name: str, input: Input) -> None:
        self.name = name
        self.input = input

    @abc.abstractmethod
    def _trace(self) -> Layers:
        """Run one sample through the network and list what it computes."""

    @abc.abstractmethod
    def _record(self, values: Tensor, paths: Sequence[str], grad: bool) -> dict[str, Tensor]:
        """The outputs of the layers, in the standard layout."""

    @abc.abstractmethod
    def _forward(self, values: Tensor, grad: bool) -> Tensor:
        """The network's output ``(N, classes)``."""

    @abc.abstractmethod
    def _weights(self, path: str) -> NDArray[np.float32] | None:
        """The kernel of a layer in the standard layout, ``None`` where it has none."""

    @abc.abstractmethod
    def _standard_input(self, values: Tensor) -> Tensor:
        """A batch in the model's own layout, as ``(N, C, H, W)``."""

    @abc.abstractmethod
    def _layout(self, channels: int) -> tuple[Any, ...]:
        """The shape of one image in the model's own layout, for messages."""

    @abc.abstractmethod
    def looks_untrained(self) -> str:
        """Why the weights look as if they had never been trained; empty where they do not."""

    @cached_property
    def layers(self) -> Layers:
        """Every layer that a forward pass calls, in execution order; prints as a table."""
        return self._trace()

    def weights(self, path: str) -> NDArray[np.float32]:
        """The kernel of the layer at ``path``: ``(out, in, height, width)`` float32.

        Linear layers give ``(out, in)``. ``in`` counts the channels of one group. Raises
        ``UnknownLayer`` where the layer has no kernel.
        """
        layer = self.layers[path]
        kernel = self._weights(path)
        if kernel is None:
            conv = [la.path for la in self.layers if "conv" in la.families][:3]
            raise UnknownLayer(
                f"{layer.kind} {path!r} of {self.name} has no kernel. "
                f"Layers that have one: {', '.join(map(repr, conv)) or 'none'}"
            )
        return kernel

    def activations(
        self, images: Any, layers: str | Iterable[str], *, grad: bool = False
    ) -> dict[str, Tensor]:
        """The raw outputs of some layers, one forward pass, nothing computed past the deepest.

        ``images`` is whatever ``prepare`` takes. Returns float32 tensors by path, ``(N, C, H, W)``
        for maps and ``(N, features)`` for linear layers. With ``grad=True`` each is part of the
        graph from the images: ``torch.autograd.grad`` may be taken with respect to it, and, where
        ``images`` is a tensor that requires gradients, with respect to that.
        """
        paths = [layer.path for layer in self.layers.select(layers)]
        return self._record(self.prepare(images).values, paths, grad)

    def logits(self, images: Any, *, grad: bool = False) -> Tensor:
        """What the network returns for ``images``: ``(N, classes)``, softmax or not as it is."""
        return self._forward(self.prepare(images).values, grad)

    def predict(self, images: Any, *, top: int = 5) -> Any:
        """The most probable classes: ``[(class name, probability), …]``; for a list, a list.

        A single output is taken as the probability of its one class. Raises ``ModelError`` where
        the network is no classifier, or has another number of outputs than class names.
        """
        batch = self.prepare(images)
        scores = self._forward(batch.values, grad=False)
        self._check_scores(scores)
        results = [self._ranked(row, top) for row in probabilities(scores)]
        return results[0] if batch.single else results

    def _check_scores(self, scores: Tensor) -> None:
        shape = "×".join(map(str, scores.shape[1:]))
        if scores.ndim < 2 or scores.shape[1] != scores[0].numel():
            raise ModelError(
                f"{self.name} returns {shape or 'one number'} for an image, not one score a class, "
                "so it predicts nothing. Look at its feature maps"
            )
        if self.input.classes and len(self.input.classes) != scores.shape[1]:
            raise ModelError(
                f"{self.name} has {scores.shape[1]} outputs and {len(self.input.classes)} class "
                "names. Give their names in order: --classes FILE"
            )

    def _ranked(self, row: Tensor, top: int) -> list[tuple[str, float]]:
        best = torch.topk(row, max(1, min(top, len(row))))
        return [
            (self.class_name(int(k)), float(p))
            for p, k in zip(best.values, best.indices, strict=True)
        ]

    def class_name(self, index: int) -> str:
        """The name of class ``index``, or ``class 7`` where names are unknown."""
        names = self.input.classes
        return names[index] if index < len(names) else f"class {index}"

    def prepare(self, images: Any, *, size: int | tuple[int, int] | None = None) -> Batch:
        """Model-ready values from pictures or numbers.

        A path, a PIL image or anything uint8 is a picture and is preprocessed; a float array or
        tensor is taken as it is, in the model's own layout, with or without a batch axis; a list
        is a batch. ``size`` shows pictures at another size than the model's own.
        """
        if isinstance(images, Batch):
            return images
        sides = (size, size) if isinstance(size, int) else size
        if isinstance(images, (list, tuple)) or _is_many_pictures(images):
            if not len(images):
                raise UsageError("No image was given")
            return _join([self.prepare(image, size=sides) for image in images])
        if is_picture(images):
            return self._from_picture(images, sides)
        return self._from_numbers(images, sides)

    def _from_picture(self, source: Any, sides: tuple[int, int] | None) -> Batch:
        preprocess = self.input.preprocess.at(sides) if sides else self.input.preprocess
        view = preprocess.view(source, self.input.channels)
        values = torch.from_numpy(preprocess.normalise(view.seen))[None]
        return Batch(values, (view,), (view.name,), single=True)

    def _from_numbers(self, images: Any, sides: tuple[int, int] | None) -> Batch:
        values = _as_floats(images)
        if values is None or values.ndim not in (3, 4):
            raise ImageError(
                f"{_what(images)} is not an image. Give a path, a PIL image, a uint8 picture, or a "
                f"float array {_shape(self._layout(self.input.channels))}"
            )
        if not values.numel():
            raise ImageError(f"{_what(images)} holds no image")
        single = values.ndim == 3
        standard = self._standard_input(values[None] if single else values)
        if standard.shape[1] != self.input.channels:
            raise ImageError(self._wrong_channels(images, values, int(standard.shape[1])))
        size = (int(standard.shape[2]), int(standard.shape[3]))
        if sides and sides != size:
            raise UsageError(
                f"size= resizes pictures, and {_what(images)} is model-ready. Give a picture, or "
                "an array of that size"
            )
        names = ("array",) if single else tuple(f"array {i}" for i in range(len(values)))
        return Batch(standard, None, names, single)

    def _wrong_channels(self, images: Any, values: Tensor, found: int) -> str:
        wanted = self.input.channels
        swapped = values.shape[-1] if self._layout(0)[0] == 0 else values.shape[-3]
        hint = " Its axes seem to be in another order." if swapped == wanted else ""
        return (
            f"{_what(images)} has {found} channel{'s' * (found != 1)} where {self.name} takes "
            f"{wanted}.{hint} Give {_shape(self._layout(wanted))}, or a picture"
        )

    def seen(self, batch: Batch, index: int = 0) -> tuple[NDArray[np.uint8], str]:
        """What the model sees as a picture ``(H, W, 3)`` uint8, and a note on how it was made."""
        if batch.views is not None:
            return np.asarray(batch.views[index].seen.convert("RGB")), ""
        values = batch.values[index].detach().cpu().numpy()
        if self.input.preprocess.origin != UNKNOWN_PREPROCESS.origin and len(values) in (1, 3):
            pixels = self.input.preprocess.restore(values)
            note = "drawn by undoing the model's normalisation"
        else:
            pixels = _stretched(values)
            part = "" if len(values) in (1, 3) else f"channel 0 of {len(values)}, "
            low, high = np.nanmin(values), np.nanmax(values)
            note = f"{part}numbers from {low:.3g} to {high:.3g}, drawn black to white"
        return (np.repeat(pixels[:, :, None], 3, 2) if pixels.ndim == 2 else pixels), note

    def told(self, **changes: Any) -> None:
        """Replace parts of ``input``: what the user says of the model wins."""
        self.input = replace(self.input, **changes)


def probabilities(outputs: Tensor) -> Tensor:
    """Rows that are no distribution already go through a softmax, a single output a sigmoid."""
    rows = outputs.detach().float().flatten(1)
    if rows.shape[1] == 1:
        inside = bool(((rows >= 0) & (rows <= 1)).all())
        return rows if inside else rows.sigmoid()
    if bool((rows >= 0).all()) and bool(((rows.sum(1) - 1).abs() < 1e-3).all()):
        return rows
    return rows.softmax(1)


def _is_many_pictures(images: Any) -> bool:
    return getattr(images, "ndim", 0) == 4 and is_picture(images)


def _as_floats(images: Any) -> Tensor | None:
    """An array of floats of any framework as float32; ``None`` where it is something else."""
    if isinstance(images, Tensor):
        return images.float() if images.is_floating_point() else None
    if not hasattr(images, "__array__"):
        return None
    values = np.asarray(images)
    if not np.issubdtype(values.dtype, np.floating):
        return None
    return torch.from_numpy(np.array(values, np.float32, order="C"))  # a copy: any strides will do


def _join(batches: Sequence[Batch]) -> Batch:
    sizes = {tuple(b.values.shape[1:]) for b in batches}
    if len(sizes) > 1:
        named = ", ".join(f"{b.names[0]} {b.size[0]}×{b.size[1]}" for b in batches[:3])
        raise ImageError(f"Images of one call must have one size, not {named}. Set one with size=")
    views = [view for b in batches if b.views is not None for view in b.views]
    return Batch(
        torch.cat([b.values for b in batches]),
        tuple(views) if len(views) == sum(map(len, batches)) else None,
        tuple(name for b in batches for name in b.names),
        single=False,
        preprocess=batches[0].preprocess,
    )


def _what(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is None or not hasattr(value, "dtype"):
        return f"A value of type {type(value).__name__}"
    return f"An array of {str(value.dtype).removeprefix('torch.')} of shape {_shape(shape)}"


def _shape(sides: Iterable[Any]) -> str:
    return f"({', '.join(map(str, sides))})"


def _stretched(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Numbers as grey or, with three channels, colour; the first channel where there are others."""
    shown = values if len(values) in (1, 3) else values[:1]
    shown = np.nan_to_num(shown, posinf=0, neginf=0)
    low, high = float(shown.min()), float(shown.max())
    pixels = ((shown - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8)
    return pixels[0] if len(pixels) == 1 else np.ascontiguousarray(np.moveaxis(pixels, 0, 2))
