"""What is answered of a network: what it is, its layers, its kernels."""

from __future__ import annotations

from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

from convscope._app import wire
from convscope._app.answers import BINARY, Answer, as_json, short, within
from convscope._app.session import Session
from convscope._attribution.methods import METHODS
from convscope._errors import ConvscopeError, ModelError, UnknownLayer
from convscope._filters import filters
from convscope._models import Model

_KERNEL_BYTES = 4 << 20


def model(session: Session, *, exported: bool = False) -> Answer:
    """What is known of the network; 202 while it is being loaded."""
    from convscope import __version__

    state, live = session.state, session.state == "ready" and not exported
    about: dict[str, Any] = {
        "state": state,
        "detail": session.error,
        "name": session.named,
        "title": session.named,
        "version": __version__,
        "live": live,
        "exported": exported,
        "input": None,
        "classes": [],
        "untrained": "",
        "atlas": _atlas(session),
        "can": _can(session, live),
        "other": None if exported or session.other is None else session.other.named or "another",
        "data": None if exported or session.data is None else _data(session),
    }
    if state == "ready":
        about |= _loaded(session.model)
    elif session.atlas is not None:
        about["title"] = session.atlas.model
    return as_json(about, 202 if state == "loading" else 200)


def _can(session: Session, live: bool) -> dict[str, Any]:
    """What of the app works here."""
    return {
        "upload": live,
        "exact": live,
        "jobs": live,
        "kernels": session.state == "ready",
        "attribution": _attribution_methods() if live and find_spec("captum") else [],
        "findings": session.atlas is not None,
    }


def _attribution_methods() -> list[dict[str, Any]]:
    return [asdict(method) for method in METHODS.values()]


def _loaded(network: Model) -> dict[str, Any]:
    takes = network.input
    return {
        "name": network.name,
        "title": network.title,
        "classes": list(takes.classes),
        "untrained": network.untrained_note("This network"),
        "input": {
            "channels": takes.channels,
            "size": takes.size,
            "sizes": _sizes(takes.size),
            "preprocess": takes.preprocess.describe(),
            "note": takes.note,
        },
    }


def _data(session: Session) -> dict[str, Any]:
    """What the user allowed to be scanned."""
    assert session.data is not None
    return {
        "name": short(session.data.name),
        "images": len(session.data),
        "kept": session.folder is not None,
    }


def _sizes(own: tuple[int, int] | None) -> list[int]:
    """Sides to look at: the network's own first, and one at which there is something to see."""
    sides = [own[0]] if own and own[0] == own[1] else []
    return [*sides, *(side for side in (224,) if not sides or sides[0] < 128)]


def _atlas(session: Session) -> dict[str, Any] | None:
    atlas = session.atlas
    if atlas is None:
        return None
    return {
        "model": atlas.model,
        "dataset": short(atlas.dataset),
        "images": atlas.images,
        "classes": list(atlas.classes),
        "labeled": atlas.labeled,
        "skipped": len(atlas.skipped),
        "note": session.note,
    }


def layers(session: Session) -> Answer:
    """All layers, in execution order."""
    scanned = {la.path: la.receptive_field for la in session.atlas.layers} if session.atlas else {}
    fields = _fields(session)
    with_kernel = _with_kernel(session)
    return as_json(
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
                    "maps": bool(la.shape),
                    "kernel": la.path in with_kernel,
                    "atlas": la.path in scanned,
                    "field": fields.get(la.path) or scanned.get(la.path) or "",
                }
                for k, la in enumerate(session.layers)
            ]
        }
    )


def _fields(session: Session) -> dict[str, str]:
    """Receptive fields in words, at the size of the network's own."""
    if session.state != "ready":
        return {}
    try:
        found = session.model.receptive_fields()
    except ConvscopeError:  # they can be traced on torch only
        return {}
    return {path: one.describe() for path, one in found.items()}


def _with_kernel(session: Session) -> set[str]:
    if session.state != "ready":
        return set()
    found = set()
    for layer in session.layers:
        if {"conv", "linear"} & set(layer.families) or layer.kind == "Dense":
            try:
                session.model.weights(layer.path)
            except ConvscopeError:
                continue
            found.add(layer.path)
    return found


def kernels(session: Session, index: int, channel: int | None = None) -> Answer:
    """The filters of a layer; with ``channel`` those of one output."""
    layer = session.layer(index)
    try:
        found = filters(session.model, layer.path)
    except UnknownLayer as error:
        raise ModelError(str(error)) from None
    values = found.values
    if channel is not None:
        values = values[within(channel, len(values), f"filter of {layer.path!r}")][None]
    else:
        values = values[: max(1, _KERNEL_BYTES // max(values[0].nbytes, 1))]
    return Answer(wire.floats_block(values, wire.COLOR if found.color else 0), BINARY)
