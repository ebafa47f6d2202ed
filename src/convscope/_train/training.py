"""``train``: from a labeled dataset to a file of weights, resumable after every epoch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from convscope._data import DatasetLike
from convscope._models import Model, load
from convscope._models.architectures import build
from convscope._train.confusion_matrix import ConfusionMatrix, count_predictions
from convscope._train.trainer import EpochResult, Recipe, Trainer
from convscope._train.training_data import TrainingData, normalizer, read_training_data
from convscope._train.training_files import TrainingFiles


class EpochWatcher(Protocol):
    """What looks at the network after each epoch, such as what ``cs.watch`` returns."""

    def step(self, label: str = "", *, number: int | None = None) -> object:
        """Another epoch is finished."""

    def close(self) -> object:
        """The training has ended."""


@dataclass(frozen=True)
class TrainingResult:
    """A trained network, and where it was written.

    Attributes:
        module: The network.
        metadata: Architecture, classes, preprocessing, data, recipe, accuracy and confusion matrix,
            as written beside the weights.
        path: The file of the weights.
    """

    module: nn.Module
    metadata: dict[str, Any]
    path: Path

    @property
    def accuracy(self) -> float:
        """Accuracy on the test split, 0 to 1."""
        return float(self.metadata["accuracy"]["test"])

    @property
    def confusion(self) -> ConfusionMatrix:
        """The confusion matrix on the test split."""
        counts = np.array(self.metadata["confusion"], np.int64)
        return ConfusionMatrix(counts, tuple(self.metadata["classes"]), self.path.name)


def train(
    dataset: DatasetLike,
    out: str | Path,
    *,
    architecture: str = "simplecnn",
    size: int | tuple[int, int] | None = None,
    recipe: Recipe | None = None,
    resume: bool = True,
    command: str = "",
    watch: Callable[[Model], EpochWatcher] | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> TrainingResult:
    """Train a small network on a labeled dataset, and write its weights and metadata.

    SGD with Nesterov momentum, a one-cycle learning rate (Smith and Topin, 2018) and label
    smoothing (Szegedy et al., CVPR 2016). The same recipe gives the same weights on the same
    machine with the same number of threads. An interrupted training is continued by the same call,
    to the same weights as an uninterrupted one.

    Args:
        dataset: Anything ``open_dataset`` takes. Its own test split is used where it has one, else
            a tenth of the images is held out.
        out: The file of the weights, ``.safetensors``.
        architecture: ``"simplecnn"`` or ``"compact"``.
        size: Height and width that images are resized to, in pixels; by default those of the
            first.
        recipe: The settings; by default ``Recipe()``.
        resume: Whether to continue an interrupted training; ``False`` starts again.
        command: The command line, for the metadata.
        watch: Called with the model before the first epoch; the ``step`` of what it returns is
            called after each: ``watch=lambda model: cs.watch(model, "digit.png", "conv1")``.
        on_epoch: Called after each epoch.
        on_batch: Called after each step with the number of steps done and the number in all.

    Returns:
        The network, its accuracy, confusion matrix and metadata.

    Raises:
        DatasetError: The data are not labeled, too few or too many, or not images.
        UsageError: A setting is out of its range, or the interrupted training had other settings.
    """
    recipe, files = (recipe or Recipe()).validated(), TrainingFiles(Path(out))
    data = read_training_data(dataset, size, recipe.seed)
    torch.manual_seed(recipe.seed)
    module = build(architecture, data.channels, data.size, len(data.classes))
    metadata = _metadata(architecture, module, data, recipe, command)
    run = _TrainingRun(module, data, recipe, files, metadata)
    run.restore() if resume else files.remove_state()
    with ExitStack() as closing:
        if watch:
            watcher = watch(_as_model(module, data, files.weights.name))
            closing.callback(watcher.close)
            run.add_watcher(watcher)
        while not run.finished:
            result = run.train_epoch(on_batch)
            if on_epoch:
                on_epoch(result)
    return run.finish()


@dataclass
class _TrainingRun:
    """A training in progress: ``number`` epochs are done, ``label`` describes the last."""

    module: nn.Module
    data: TrainingData
    recipe: Recipe
    files: TrainingFiles
    metadata: dict[str, Any]
    number: int = 0
    label: str = ""
    best: dict[str, Tensor] = field(default_factory=dict)
    watcher: EpochWatcher | None = None

    def __post_init__(self) -> None:
        self.normalize = normalizer(self.data.preprocess)
        self.trainer = Trainer(self.module, self.data.train, self.normalize, self.recipe)
        self.settings = self._settings()

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or patience has run out."""
        since_best = self.number - int(self.metadata["accuracy"]["epoch"])
        return self.number >= self.recipe.epochs or 0 < self.recipe.patience <= since_best

    def train_epoch(self, on_batch: Callable[[int, int], None] | None) -> EpochResult:
        """Train for an epoch, and write everything that follows from it."""
        loss = self.trainer.train_epoch(self.number + 1, on_batch)
        self.number += 1
        result = EpochResult(self.number, self.recipe.epochs, loss, self._write_if_better())
        self.label = str(result)
        self._notify()
        self.files.write_state(self.settings, self._state())
        return result

    def add_watcher(self, watcher: EpochWatcher) -> None:
        """Call ``watcher`` after each epoch; at once, where all of them are done."""
        self.watcher = watcher
        if self.finished:
            self._notify()

    def _notify(self) -> None:
        if self.watcher:
            self.watcher.step(self.label, number=self.number)

    def _write_if_better(self) -> float:
        """Write the network, unless patience keeps an earlier epoch; return the accuracy."""
        test, classes = self.data.test, self.data.classes
        counts = count_predictions(
            self.module, test.images, test.labels, self.normalize, len(classes)
        )
        accuracy = ConfusionMatrix(counts, classes).accuracy
        best = self.metadata["accuracy"]
        if self.recipe.patience and best["epoch"] and accuracy <= best["test"]:
            return accuracy
        best |= {"test": accuracy, "epoch": self.number}
        self.metadata["confusion"] = counts.tolist()
        weights = self.module.state_dict()
        if self.recipe.patience:
            self.best = {name: value.clone() for name, value in weights.items()}
        self.files.write_weights(weights, self.metadata)
        return accuracy

    def _settings(self) -> dict[str, Any]:
        """What must be equal for a run to be continued; an error names what is not."""
        (height, width), train, test = self.data.size, self.data.train, self.data.test
        return {
            "architecture": self.metadata["architecture"]["name"],
            "image size": f"{height}×{width}",
            **vars(self.recipe),
            "training images": f"{train.name} (checksum {train.checksum():08x})",
            "test images": f"{test.name} (checksum {test.checksum():08x})",
        }

    def _state(self) -> dict[str, Any]:
        kept = {key: self.metadata[key] for key in ("accuracy", "confusion")}
        progress = {"number": self.number, "label": self.label, "kept": kept, "best": self.best}
        return progress | self.trainer.state()

    def restore(self) -> None:
        """Continue where an interrupted run of the same settings ended, if there is one."""
        state = self.files.read_state(self.settings)
        if state is not None:
            self.trainer.restore(state)
            self.metadata |= state["kept"]
            self.number, self.label, self.best = state["number"], state["label"], state["best"]

    def finish(self) -> TrainingResult:
        """Remove the state of the run, and return its result."""
        if self.best:
            self.module.load_state_dict(self.best)
        if not self.files.weights.exists():  # removed by someone before the last epoch
            self.files.write_weights(self.module.state_dict(), self.metadata)
        self.files.remove_state()
        return TrainingResult(self.module.eval(), self.metadata, self.files.weights)


def _metadata(
    architecture: str, module: nn.Module, data: TrainingData, recipe: Recipe, command: str
) -> dict[str, Any]:
    """The metadata of the weights; ``accuracy`` and ``confusion`` follow after each epoch."""
    preprocess = data.preprocess
    chosen = {"chosen": "the best epoch on these images"} if recipe.patience else {}
    return {
        "convscope": 1,
        "architecture": {
            "name": architecture,
            "channels": data.channels,
            "size": list(data.size),
            "parameters": sum(p.numel() for p in module.parameters()),
        },
        "classes": list(data.classes),
        "preprocess": {"size": preprocess.size, "mean": preprocess.mean, "std": preprocess.std},
        "data": {"train": data.train.to_dict(), "test": data.test.to_dict()},
        "recipe": vars(recipe),
        "command": command,
        "accuracy": {"test": 0.0, "images": len(data.test.labels), "epoch": 0, **chosen},
    }


def _as_model(module: nn.Module, data: TrainingData, name: str) -> Model:
    model = load(
        module,
        preprocess=data.preprocess,
        classes=data.classes,
        input=(data.channels, *data.size),
    )
    model.name = name
    return model
