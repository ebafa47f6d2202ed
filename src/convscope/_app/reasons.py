"""What is answered to why: where an answer comes from, through which channels, what matters."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from convscope._app.answers import Answer, as_json, short, within
from convscope._app.session import Session
from convscope._attribution.attribute import attribute, channel_attributions
from convscope._attribution.attribution_result import AttributionResult
from convscope._attribution.methods import select_methods
from convscope._data import Shapes
from convscope._errors import UnknownLayer, UsageError
from convscope._models import Model
from convscope._sensitivity import LayerSensitivity, sensitivity

_PICTURES = 32

Unit = tuple[int, int]


def attribution(
    session: Session, id: str, method: str, target: int | None = None, unit: Unit | None = None
) -> Answer:
    """Where in the picture a class, or a unit (layer, channel), comes from."""
    found = explained(session, session.model, id, method, target, unit)
    one = found.maps[0]
    height, width = one.values.shape
    packed = base64.b64encode(np.ascontiguousarray(one.values, "<f4").tobytes()).decode()
    return as_json(
        {
            "method": one.method,
            "title": one.title,
            "target": found.target,
            "score": found.score,
            "probability": found.probability,
            "layer": found.layer,
            "baseline": found.baseline,
            "sentence": one.sentence(found.score),
            "height": height,
            "width": width,
            "values": packed,
        }
    )


def explained(
    session: Session,
    model: Model,
    id: str,
    method: str,
    target: int | None,
    unit: Unit | None,
) -> AttributionResult:
    """The same with its numbers, by ``model``: the session's, or its copy. Made once."""
    select_methods(method)
    slide, what = session.slide(id), target_of(session, target, unit)
    found: AttributionResult = session.once(
        ("attribution", id, method, what),
        lambda: attribute(model, slide.batch, what, method=method),
    )
    return found


def target_of(session: Session, target: int | None, unit: Unit | None) -> int | str | None:
    """A class by its number, or the address of a unit."""
    if unit is None:
        return target
    if target is not None:
        raise UsageError("Name a class or a unit, not both")
    layer = session.layer(unit[0])
    return f"{layer.path}:{within(unit[1], layer.channels, 'channel')}"


def channel_attribution(session: Session, id: str, index: int, target: int | None = None) -> Answer:
    """Through which channels of a layer it comes: gradient × activation, summed over each map."""
    layer, slide = session.layer(index), session.slide(id)
    name, sums = session.once(
        ("shares", id, layer.path, target),
        lambda: channel_attributions(session.model, slide.batch, layer.path, target),
    )
    return as_json({"target": name, "channels": sums})


# Sensitivity


def measure(session: Session, model: Model, index: int) -> LayerSensitivity:
    """What the channels of a layer follow: on the data that were named, else on drawn shapes."""
    layer = session.layer(index)
    if not layer.shape:
        raise UnknownLayer(f"{layer.path!r} returns no tensor of numbers, so it has no channels")
    height, width = session.model.input.size or (64, 64)
    side = max(32, min(height, width))
    shown = session.data or f"shapes,count={_PICTURES},size={side}"
    found = sensitivity(model, shown, layer.path, first=_PICTURES)
    return found[layer.path]


def felt(session: Session, index: int, channel: int) -> Answer:
    """What one channel follows and ignores, where that was measured."""
    layer = session.layer(index)
    within(channel, layer.channels, "channel")
    found: LayerSensitivity | None = session.felt.get(layer.path)
    if found is None:
        return as_json({"measured": False, "on": measured_on(session)})
    told: dict[str, Any] = found.rows()[channel]
    return as_json(
        {
            **told,
            "measured": True,
            "on": measured_on(session),
            "sentence": found.sentence(channel),
            "layer": found.perturbation_invariance,
        }
    )


def measured_on(session: Session) -> str:
    """The pictures it is measured on, in words."""
    if session.data is None or isinstance(session.data, Shapes):
        return f"{_PICTURES} drawn shapes"
    return f"{min(_PICTURES, len(session.data))} pictures of {short(session.data.name)}"
