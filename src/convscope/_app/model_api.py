"""Answers of the API on a network: its facts, its layers, its filters."""

from __future__ import annotations

from dataclasses import asdict
from importlib.util import find_spec

from convscope import __version__
from convscope._app import wire
from convscope._app.session import Session
from convscope._app.wire import BINARY, Payload, base_name, check_index, json_payload, npz_payload
from convscope._attribution.methods import METHODS
from convscope._errors import ConvscopeError, ModelError, UnknownLayer
from convscope._filters import filters
from convscope._models import Model

_MAX_FILTER_BYTES = 4 << 20
_VIEWED_SIDE, _SMALL_SIDE = 224, 128  # smaller maps show little: a larger image is offered

Facts = dict[str, object]


def model(session: Session, *, exported: bool = False) -> Payload:
    """Facts of the network, the atlas and what the app can do; 202 while it is being loaded."""
    state, live = session.state, session.state == "ready" and not exported
    facts: Facts = {
        "state": state,
        "error": session.error,
        "name": session.model_name,
        "title": session.model_name,
        "version": __version__,
        "live": live,
        "exported": exported,
        "input": None,
        "classes": [],
        "untrained": "",
        "atlas": _atlas_facts(session),
        "features": _features(session, live),
        "other": None if exported or session.other is None else session.other.model_name or "other",
        "dataset": None if exported else _dataset_facts(session),
    }
    if state == "ready":
        facts |= _model_facts(session.model)
    elif session.atlas is not None:
        facts["title"] = session.atlas.model
    return json_payload(facts, 202 if state == "loading" else 200)


def _features(session: Session, live: bool) -> Facts:
    """What of the app is available here."""
    methods = METHODS.values() if live and find_spec("captum") else ()
    return {
        "upload": live,
        "exact": live,
        "jobs": live,
        "filters": session.state == "ready",
        "attribution": [asdict(method) for method in methods],
        "health": session.atlas is not None,
    }


def _model_facts(network: Model) -> Facts:
    spec = network.input
    return {
        "name": network.name,
        "title": network.title,
        "classes": list(spec.classes),
        "untrained": network.untrained_note("This network"),
        "input": {
            "channels": spec.channels,
            "size": spec.size,
            "sizes": _sizes(spec.size),
            "preprocessing": spec.preprocess.describe(),
            "note": spec.note,
        },
    }


def _dataset_facts(session: Session) -> Facts | None:
    """The dataset that may be scanned; ``saved``: whether its atlas outlives the server."""
    if session.dataset is None:
        return None
    return {
        "name": base_name(session.dataset.name),
        "images": len(session.dataset),
        "saved": session.folder is not None,
    }


def _sizes(own: tuple[int, int] | None) -> list[int]:
    """Sides to choose from: the network's own first, and one at which maps show something."""
    sides = [own[0]] if own and own[0] == own[1] else []
    return [*sides, *([_VIEWED_SIDE] if not sides or sides[0] < _SMALL_SIDE else [])]


def _atlas_facts(session: Session) -> Facts | None:
    atlas = session.atlas
    if atlas is None:
        return None
    return {
        "model": atlas.model,
        "dataset": base_name(atlas.dataset),
        "images": atlas.images,
        "classes": list(atlas.classes),
        "labeled": atlas.labeled,
        "skipped": len(atlas.skipped),
        "mismatch": session.mismatch,
    }


def layers(session: Session) -> Payload:
    """All layers, in execution order."""
    scanned = {la.path: la.receptive_field for la in session.atlas.layers} if session.atlas else {}
    fields = _receptive_fields(session)
    with_filters = _paths_with_filters(session)
    return json_payload(
        {
            "layers": [
                {
                    "index": k,
                    "path": la.path,
                    "kind": la.kind,
                    "shape": la.shape,
                    "depth": la.depth,
                    "container": la.container,
                    "function": la.function,
                    "families": la.families,
                    "parameters": la.parameters,
                    "has_maps": bool(la.shape) and not la.refusal,
                    "refusal": la.refusal,
                    "has_filters": la.path in with_filters,
                    "in_atlas": la.path in scanned,
                    "receptive_field": fields.get(la.path) or scanned.get(la.path) or "",
                }
                for k, la in enumerate(session.layers)
            ]
        }
    )


def _receptive_fields(session: Session) -> dict[str, str]:
    """Receptive fields in words, at the network's own input size."""
    if session.state != "ready":
        return {}
    try:
        fields = session.model.receptive_fields()
    except ConvscopeError:  # they can be traced on torch only
        return {}
    drawn = [layer.path for layer in session.layers if not layer.refusal]
    return {path: fields[path].describe() for path in drawn if path in fields}


def _paths_with_filters(session: Session) -> set[str]:
    if session.state != "ready":
        return set()
    paths = set()
    for layer in session.layers:
        if {"conv", "linear"} & set(layer.families) or layer.kind == "Dense":
            try:
                session.model.weights(layer.path)
            except ConvscopeError:
                continue
            paths.add(layer.path)
    return paths


def layer_filters(session: Session, index: int, channel: int | None = None) -> Payload:
    """The filters of a layer, as many as 4 MB hold; with ``channel`` those of one output."""
    layer = session.layer(index)
    try:
        result = filters(session.model, layer.path)
    except UnknownLayer as error:
        raise ModelError(str(error)) from None
    values = result.values
    if channel is not None:
        values = values[check_index(channel, len(values), f"filter of {layer.path!r}")][None]
    else:
        values = values[: max(1, _MAX_FILTER_BYTES // max(values[0].nbytes, 1))]
    return Payload(wire.floats_block(values, wire.COLOR if result.color else 0), BINARY)


def filters_file(session: Session, index: int, channel: int | None = None) -> Payload:
    """``weights`` of a layer as ``.npz``, outputs first."""
    layer = session.layer(index)
    values = filters(session.model, layer.path).values
    if channel is not None:
        values = values[check_index(channel, len(values), "filter")]
    return npz_payload(f"{session.model.title}, filters of {layer.path}", weights=values)
