"""Answers of the API on predictions and units: attribution and sensitivity."""

from __future__ import annotations

import base64

import numpy as np

from convscope._app.session import Session
from convscope._app.wire import Payload, base_name, check_index, json_payload, npz_payload
from convscope._attribution.attribute import attribute, channel_attributions
from convscope._attribution.attribution_result import AttributionResult
from convscope._attribution.methods import select_methods
from convscope._data import Shapes
from convscope._errors import UnknownLayer, UsageError
from convscope._models import Model
from convscope._sensitivity import LayerSensitivity, sensitivity

_SENSITIVITY_IMAGES = 32
_SHAPE_SIDE = 64  # of drawn shapes, where the network takes any size

UnitIndex = tuple[int, int]
"""A layer's index and a channel."""


def attribution(
    session: Session, id: str, method: str, target: int | None, unit: UnitIndex | None
) -> Payload:
    """The attribution map of a class, or of a unit, on an input image."""
    result = compute_attribution(session, session.model, id, method, target, unit)
    attribution_map = result.maps[0]
    height, width = attribution_map.values.shape
    values = base64.b64encode(
        np.ascontiguousarray(attribution_map.values, "<f4").tobytes()
    ).decode()
    return json_payload(
        {
            "method": attribution_map.method,
            "title": attribution_map.title,
            "target": result.target,
            "score": result.score,
            "probability": result.probability,
            "layer": result.layer,
            "baseline": result.baseline,
            "sentence": attribution_map.sentence(result.score),
            "height": height,
            "width": width,
            "values": values,
        }
    )


def compute_attribution(
    session: Session,
    model: Model,
    id: str,
    method: str,
    target: int | None,
    unit: UnitIndex | None,
) -> AttributionResult:
    """Attribute with ``model``, the session's or its copy; each result is computed once."""
    select_methods(method)
    image, resolved = session.input(id), resolve_target(session, target, unit)
    result: AttributionResult = session.once(
        ("attribution", id, method, resolved),
        lambda: attribute(model, image.batch, resolved, method=method),
    )
    return result


def resolve_target(
    session: Session, target: int | None, unit: UnitIndex | None
) -> int | str | None:
    """A class by its index, the address of a unit, or ``None`` for the predicted class."""
    if unit is None:
        return target
    if target is not None:
        raise UsageError("Name a class or a unit, not both")
    layer = session.layer(unit[0])
    return f"{layer.path}:{check_index(unit[1], layer.channels, 'channel')}"


def channel_attribution(
    session: Session, id: str, index: int, target: int | None = None
) -> Payload:
    """Gradient × activation of each channel of a layer, summed over positions."""
    layer, image = session.layer(index), session.input(id)
    name, sums = session.once(
        ("channel attribution", id, layer.path, target),
        lambda: channel_attributions(session.model, image.batch, layer.path, target),
    )
    return json_payload({"target": name, "channels": sums})


def attribution_file(
    session: Session, id: str, method: str, target: int | None, unit: UnitIndex | None
) -> Payload:
    """``attribution`` ``(h, w)`` and the ``preprocessed`` input as ``.npz``."""
    result = compute_attribution(session, session.model, id, method, target, unit)
    image = session.input(id)
    return npz_payload(
        f"{session.model.title}, {image.name}: {method} for {result.target}",
        attribution=result.maps[0].values,
        preprocessed=image.preprocessed,
    )


# Sensitivity


def measure_sensitivity(session: Session, model: Model, index: int) -> LayerSensitivity:
    """Measure a layer's sensitivity on the dataset that was named, else on drawn shapes."""
    layer = session.layer(index)
    if not layer.shape:
        raise UnknownLayer(f"{layer.path!r} returns no tensor of numbers, so it has no channels")
    height, width = session.model.input.size or (_SHAPE_SIDE, _SHAPE_SIDE)
    side = max(32, min(height, width))
    dataset = session.dataset or f"shapes,count={_SENSITIVITY_IMAGES},size={side}"
    return sensitivity(model, dataset, layer.path, first=_SENSITIVITY_IMAGES)[layer.path]


def channel_sensitivity(session: Session, index: int, channel: int) -> Payload:
    """The sensitivity of one channel, where it was measured."""
    layer = session.layer(index)
    check_index(channel, layer.channels, "channel")
    result = session.sensitivities.get(layer.path)
    if result is None:
        return json_payload({"measured": False, "dataset": sensitivity_dataset(session)})
    return json_payload(
        {
            **result.rows()[channel],
            "measured": True,
            "dataset": sensitivity_dataset(session),
            "sentence": result.sentence(channel),
            "layer": result.perturbation_invariance,
        }
    )


def sensitivity_dataset(session: Session) -> str:
    """The images that sensitivity is measured on, in words."""
    if session.dataset is None or isinstance(session.dataset, Shapes):
        return f"{_SENSITIVITY_IMAGES} drawn shapes"
    count = min(_SENSITIVITY_IMAGES, len(session.dataset))
    return f"{count} images of {base_name(session.dataset.name)}"
