"""``attribute``: which pixels and channels a score rests on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convscope._atlas import Atlas, open_atlas
from convscope._attribution.attribution_result import AttributionMap, AttributionResult
from convscope._attribution.captum_methods import (
    compute_attribution,
    gradient_x_activation,
    rank_channels,
)
from convscope._attribution.checks import (
    ParameterRandomization,
    deletion_check,
    parameter_randomization_test,
)
from convscope._attribution.methods import METHODS, AttributionMethod, select_methods
from convscope._attribution.target import (
    AttributionTarget,
    AttributionTask,
    make_baseline,
    resolve_target,
)
from convscope._errors import UsageError
from convscope._images import ImageLike
from convscope._models import Batch, Model, ModelLike, load, probabilities, summarize_input


def attribute(
    model: ModelLike,
    image: ImageLike | Batch,
    target: int | str | None = None,
    *,
    method: str | Sequence[str] = tuple(METHODS),
    layer: str | None = None,
    channels: int = 0,
    randomization_test: bool = False,
    baseline: str = "zero",
    size: int | tuple[int, int] | None = None,
    atlas: str | Path | Atlas | None = None,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda step: None,
) -> AttributionResult:
    """Attribute the score of a class, or of a unit, to the pixels of one image and to channels.

    Every map is checked by deletion: the score with the top tenth of the map replaced by the
    baseline, compared with the same pattern elsewhere. Gradients come through captum. The same
    call gives the same numbers.

    Args:
        model: A loaded model, or anything ``load`` takes.
        image: One image, or one float array as the model takes it.
        target: A class by number or name, or an address; a channel's score is the mean of its
            map. By default the predicted class. The score of a class is its logit.
        method: One or several of ``gradcam`` (Selvaraju et al., ICCV 2017),
            ``integrated_gradients`` (Sundararajan et al., ICML 2017), ``gradient_x_input``
            (Shrikumar et al., 2016), ``smoothgrad`` (Smilkov et al., 2017) and ``occlusion``
            (Zeiler and Fergus, ECCV 2014); by default all.
        layer: For Grad-CAM and ``channels``; by default the last layer of maps before the target.
        channels: Number of channels of ``layer`` to list, largest gradient × activation first,
            each with the score drop when it is ablated.
        randomization_test: Whether to compute the maps again with randomized parameters (the
            parameter randomization test of Adebayo et al., NeurIPS 2018).
        baseline: What integrated gradients, occlusion and deletion replace pixels by: ``zero``
            (a black image; for numbers 0), ``gray`` or ``blurred``.
        size: Side, or height and width, in pixels to resize the image to, instead of the model's.
        atlas: Of a scan of this model, to show exemplars of the listed channels.
        seed: Of SmoothGrad's noise, the deletion control and the randomized parameters.
        on_step: Called with the name of each step before it starts.

    Returns:
        The maps, each ``(h, w)`` float32 and signed: of pixels ``(H, W)`` of the preprocessed
        image, for Grad-CAM of the layer's positions; with score, checks and channels.

    Raises:
        UsageError: For a target out of range, an unknown method, several images.
        ModelError: Where the score has no gradient.
        MissingDependency: Without captum.
    """
    loaded = load(model)
    methods = select_methods(method)
    batch = loaded.prepare(image, size=size)
    if len(batch) != 1:
        raise UsageError(f"{len(batch)} images were given; attribution takes one at a time")
    resolved = resolve_target(loaded, target, batch)
    opened = _open_atlas(loaded, atlas)
    layer = layer or _last_scanned_layer(loaded, resolved, opened)
    task, baseline_name = _task(loaded, batch, resolved, layer, baseline, seed)
    maps = _maps(task, methods, randomization_test, on_step)
    if channels:
        on_step("channels")
    return AttributionResult(
        maps,
        resolved.name,
        float(task.score(batch.values)),
        _probability(loaded, batch, resolved),
        task.layer,
        baseline_name,
        summarize_input(loaded, batch),
        rank_channels(task, task.layer, channels) if channels else None,
        opened,
    )


def channel_attributions(
    model: ModelLike, image: ImageLike | Batch, layer: str, target: int | str | None = None
) -> tuple[str, NDArray[np.float32]]:
    """Gradient × activation of every channel of a layer, summed over positions.

    Args:
        model: A loaded model, or anything ``load`` takes.
        image: One image, or one float array as the model takes it.
        layer: The layer's path.
        target: As for ``attribute``.

    Returns:
        The target's name, and the attributions, ``(C,)``.
    """
    loaded = load(model)
    batch = loaded.prepare(image)
    resolved = resolve_target(loaded, target, batch)
    task, _ = _task(loaded, batch, resolved, layer, "zero", 0)
    return resolved.name, gradient_x_activation(task, task.layer).sum((1, 2))


def _open_atlas(model: Model, atlas: str | Path | Atlas | None) -> Atlas | None:
    opened = open_atlas(atlas) if isinstance(atlas, (str, Path)) else atlas
    if opened is not None and opened.model != model.title:
        raise UsageError(f"The atlas is of {opened.model}, not of {model.title}")
    return opened


def _last_scanned_layer(model: Model, target: AttributionTarget, atlas: Atlas | None) -> str | None:
    """The last layer before the target that an atlas holds."""
    paths = [layer.path for layer in model.layers]
    before = paths[: paths.index(target.path)]
    scanned = [layer.path for layer in atlas.layers] if atlas else []
    return next((path for path in reversed(before) if path in scanned), None)


def _task(
    model: Model,
    batch: Batch,
    target: AttributionTarget,
    layer: str | None,
    baseline: str,
    seed: int,
) -> tuple[AttributionTask, str]:
    """The task, and the baseline's name in words."""
    values, name = make_baseline(model, batch, baseline)
    path = model.layers[layer].path if layer else _last_layer_of_maps(model, target)
    return AttributionTask(model, batch, target, path, values, seed), name


def _last_layer_of_maps(model: Model, target: AttributionTarget) -> str:
    """The last layer of maps before the target; a pooled one is only the last resort."""
    before = list(model.layers)
    before = before[: [la.path for la in before].index(target.path) + 1]
    dimensions = {"image": 3, "volume": 4, "signal": 2}[model.input.kind]
    shaped = [la for la in before if la.shape and len(la.shape) == dimensions]
    maps = [la for la in shaped if la.shape and prod(la.shape[1:]) > 1]
    plain = [la for la in maps if not {"pool", "dropout"} & set(la.families)]
    if target.class_index is not None:  # where classes have maps of their own, these add nothing
        plain = [la for la in plain if la.channels != before[-1].channels] or plain
    if not maps:
        raise UsageError(
            f"{model.name} has no layer of maps before {target.path!r}. Name a layer: --layer PATH"
        )
    return (plain or maps)[-1].path


def _maps(
    task: AttributionTask,
    methods: Sequence[AttributionMethod],
    randomization_test: bool,
    on_step: Callable[[str], None],
) -> tuple[AttributionMap, ...]:
    outputs = []
    for method in methods:
        on_step(method.name)
        outputs.append(compute_attribution(method, task))
    deletions = [deletion_check(task, output) for output in outputs]
    tests: Sequence[ParameterRandomization | None] = [None] * len(methods)
    if randomization_test:
        on_step("randomized parameters")
        tests = parameter_randomization_test(task, methods, outputs)
    names = [method.name for method in methods]
    return tuple(map(AttributionMap, names, outputs, deletions, tests))


def _probability(model: Model, batch: Batch, target: AttributionTarget) -> float | None:
    if target.class_index is None:
        return None
    return float(probabilities(model.logits(batch))[0, target.class_index])
