"""What is answered of a network and of the pictures it is shown: JSON, pictures, numbers.

Every function takes a ``Session`` and gives an ``Answer``; nothing here knows HTTP, so the server
and an exported page tell the same.
"""

from __future__ import annotations

import base64
import io
import json
import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image

from convscope.attribution import attribute, channel_shares
from convscope.errors import ConvscopeError, ModelError, UnknownLayer, UsageError
from convscope.kernels import Filters, filters
from convscope.models import ReceptiveField
from convscope.web import wire
from convscope.web.session import Session, Slide

JSON, BINARY, PNG, WEBP = "application/json", "application/octet-stream", "image/png", "image/webp"
METHODS = ("gradcam", "integrated_gradients", "gradient_x_input", "smoothgrad", "occlusion")
THUMB = 56
_KERNEL_BYTES = 4 << 20


@dataclass(frozen=True)
class Answer:
    """A body and what it is; ``lasting``: it can never be another one."""

    body: bytes
    type: str
    status: int = 200
    lasting: bool = False


def as_json(value: Any, status: int = 200) -> Answer:
    """Strict JSON: what is no number becomes null."""
    text = json.dumps(finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Answer(text.encode("utf-8", "replace"), JSON, status)


def finite(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, np.ndarray):
        return finite(value.tolist())
    if isinstance(value, dict):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def picture(image: Image.Image, kind: str = PNG) -> Answer:
    """A picture as a file."""
    stream = io.BytesIO()
    if kind == PNG:
        image.save(stream, "png", compress_level=1)
    else:
        image.save(stream, "webp", quality=75, method=2)
    return Answer(stream.getvalue(), kind, lasting=True)


# The network


def model(session: Session, *, exported: bool = False) -> Answer:
    """What is known of the network; 202 while it is being loaded."""
    from convscope import __version__

    state = session.state
    live = state == "ready" and not exported
    loaded = session.model if state == "ready" else None
    about: dict[str, Any] = {
        "state": state, "detail": session.error, "name": session.named, "title": session.named,
        "version": __version__, "live": live, "exported": exported, "input": None, "classes": [],
        "untrained": "", "atlas": _atlas(session),
        "can": {
            "upload": live, "exact": live, "jobs": live, "kernels": loaded is not None,
            "attribution": list(METHODS) if live and find_spec("captum") else [],
            "findings": session.atlas is not None,
        },
    }  # fmt: skip
    if loaded is not None:
        takes = loaded.input
        about |= {
            "name": loaded.name, "title": loaded.title, "classes": list(takes.classes),
            "untrained": loaded.looks_untrained(),
            "input": {"channels": takes.channels, "size": takes.size, "sizes": _sizes(takes.size),
                      "preprocess": takes.preprocess.describe(), "note": takes.note},
        }  # fmt: skip
    elif session.atlas is not None:
        about["title"] = session.atlas.model
    return as_json(about, 202 if state == "loading" else 200)


def _sizes(own: tuple[int, int] | None) -> list[int]:
    """Sides to look at: the network's own first, and one at which there is something to see."""
    sides = [own[0]] if own and own[0] == own[1] else []
    return [*sides, *(side for side in (224,) if not sides or sides[0] < 128)]


def _atlas(session: Session) -> dict[str, Any] | None:
    atlas = session.atlas
    if atlas is None:
        return None
    return {
        "model": atlas.model, "dataset": short(atlas.dataset), "images": atlas.images,
        "classes": list(atlas.classes), "labelled": atlas.labelled,
        "skipped": len(atlas.skipped), "note": session.note,
    }  # fmt: skip


def short(dataset: str) -> str:
    """A dataset without the folders it lies in: pages are handed on."""
    return PurePath(dataset).name if "/" in dataset or "\\" in dataset else dataset


def layers(session: Session) -> Answer:
    """All layers, in execution order."""
    scanned = {la.path: la.receptive_field for la in session.atlas.layers} if session.atlas else {}
    fields = _fields(session)
    with_kernel = _with_kernel(session)
    return as_json({"layers": [
        {"index": k, "path": la.path, "kind": la.kind, "shape": la.shape, "depth": la.depth,
         "container": la.container, "function": la.function, "families": la.families,
         "parameters": la.parameters, "maps": bool(la.shape), "kernel": la.path in with_kernel,
         "atlas": la.path in scanned,
         "field": fields.get(la.path) or scanned.get(la.path) or ""}
        for k, la in enumerate(session.layers)
    ]})  # fmt: skip


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
        values = values[_within(channel, len(values), f"filter of {layer.path!r}")][None]
    else:
        values = values[: max(1, _KERNEL_BYTES // max(values[0].nbytes, 1))]
    return Answer(wire.floats_block(values, _flags(found)), BINARY)


def _flags(found: Filters) -> int:
    return wire.COLOUR if found.colour else 0


# Pictures


def inputs(session: Session) -> Answer:
    """The pictures of this session, and those that come with it."""
    return as_json({"inputs": [about(slide) for slide in session.slides()],
                    "demos": list(session.demos)})  # fmt: skip


def about(slide: Slide) -> dict[str, Any]:
    """What was done to a picture."""
    return {
        "id": slide.id, "name": slide.name, "original": slide.original,
        "seen": slide.seen.shape[:2], "scale": slide.scale, "offset": slide.offset,
        "lines": slide.lines,
    }  # fmt: skip


def image(session: Session, id: str, view: str = "original") -> Answer:
    """A picture, or what the model sees of it."""
    slide = session.slide(id)
    if view == "model":
        return picture(Image.fromarray(slide.seen))
    if view != "original":
        raise UsageError(f"No view {view[:40]!r}: original or model")
    small = max(slide.shown.size) <= 256
    return picture(slide.shown, PNG if small else WEBP)


def predictions(session: Session, id: str) -> Answer:
    """The five most probable classes, or why there are none."""
    network, slide = session.model, session.slide(id)
    try:
        ranked = network.predict(slide.batch, top=5)
    except ModelError as error:
        return as_json({"predictions": [], "note": str(error)})
    names = network.input.classes
    return as_json({"note": "", "predictions": [
        {"class": name, "index": _class_index(name, names), "probability": p} for name, p in ranked
    ]})  # fmt: skip


def _class_index(name: str, names: tuple[str, ...]) -> int:
    return names.index(name) if name in names else int(name.rpartition(" ")[2])


def glances(session: Session, id: str) -> Answer:
    """What every layer makes of a picture, in numbers."""
    return as_json({"layers": [
        {"index": one.layer, "shape": one.shape, "dead": one.zero, "constant": one.constant,
         "nan": one.odd, "low": one.low, "high": one.high}
        for one in session.glances(session.slide(id))
    ]})  # fmt: skip


def thumbnails(session: Session, id: str) -> Answer:
    """The mean map of every layer, small."""
    found = [(one.layer, one.mean) for one in session.glances(session.slide(id))]
    return Answer(wire.thumbnails_block(found), BINARY, lasting=True)


def field(session: Session, id: str, index: int) -> Answer:
    """What each position of a layer looks at in this picture."""
    slide, layer = session.slide(id), session.layer(index)
    try:
        found = session.model.receptive_fields(slide.batch.size)[layer.path]
    except (ModelError, KeyError) as error:
        reason = str(error) if isinstance(error, ModelError) else ""
        raise UnknownLayer(
            reason or f"The receptive field of {layer.path!r} is not known"
        ) from None
    return as_json(_field(found))


def _field(found: ReceptiveField) -> dict[str, Any]:
    exact = {"rows": found.rows, "columns": found.columns} if found.gated else None
    return {
        "known": found.known, "text": found.describe(), "image": found.image, "size": found.size,
        "stride": found.stride, "rows": found.local_rows, "columns": found.local_columns,
        "exact": exact, "data_dependent": found.data_dependent,
    }  # fmt: skip


def maps(
    session: Session, id: str, index: int, most: int = THUMB, channel: int | None = None
) -> Answer:
    """Feature maps in 8 bits: all of a layer, or one of its channels."""
    values = session.maps(session.slide(id), index)
    if channel is not None:
        k = _within(channel, len(values), "channel")
        values = values[k : k + 1]
    if not 0 <= most <= 4096:
        raise UsageError(f"max={most} is no size of a map. Usual: {THUMB}; 0: as it is")
    return Answer(wire.maps_block(values, most), BINARY, lasting=True)


def values(
    session: Session,
    id: str,
    index: int,
    channel: int | None = None,
    position: tuple[int, int] | None = None,
) -> Answer:
    """Exact numbers: a channel everywhere, or every channel at a position."""
    found = session.maps(session.slide(id), index)
    if channel is not None:
        one = found[_within(channel, len(found), "channel")]
        return Answer(wire.floats_block(one[None, None]), BINARY, lasting=True)
    if position is None:
        raise UsageError("Name a channel, or a position: ?channel=3, or ?y=4&x=5")
    y = _within(position[0], found.shape[1], "row")
    x = _within(position[1], found.shape[2], "column")
    return Answer(wire.floats_block(found[None, :, y : y + 1, x : x + 1]), BINARY, lasting=True)


def _within(k: int, count: int, what: str) -> int:
    if not 0 <= k < count:
        raise UnknownLayer(f"No {what} {k}: there are {count}, from 0")
    return k


# Why this answer


def attribution(session: Session, id: str, method: str, target: int | None = None) -> Answer:
    """Where in the picture the answer comes from."""
    found = attribute(session.model, session.slide(id).batch, target, method=method)
    one = found.maps[0]
    height, width = one.values.shape
    packed = base64.b64encode(np.ascontiguousarray(one.values, "<f4").tobytes()).decode()
    return as_json({
        "method": one.method, "title": one.title, "target": found.target, "score": found.score,
        "probability": found.probability, "layer": found.layer,
        "sentence": one.sentence(found.score), "height": height, "width": width, "values": packed,
    })  # fmt: skip


def channel_attribution(session: Session, id: str, index: int, target: int | None = None) -> Answer:
    """Through which channels of a layer it comes: gradient × activation, summed over each map."""
    layer = session.layer(index)
    name, sums = channel_shares(session.model, session.slide(id).batch, layer.path, target)
    return as_json({"target": name, "channels": sums})
