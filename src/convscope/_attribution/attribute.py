"""``attribute``: why this answer?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._atlas import Atlas, open_atlas
from convscope._attribution.attribution_result import Attribution, AttributionMap
from convscope._attribution.captum_methods import asked, shares
from convscope._attribution.channels import carriers
from convscope._attribution.evidence import cover, sanity
from convscope._attribution.methods import METHODS, AttributionMethod, select_methods
from convscope._attribution.question import Question, baseline
from convscope._attribution.target import Target, resolve
from convscope._errors import UsageError
from convscope._models import Batch, Model, load, probabilities
from convscope._models.input_summary import summarize_input


def attribute(
    model: Any,
    image: Any,
    target: int | str | None = None,
    *,
    method: str | Sequence[str] = tuple(METHODS),
    layer: str | None = None,
    channels: int = 0,
    sanity: bool = False,
    baseline: str = "black",
    size: int | tuple[int, int] | None = None,
    atlas: str | Path | Atlas | None = None,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda what: None,
) -> Attribution:
    """Why a network gives one image this answer: where in the picture, and through which channels.

    - ``model``: a loaded model or anything ``load`` takes; ``image``: one picture or float array.
    - ``target``: a class by number or name, or an address (a channel counts as the mean of its
      map); by default the class the network predicts. Classes are explained before any softmax.
    - ``method``: one or several of ``gradcam``, ``integrated_gradients``, ``gradient_x_input``,
      ``smoothgrad``, ``occlusion``; all by default.
    - ``layer``: for Grad-CAM and ``channels``; by default the last layer of maps before the target.
    - ``channels``: list so many channels of ``layer`` that mattered most, each silenced as a test.
    - ``sanity``: also ask copies of the network with shuffled weights (Adebayo et al., 2018).
    - ``baseline``: what stands for "nothing": ``black``, ``gray`` or ``blurred``.
    - ``size``: show the picture at another size than the model's own.
    - ``atlas``: of a scan of this model: shows what the listed channels respond to most.

    Gradients come through captum. The same call gives the same numbers. Raises ``UsageError`` for
    a target out of range, ``ModelError`` where the network has no gradient,
    ``MissingDependency`` without captum.
    """
    loaded = load(model)
    methods = select_methods(method)
    batch = loaded.prepare(image, size=size)
    if len(batch) != 1:
        raise UsageError(f"{len(batch)} images were given; one answer is explained at a time")
    wanted = resolve(loaded, target, batch)
    known = _atlas(loaded, atlas)
    question, words = _question(
        loaded, batch, wanted, layer or _scanned(loaded, wanted, known), baseline, seed
    )
    maps = _maps(question, methods, sanity, on_step)
    found = None
    if channels:
        on_step("channels")
        found = carriers(question, question.layer, channels)
    score = float(question.score(batch.values))
    specimen = summarize_input(loaded, batch)
    sure = _probability(loaded, batch, wanted)
    return Attribution(
        maps, wanted.name, score, sure, question.layer, words, specimen, found, known
    )


def _atlas(model: Model, atlas: str | Path | Atlas | None) -> Atlas | None:
    found = open_atlas(atlas) if isinstance(atlas, (str, Path)) else atlas
    if found is not None and found.model != model.title:
        raise UsageError(f"The atlas is of {found.model}, not of {model.title}")
    return found


def _scanned(model: Model, target: Target, atlas: Atlas | None) -> str | None:
    """The last layer of maps before the target that an atlas knows."""
    paths = [layer.path for layer in model.layers]
    before = paths[: paths.index(target.path)]
    known = [layer.path for layer in atlas.layers] if atlas else []
    return next((path for path in reversed(before) if path in known), None)


def channel_shares(
    model: Any, image: Any, layer: str, target: int | str | None = None
) -> tuple[str, NDArray[np.float32]]:
    """What each channel of ``layer`` brings to a score: gradient × activation, summed, ``(C,)``.

    Also the target's name. Arguments and errors are those of ``attribute``.
    """
    loaded = load(model)
    batch = loaded.prepare(image)
    wanted = resolve(loaded, target, batch)
    question, _ = _question(loaded, batch, wanted, layer, "black", 0)
    return wanted.name, shares(question, question.layer).sum((1, 2))


def _question(
    model: Model, batch: Batch, target: Target, layer: str | None, kind: str, seed: int
) -> tuple[Question, str]:
    nothing, words = baseline(model, batch, kind)
    chosen = model.layers[layer].path if layer else _last_maps(model, target)
    return Question(model, batch, target, chosen, nothing, seed), words


def _last_maps(model: Model, target: Target) -> str:
    """The last layer of maps before the target; a pooled one is only the last resort."""
    before = list(model.layers)
    before = before[: [la.path for la in before].index(target.path) + 1]
    dimensions = 4 if model.input.depth else 3
    shaped = [la for la in before if la.shape and len(la.shape) == dimensions]
    maps = [la for la in shaped if la.shape and prod(la.shape[1:]) > 1]
    plain = [la for la in maps if not {"pool", "dropout"} & set(la.families)]
    if target.index is not None:  # where classes have maps of their own, these say nothing new
        plain = [la for la in plain if la.channels != before[-1].channels] or plain
    if not maps:
        raise UsageError(
            f"{model.name} has no layer of maps before {target.path!r}. Name a layer: --layer PATH"
        )
    return (plain or maps)[-1].path


def _maps(
    question: Question,
    methods: Sequence[AttributionMethod],
    checked: bool,
    on_step: Callable[[str], None],
) -> tuple[AttributionMap, ...]:
    found = []
    for method in methods:
        on_step(method.name)
        found.append(asked(method, question))
    covered = [cover(question, one) for one in found]
    if checked:
        on_step("shuffled weights")
    checks = sanity(question, methods, found) if checked else [None] * len(methods)
    return tuple(map(AttributionMap, [one.name for one in methods], found, covered, checks))


def _probability(model: Model, batch: Batch, target: Target) -> float | None:
    if target.index is None:
        return None
    return float(probabilities(model.logits(batch))[0, target.index])
