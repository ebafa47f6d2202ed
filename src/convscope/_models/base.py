"""What the rest of convscope may know of a model: the seam.

Above this line activations are float32 torch tensors, ``N C H W``, keyed by path. Layouts, devices,
frameworks and hooks are settled in ``models/`` and nowhere else.
"""

from __future__ import annotations

import abc
import copy
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convscope._errors import ModelError, UnknownLayer, untrained_note
from convscope._layers import Layers
from convscope._models.batch import (
    UNKNOWN_PREPROCESS,
    Batch,
    Input,
)
from convscope._models.preparing import Preparing
from convscope._models.receptive import ReceptiveField
from convscope._models.streaming import Consume

Edit = Callable[[Tensor], Tensor]
"""Given a layer's result, returns what the network goes on with; must not write into it."""


class Model(Preparing):
    """A network that can be looked into. Made by ``cs.load``; never changed by convscope.

    - ``name``: what the user typed, or the class name; commands can be given it again.
    - ``title``: the name for pictures, with the file of weights where one was given.
    - ``input``: what it takes.
    """

    in_torch = True  # whether a pass is made of torch operations, which torch's modes see

    def __init__(self, name: str, input: Input) -> None:
        self.name = name
        self.weights_file = ""
        self.random_weights = False
        self.input = input
        self._edits: Mapping[str, Edit] = {}
        self._fields_of_size: dict[tuple[int, int] | None, Mapping[str, ReceptiveField]] = {}

    @property
    def title(self) -> str:
        """The name for pictures: ``torchvision:vgg16 · weights mine.pth``."""
        if not self.weights_file:
            return self.name
        return f"{self.name.replace(',weights=none', '')} · weights {self.weights_file}"

    def __repr__(self) -> str:
        size = "×".join(map(str, self.input.shape or (self.input.channels, "any", "size")))
        return f"{type(self).__name__}({self.title!r}, input {size})"

    @abc.abstractmethod
    def _trace(self) -> Layers:
        """Run one sample through the network and list what it computes."""

    @abc.abstractmethod
    def _record(
        self, values: Tensor, paths: Sequence[str], grad: bool, raw: bool = False
    ) -> dict[str, Tensor]:
        """The outputs of the layers, in the standard layout, or ``raw``, in the network's own."""

    @abc.abstractmethod
    def _stream(self, values: Tensor, paths: Sequence[str], consume: Consume) -> None:
        """Give the outputs of the layers to ``consume``, each as soon as it is computed."""

    @abc.abstractmethod
    def _state(self) -> Iterable[tuple[str, NDArray[Any]]]:
        """Every number that the network has learned or keeps, by name, in a fixed order."""

    @abc.abstractmethod
    def _forward(self, values: Tensor, grad: bool) -> Tensor:
        """The network's output ``(N, classes)``."""

    @abc.abstractmethod
    def _weights(self, path: str) -> NDArray[np.float32] | None:
        """The kernel of a layer in the standard layout, ``None`` where it has none."""

    @abc.abstractmethod
    def _untrained_evidence(self) -> str:
        """What in the weights looks as if they had never been trained; empty where nothing does."""

    @cached_property
    def layers(self) -> Layers:
        """Every layer that a forward pass calls, in execution order; prints as a table."""
        return self._trace()

    def untrained_evidence(self) -> str:
        """Why the weights look as if they had never been trained; empty where they do not."""
        if self.random_weights:
            return "its weights are random, as asked"
        return self._untrained_evidence()

    def untrained_note(self, subject: str = "this network") -> str:
        """The warning that ``subject`` looks untrained, and why; empty where it does not."""
        return untrained_note(self.untrained_evidence(), subject)

    def receptive_fields(self, size: tuple[int, int] | None = None) -> Mapping[str, ReceptiveField]:
        """What of the image each position of each layer depends on, by path.

        ``size`` is the height and width of the image, by default what the model takes. Traced in
        one forward pass, and kept.
        """
        size = size or self.input.size
        if size not in self._fields_of_size:
            self._fields_of_size[size] = self._fields(size)
        return self._fields_of_size[size]

    def _fields(self, size: tuple[int, int] | None) -> Mapping[str, ReceptiveField]:
        raise ModelError(
            f"The receptive fields of {self.name} can be traced on torch only. For a Keras model: "
            "KERAS_BACKEND=torch"
        )

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
        self, images: Any, layers: str | Iterable[str], *, grad: bool = False, raw: bool = False
    ) -> dict[str, Tensor]:
        """The outputs of some layers, one forward pass, nothing computed past the deepest.

        ``images`` is whatever ``prepare`` takes. Returns float32 tensors by path, ``(N, C, H, W)``
        for maps, ``(N, C, L)`` for lines, ``(N, C, D, H, W)`` for volumes and ``(N, features)``
        for the rest. Channels that the network keeps last come second; tokens and windows are put
        back on their grid, and those that belong to no place of it (class tokens, registers) are
        left out. With ``raw=True`` each is laid out as in the network, with every token.

        With ``grad=True`` each is part of the graph from the images: ``torch.autograd.grad`` may be
        taken with respect to it, and, where ``images`` is a tensor that requires gradients, with
        respect to that.
        """
        paths = [layer.path for layer in self.layers.select(layers)]
        return self._record(self.prepare(images).values, paths, grad, raw)

    def stream(self, images: Any, layers: str | Iterable[str], consume: Consume) -> None:
        """One forward pass that calls ``consume(path, activation)`` as each layer has run.

        The activations are those of ``activations``, in the order of execution, but none is kept:
        each is valid during the call only, and memory holds what the network itself needs. The
        pass ends after the deepest layer; what ``consume`` raises ends it at once.
        """
        paths = [layer.path for layer in self.layers.select(layers)]
        self._stream(self.prepare(images).values, paths, consume)

    def room(self) -> int:
        """Bytes that the activations of one batch may well take where the network lives."""
        return 1 << 28

    def fingerprint(self) -> str:
        """A checksum of all its numbers, as hexadecimal digits: other weights, another one."""
        digest = hashlib.sha256()
        for name, value in self._state():
            digest.update(f"{name} {value.dtype} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        return digest.hexdigest()[:16]

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

    def at_rest(self) -> AbstractContextManager[None]:
        """Hold it for many passes: in evaluation mode and frozen throughout, not pass by pass."""
        return nullcontext()

    def copy(self) -> Self:
        """The same network, so that another ``input`` can be told without changing this one."""
        twin = copy.copy(self)
        twin.__dict__.pop("layers", None)
        return twin

    def edited(self, edits: Mapping[str, Edit]) -> Self:
        """The same network with some results changed on their way; this one stays as it is.

        ``edits`` maps addresses of layers to functions from the layer's result, float32
        ``(N, C, …)``, to one of the same shape, which the network goes on with and which is also
        what is recorded there. Nothing is hooked between passes. Tokens that have no place on the
        grid keep their values. Keras on TensorFlow or JAX has no gradients through an edit.
        """
        for path in edits:
            self.layers[path]
        twin = copy.copy(self)
        twin._edits = {**self._edits, **edits}
        return twin

    @abc.abstractmethod
    def shuffled(self, layers: Iterable[str], *, seed: int = 0) -> Self:
        """A copy in which the kernels of some layers hold their own numbers in random order.

        The network itself stays as it is. Raises ``ModelError`` where it cannot be copied.
        """

    def told(self, **changes: Any) -> None:
        """Replace parts of ``input``: what the user says of the model wins."""
        self.input = replace(self.input, **changes)


class KerasNetwork(Protocol):
    """A ``keras.Model``, by what is used of it; Keras itself need not be installed."""

    @property
    def name(self) -> str: ...
    @property
    def variables(self) -> Sequence[Any]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


ModelLike: TypeAlias = str | Path | nn.Module | KerasNetwork | Model
"""What ``load`` takes: a name, a file, an ``nn.Module``, a ``keras.Model``, or a ``Model``."""


def probabilities(outputs: Tensor) -> Tensor:
    """Rows that are no distribution already go through a softmax, a single output a sigmoid."""
    rows = outputs.detach().float().flatten(1)
    if rows.shape[1] == 1:
        inside = bool(((rows >= 0) & (rows <= 1)).all())
        return rows if inside else rows.sigmoid()
    if bool((rows >= 0).all()) and bool(((rows.sum(1) - 1).abs() < 1e-3).all()):
        return rows
    return rows.softmax(1)


__all__ = [
    "UNKNOWN_PREPROCESS",
    "Batch",
    "Edit",
    "Input",
    "KerasNetwork",
    "Model",
    "ModelLike",
    "probabilities",
]
