"""``train``: from a dataset to a file, resumable."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from convscope._data import Dataset
from convscope._models import Model, load
from convscope._models.architectures import build
from convscope._train.confusion import Confusion, confuse
from convscope._train.descent import Descent
from convscope._train.files import Files
from convscope._train.pictures import Material, normalizer, read_material
from convscope._train.recipe import Epoch, Recipe


class Watching(Protocol):
    """What looks at the network after each epoch; ``cs.watch`` makes one."""

    def step(self, label: str = "", *, number: int | None = None) -> object:
        """One more epoch is over."""

    def close(self) -> object:
        """The training is over."""


@dataclass(frozen=True)
class Trained:
    """The outcome of ``train``: the network, its metadata, and the file it was written to."""

    module: nn.Module
    metadata: dict[str, Any]
    path: Path

    @property
    def accuracy(self) -> float:
        """Accuracy on the test part, 0 to 1."""
        return float(self.metadata["accuracy"]["test"])

    @property
    def confusion(self) -> Confusion:
        """Which classes of the test part were taken for which."""
        counts = np.array(self.metadata["confusion"], np.int64)
        return Confusion(counts, tuple(self.metadata["classes"]), self.path.name)


def train(
    dataset: str | Path | Dataset,
    out: str | Path,
    *,
    architecture: str = "simplecnn",
    size: int | tuple[int, int] | None = None,
    recipe: Recipe | None = None,
    resume: bool = True,
    command: str = "",
    watch: Callable[[Model], Watching] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train ``architecture`` on a labeled ``dataset`` and write ``out`` (``.safetensors``).

    ``dataset`` is whatever ``open_dataset`` takes; its own test part is used where it has one,
    else a tenth is held out. ``size`` is the side the pictures are resized to, by default that of
    the first. The same ``recipe`` gives the same weights on the same machine and thread count.

    What is finished is on disk at any time: a run that was interrupted is continued by the same
    call, to the same weights as if nothing had happened; ``resume=False`` starts afresh.
    ``watch`` is given the network before the first epoch, and what it returns is told of each:
    ``watch=lambda model: cs.watch(model, "digit.png", "conv1")``.
    """
    recipe, files = (recipe or Recipe()).checked(), Files(Path(out))
    material = read_material(dataset, size, recipe.seed)
    torch.manual_seed(recipe.seed)
    module = build(architecture, material.channels, material.sides, len(material.classes))
    metadata = _as_dict(architecture, module, material, recipe, command)
    run = _Run(module, material, recipe, files, metadata)
    run.restore() if resume else files.finish()
    with ExitStack() as closing:
        if watch:
            watching = watch(_as_model(module, material, files.weights.name))
            closing.callback(watching.close)
            run.watch(watching)
        while not run.finished:
            epoch = run.epoch(on_batch)
            if on_epoch:
                on_epoch(epoch)
    return run.trained()


@dataclass
class _Run:
    """A training under way: ``number`` epochs are done; ``label`` is what is said of the last."""

    module: nn.Module
    material: Material
    recipe: Recipe
    files: Files
    metadata: dict[str, Any]
    number: int = 0
    label: str = ""
    best: dict[str, Tensor] = field(default_factory=dict)
    watching: Watching | None = None

    def __post_init__(self) -> None:
        self.normalize = normalizer(self.material.preprocess)
        self.descent = Descent(self.module, self.material.train, self.normalize, self.recipe)
        self.settings = self._settings()

    @property
    def finished(self) -> bool:
        """All epochs are done, or patience has run out."""
        patience, since = (
            self.recipe.patience,
            self.number - int(self.metadata["accuracy"]["epoch"]),
        )
        return self.number >= self.recipe.epochs or (0 < patience <= since)

    def epoch(self, on_batch: Callable[[int, int], None] | None) -> Epoch:
        """One epoch, and everything that is written after it."""
        loss = self.descent.epoch(self.number + 1, on_batch)
        self.number += 1
        epoch = Epoch(self.number, self.recipe.epochs, loss, self._keep_better())
        self.label = str(epoch)
        self._show()
        self.files.suspend(self.settings, self._state())
        return epoch

    def watch(self, watching: Watching) -> None:
        """Let it look from now on; also once more at the end, where that is all there is left."""
        self.watching = watching
        if self.finished:
            self._show()

    def _show(self) -> None:
        if self.watching:
            self.watching.step(self.label, number=self.number)

    def _keep_better(self) -> float:
        """Write the network, unless an earlier epoch is to be kept; the accuracy."""
        test, classes = self.material.test, self.material.classes
        counts = confuse(self.module, test.images, test.labels, self.normalize, len(classes))
        accuracy = Confusion(counts, classes).accuracy
        said = self.metadata["accuracy"]
        if self.recipe.patience and said["epoch"] and accuracy <= said["test"]:
            return accuracy
        said |= {"test": accuracy, "epoch": self.number}
        self.metadata["confusion"] = counts.tolist()
        weights = self.module.state_dict()
        if self.recipe.patience:
            self.best = {name: value.clone() for name, value in weights.items()}
        self.files.write(weights, self.metadata)
        return accuracy

    def _settings(self) -> dict[str, Any]:
        """What has to be the same for a run to go on; a change is told in these words."""
        height, width = self.material.sides
        train, test = self.material.train, self.material.test
        return {
            "architecture": self.metadata["architecture"]["name"],
            "pictures of": f"{height}×{width}",
            **vars(self.recipe),
            "training pictures": f"{train.name} (checksum {train.checksum():08x})",
            "test pictures": f"{test.name} (checksum {test.checksum():08x})",
        }

    def _state(self) -> dict[str, Any]:
        kept = {key: self.metadata[key] for key in ("accuracy", "confusion")}
        done = {"number": self.number, "label": self.label, "kept": kept, "best": self.best}
        return done | self.descent.state()

    def restore(self) -> None:
        """Go on where an interrupted run of the same settings ended, if there is one."""
        state = self.files.resume(self.settings)
        if state is not None:
            self.descent.restore(state)
            self.metadata |= state["kept"]
            self.number, self.label, self.best = state["number"], state["label"], state["best"]

    def trained(self) -> Trained:
        """The outcome; the file to go on from is removed."""
        if self.best:
            self.module.load_state_dict(self.best)
        if not self.files.weights.exists():  # somebody has tidied up before the last epoch
            self.files.write(self.module.state_dict(), self.metadata)
        self.files.finish()
        return Trained(self.module.eval(), self.metadata, self.files.weights)


def _as_dict(
    architecture: str, module: nn.Module, material: Material, recipe: Recipe, command: str
) -> dict[str, Any]:
    """What stands beside the weights; ``accuracy`` and ``confusion`` follow after each epoch."""
    preprocess = material.preprocess
    chosen = {"chosen": "the best epoch on these very images"} if recipe.patience else {}
    return {
        "convscope": 1,
        "architecture": {
            "name": architecture,
            "channels": material.channels,
            "size": list(material.sides),
            "parameters": sum(p.numel() for p in module.parameters()),
        },
        "classes": list(material.classes),
        "preprocess": {"size": preprocess.size, "mean": preprocess.mean, "std": preprocess.std},
        "data": {"train": material.train.to_dict(), "test": material.test.to_dict()},
        "recipe": vars(recipe),
        "command": command,
        "accuracy": {"test": 0.0, "images": len(material.test.labels), "epoch": 0, **chosen},
    }


def _as_model(module: nn.Module, material: Material, name: str) -> Model:
    """The network in training as what the microscope takes."""
    model = load(
        module,
        preprocess=material.preprocess,
        classes=material.classes,
        input=(material.channels, *material.sides),
    )
    model.name = name
    return model
