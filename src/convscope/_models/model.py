"""``Model``: what the rest of convscope may know of a network.

Above this line activations are float32 torch tensors, ``N C H W``, keyed by path.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, final, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convscope._errors import ModelError, UnknownLayer, untrained_note
from convscope._images import ImageLike, ImagesLike
from convscope._layers import Layer, Layers
from convscope._models.backend import (
    Backend,
    Consume,
    Edit,
    KerasNetwork,
    TracesReceptiveFields,
    not_called,
    sample,
)
from convscope._models.input_search import (
    Candidate,
    find_input,
    find_size,
    readings,
    settled,
    shape_of_floats,
    trials,
)
from convscope._models.inputs import Batch, Input, InputShape, Preparation
from convscope._models.predictions import (
    Prediction,
    check_classifier,
    class_name,
    probabilities,
    ranked,
)
from convscope._models.self_check import OUTPUT, Checks
from convscope._models.tracing import ReceptiveField


@final
class Model:
    """A loaded network. Made by ``load``; never changed by convscope.

    Wherever ``images`` are taken: a path, a PIL image or anything uint8 is preprocessed; an array
    or tensor of floats is taken as it is, in the network's own layout, with or without a batch
    axis; a list is a batch.

    Attributes:
        name: What the user typed, or the class name; commands accept it.
        input: What the network takes: channels, size, preprocessing, class names.
        weights_file: Name of the file of weights that was given, with the part that was taken of
            it where it holds more: ``net.pth (model_ema)``; else empty.
        random_weights: Whether random weights were requested (``weights=none``).
        backend: Runs the network in its framework.
        edits: What replaces the results of some layers, by address; see ``edited``.
        unchecked: Whether layers that ``check`` finds to differ are shown, with a note.
    """

    def __init__(
        self, backend: Backend, name: str, input: Input, candidates: Sequence[Candidate] = ()
    ) -> None:
        self.backend = backend
        self.name = name
        self._input = input
        self._candidates = tuple(candidates)  # for the input, until one of them was found to run
        self._size: tuple[int, int] | None = None  # that was found to run
        self._given_size: tuple[int, int] | None = None  # of the images given last
        self.weights_file = ""
        self.random_weights = False
        self.edits: Mapping[str, Edit] = {}
        self.unchecked = False
        self._checks = Checks()
        self._fields: dict[tuple[int, int] | None, Mapping[str, ReceptiveField]] = {}

    def __repr__(self) -> str:
        stated = self._input
        size = "×".join(map(str, stated.shape or (stated.channels, "any", "size")))
        untried = ", not tried yet" if self._candidates else ""
        return f"Model({self.title!r}, input {size}{untried})"

    @property
    def input(self) -> Input:
        """What the network takes; where it does not say it, found by trying, once."""
        if self._candidates:
            self._find_input(None)
        return self._input

    @property
    def stated_input(self) -> Input:
        """What is known of the input without running the network."""
        return self._input

    @property
    def title(self) -> str:
        """The name for figures: ``torchvision:vgg16 · weights mine.pth``."""
        if not self.weights_file:
            return self.name
        return f"{self.name.replace(',weights=none', '')} · weights {self.weights_file}"

    @property
    def module(self) -> Any:
        """The network itself: the ``nn.Module`` or ``keras.Model``."""
        return self.backend.module

    @property
    def runs_in_torch(self) -> bool:
        """Whether a pass consists of torch operations (not so for Keras on TensorFlow or JAX)."""
        return self.backend.runs_in_torch

    @cached_property
    def layers(self) -> Layers:
        """Every layer that a forward pass calls, in execution order; prints as a table."""
        return Layers(self.backend.trace(self, self.input.size or self._find_size()), self.name)

    def prepare(
        self,
        images: ImagesLike | Batch | Sequence[Batch],
        *,
        size: int | tuple[int, int] | None = None,
    ) -> Batch:
        """Preprocess images into a batch.

        Args:
            images: One image or several; see ``Model``. A ``Batch`` is returned as it is.
            size: Another size than the model's own to resize and crop images to: a side, or
                ``(height, width)``; for networks that take any size.

        Returns:
            The batch, ``values`` float32 ``(N, C, H, W)``.

        Raises:
            ImageError: If an image cannot be read, or does not fit the model.
        """
        if isinstance(images, Batch):
            return images
        if self._candidates:
            self._find_input(shape_of_floats(images))
        sides = (size, size) if isinstance(size, int) else size
        batch = self._preparation().batch(images, sides)
        self._given_size = batch.size
        return batch

    def preprocessed(self, batch: Batch, index: int = 0) -> tuple[NDArray[np.uint8], str]:
        """Image ``index`` of a batch after resize and crop, as it can be drawn.

        Returns:
            The image ``(H, W, 3)``, and a note on how it was drawn where an array was given.
        """
        return self._preparation().image(batch, index)

    def describe_drawing(self) -> str:
        """How ``preprocessed`` draws arrays of floats, in words."""
        return self._preparation().drawing()

    def _preparation(self) -> Preparation:
        return Preparation(self.name, self.input, self.backend)

    def activations(
        self,
        images: ImagesLike | Batch,
        layers: str | Iterable[str],
        *,
        grad: bool = False,
        raw: bool = False,
    ) -> dict[str, Tensor]:
        """Record the outputs of some layers in one forward pass, which ends after the deepest.

        Args:
            images: One image or several; see ``Model``.
            layers: Paths, globs or ``kind=conv``.
            grad: Whether each result is part of the graph from the images: then
                ``torch.autograd.grad`` may be taken with respect to it, and, where ``images`` is
                a tensor that requires gradients, with respect to that.
            raw: Whether to leave each result in the network's own layout, with every token.

        Returns:
            float32 tensors by path: ``(N, C, H, W)`` for maps, ``(N, C, L)`` for lines,
            ``(N, C, D, H, W)`` for volumes and ``(N, features)`` for the rest. Channels that the
            network keeps last come second; tokens and windows are put back on their grid, and
            those off the grid (class tokens, registers) are left out.

        Raises:
            UnknownLayer: If a layer does not exist, or gives no floats.
            ModelError: If an output cannot be assigned to images.
        """
        batch = self.prepare(images)  # arrays may show what the network takes
        paths = self._paths(layers, raw)
        own = {path: self.layers.canonical(path) for path in paths}
        addresses = list(dict.fromkeys(own.values()))
        self._require_checked(addresses)
        recorded = self.backend.record(self, batch.values, addresses, grad, raw)
        return {path: recorded[own[path]] for path in paths}

    def stream(
        self, images: ImagesLike | Batch, layers: str | Iterable[str], consume: Consume
    ) -> None:
        """Run one forward pass that calls ``consume(path, activation)`` as each layer has run.

        The activations are those of ``activations``, in execution order, but none is kept: each is
        valid during the call only, and memory holds what the network itself needs. The pass ends
        after the deepest layer; what ``consume`` raises ends it at once.
        """
        batch = self.prepare(images)
        asked: dict[str, list[str]] = {}
        for path in self._paths(layers):
            asked.setdefault(self.layers.canonical(path), []).append(path)

        self._require_checked(list(asked))

        def consume_each(address: str, activation: Tensor) -> None:
            for path in asked[address]:
                consume(path, activation)

        self.backend.stream(self, batch.values, list(asked), consume_each)

    def check(
        self,
        images: ImagesLike | Batch | None = None,
        layers: str | Iterable[str] = "*",
    ) -> dict[str, str]:
        """Compare what is recorded with plain forward hooks on an untouched copy of the network.

        What the network returns under observation and the output of each layer must equal theirs,
        on a processor to the last bit, and an image's part of a batch what it gives alone.
        Each layer is checked so when it is first recorded, with noise; here with your own images.

        Args:
            images: Several images, or one, which its mirror image joins; by default noise.
            layers: Paths, globs or ``kind=conv``.

        Returns:
            By path how the layer differs, in words; empty where it does not. Functions, and layers
            of Keras, have no plain hooks on a copy: they are compared with an image alone.
        """
        selected = [la for la in self.layers.select(layers) if la.shape and not la.problem]
        own = {layer.path: self.layers.canonical(layer.path) for layer in selected}
        values = self._check_images() if images is None else self.prepare(images).values
        values = values if len(values) > 1 else torch.cat([values, values.flip(-1)])
        found = self._compared(values, list(dict.fromkeys(own.values())))
        whole = found.get(OUTPUT) and f"the output under observation: {found[OUTPUT]}"
        return {path: found.get(address) or whole or "" for path, address in own.items()}

    def _check_images(self) -> Tensor:
        return sample(self.input.channels, *(self.input.size or self._find_size()), 2)

    def _compared(self, values: Tensor, addresses: list[str]) -> dict[str, str]:
        plain = copy.copy(self)
        plain.edits = {}
        return self.backend.check(plain, values, addresses)

    def _require_checked(self, addresses: Sequence[str]) -> None:
        """Refuse layers that differ from the network's own; each is compared once."""
        refused = self._checks.refused(
            addresses, lambda new: self._compared(self._check_images(), new)
        )
        if refused is None:
            return
        note = f"{refused[0]} is not what {self.name} computes: {refused[1]}"
        if not self.unchecked:
            raise ModelError(f"{note}. To see it all the same: --unchecked (unchecked=True)")
        if note not in self.input.note:
            self.set_input(note="; ".join(filter(None, (self.input.note, f"UNCHECKED: {note}"))))

    def _paths(self, layers: str | Iterable[str], raw: bool = False) -> list[str]:
        selected = self.layers.select(layers)
        if no_floats := [layer.path for layer in selected if layer.shape is None]:
            raise not_called(self.name, no_floats)
        if not raw and (mixed := next((la for la in selected if la.problem), None)):
            raise ModelError(
                f"The output of {mixed.path!r} of {self.name} belongs to no one image: "
                f"{mixed.problem}. In Python, raw=True gives it as it is"
            )
        return [layer.path for layer in selected]

    def logits(self, images: ImagesLike | Batch, *, grad: bool = False) -> Tensor:
        """The network's output for ``images``: ``(N, classes)``, softmax or not as it is."""
        output = self.backend.run(self, self.prepare(images).values, grad)
        if output is None:
            raise ModelError(f"{self.name} returns no tensor of floats")
        return output

    @overload
    def predict(
        self, images: list[Any] | tuple[ImageLike, ...], *, top: int = 5
    ) -> list[Prediction]: ...
    @overload
    def predict(self, images: ImageLike | Batch, *, top: int = 5) -> Prediction: ...
    def predict(self, images: ImagesLike | Batch, *, top: int = 5) -> Prediction | list[Prediction]:
        """The most probable classes.

        A single output is taken as the probability of its one class.

        Args:
            images: One image or several; see ``Model``.
            top: Number of classes.

        Returns:
            ``[(class name, probability), …]`` for one image; for several a list of these.

        Raises:
            ModelError: If the network is no classifier, or has another number of outputs than
                class names.
        """
        batch = self.prepare(images)
        logits = self.logits(batch)
        check_classifier(self.name, logits, self.input.classes)
        rows = probabilities(logits)
        predictions = [ranked(row, top, self.input.classes) for row in rows]
        return predictions[0] if batch.single else predictions

    def class_name(self, index: int) -> str:
        """The name of class ``index``, or ``class 7`` where names are unknown."""
        return class_name(index, self.input.classes)

    def weights(self, path: str) -> NDArray[np.float32]:
        """A copy of the kernel of the layer at ``path``.

        Returns:
            ``(out, in, height, width)``, or ``(out, in)`` of linear layers; ``in`` counts the
            channels of one group.

        Raises:
            UnknownLayer: If there is no such layer, or it has no kernel.
        """
        layer = self.layers[path]
        kernel = self.backend.weights(self, self.layers.canonical(path))
        if kernel is None:
            conv = [la.path for la in self.layers if "conv" in la.families][:3]
            raise UnknownLayer(
                f"{layer.kind} {path!r} of {self.name} has no kernel. "
                f"Layers that have one: {', '.join(map(repr, conv)) or 'none'}"
            )
        return kernel

    def receptive_fields(self, size: tuple[int, int] | None = None) -> Mapping[str, ReceptiveField]:
        """The receptive field of every layer by path, traced in one forward pass and cached.

        Args:
            size: Height and width of the image, by default what the model takes.

        Raises:
            ModelError: If the network does not run on torch, or takes volumes.
        """
        size = size or self.input.size
        if size not in self._fields:
            if not isinstance(self.backend, TracesReceptiveFields):
                raise ModelError(
                    f"The receptive fields of {self.name} can be traced on torch only. For a "
                    "Keras model: KERAS_BACKEND=torch"
                )
            fields = dict(self.backend.receptive_fields(self, size or self._find_size()))
            listed: Iterable[Layer] = self.__dict__.get("layers", ())
            named = [(alias, layer.path) for layer in listed for alias in layer.aliases]
            self._fields[size] = fields | {a: fields[path] for a, path in named if path in fields}
        return self._fields[size]

    def _find_input(self, shape: tuple[int, ...] | None) -> None:
        """Settle on the first candidate that runs; ``shape`` is that of an array that was given.

        Where none does, the first stays: the pass that follows says why.
        """
        tried = self._candidates
        likeliest, read = tried[0], readings(shape, tried)
        sizes = [size for _, size in read]
        if read and read[0][0] == likeliest and not likeliest.signal:
            self._candidates = ()  # the first convolution and the array agree
            return
        following = trials(tried, self._input.size, sizes)
        found = find_input(self._runs, self._input, chain(read, following))
        if found is not None:
            given = (Candidate(found.input.channels, found.input.signal), found.size) in read
            self._size = self._size if given else found.size
            self._input = settled(found, likeliest, self._input, given)
        self._candidates = ()

    def _runs(self, input: Input, values: Tensor) -> None:
        """Run the network as it is, for this input; raises ``ModelError`` where it cannot."""
        plain = copy.copy(self)
        plain.edits, plain._candidates, plain._input = {}, (), input
        self.backend.run(plain, values, grad=False)

    def _find_size(self) -> tuple[int, int]:
        """A size that passes through a network which does not say what it takes."""
        if self._size is None:
            self._size, note = find_size(self._runs, self.name, self.input, self._given_size)
            self.set_input(note=note)
        return self._size

    def memory_budget(self) -> int:
        """Bytes that the activations of one batch may take where the network lives."""
        return self.backend.memory_budget()

    def eval_frozen(self) -> AbstractContextManager[None]:
        """Hold it for many passes: in evaluation mode and frozen throughout, not pass by pass."""
        return self.backend.eval_frozen(self, grad=True)

    def fingerprint(self) -> str:
        """A checksum of every parameter and buffer, as 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for name, value in self.backend.state():
            digest.update(f"{name} {value.dtype} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        return digest.hexdigest()[:16]

    def untrained_evidence(self) -> str:
        """Why the weights look as if they had never been trained; empty where they do not."""
        if self.random_weights:
            return "its weights are random, as requested"
        return self.backend.untrained_evidence(self)

    def untrained_note(self, subject: str = "this network") -> str:
        """The warning that ``subject`` looks untrained, and why; empty where it does not."""
        return untrained_note(self.untrained_evidence(), subject)

    def copy(self) -> Model:
        """The same network, whose ``input`` can be set without changing this one's."""
        other = copy.copy(self)
        other.__dict__.pop("layers", None)
        return other

    def edited(self, edits: Mapping[str, Edit]) -> Model:
        """The same network with some results changed during a pass; this one stays as it is.

        Nothing is hooked between passes. Tokens that have no place on the grid keep their values.
        Keras on TensorFlow or JAX has no gradients through an edit.

        Args:
            edits: By address, functions from the layer's result, float32 ``(N, C, …)``, to one of
                the same shape, which the network goes on with and which is also recorded there.

        Raises:
            UnknownLayer: If there is no such layer.
        """
        for path in edits:
            self.layers[path]
        other = copy.copy(self)
        named = {self.layers.canonical(path): edit for path, edit in edits.items()}
        other.edits = {**self.edits, **named}
        return other

    def randomized(self, layers: Iterable[str], *, seed: int = 0) -> Model:
        """A copy in which the kernels of some layers are randomly permuted.

        The network itself stays as it is.

        Raises:
            ModelError: If the network cannot be copied.
        """
        paths = [self.layers.canonical(self.layers[path].path) for path in layers]
        other = Model(self.backend.randomized(self, paths, seed), self.name, self.input)
        other.weights_file, other.edits = self.weights_file, self.edits
        other.unchecked, other._checks = self.unchecked, self._checks
        return other

    def set_input(self, **changes: Any) -> None:
        """Replace attributes of ``input``: what the user gives takes precedence."""
        self._input = replace(self._input, **changes)

    def set_input_shape(self, shape: tuple[int, ...]) -> None:
        """Set the shape of one image, which takes precedence over all that is tried.

        Args:
            shape: ``(C, H, W)``; ``(C, D, H, W)`` of a volume, ``(C, L)`` of a signal.

        Raises:
            UsageError: If it is no such shape.
        """
        given = InputShape.of(shape)
        self.set_input(
            channels=given.channels,
            depth=given.depth,
            signal=given.signal,
            preprocess=self._input.preprocess.at(given.size),
            note="",
        )
        kinds = dict.fromkeys(candidate.signal for candidate in self._candidates)
        row = given.size[0] == 1 and not (given.signal or given.depth)
        # A signal may be given as an image one pixel high.
        told = tuple(Candidate(given.channels, signal) for signal in kinds)
        self._candidates = told if row and True in kinds else ()


ModelLike: TypeAlias = str | Path | nn.Module | KerasNetwork | Model
"""What ``load`` takes: a name, a file, an ``nn.Module``, a ``keras.Model``, or a ``Model``."""
