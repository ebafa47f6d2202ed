"""What is answered of the pictures a network is shown: predictions, maps, values, fields."""

from __future__ import annotations

from typing import Any

from PIL import Image

from convscope._app import wire
from convscope._app.answers import BINARY, PNG, THUMB, WEBP, Answer, as_json, picture, within
from convscope._app.session import Session
from convscope._app.slides import Slide
from convscope._errors import ModelError, UnknownLayer, UsageError
from convscope._models import ReceptiveField


def inputs(session: Session) -> Answer:
    """The pictures of this session, and those that come with it."""
    return as_json(
        {"inputs": [about(slide) for slide in session.slides()], "demos": list(session.demos)}
    )


def about(slide: Slide) -> dict[str, Any]:
    """What was done to a picture."""
    return {
        "id": slide.id,
        "name": slide.name,
        "original": slide.original,
        "seen": slide.seen.shape[:2],
        "scale": slide.scale,
        "offset": slide.offset,
        "lines": slide.lines,
    }


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
    session.maps(slide, session.mapped[0])  # what the page waits for comes first
    try:
        ranked = network.predict(slide.batch, top=5)
    except ModelError as error:
        return as_json({"predictions": [], "note": str(error)})
    names = network.input.classes
    return as_json(
        {
            "note": "",
            "predictions": [
                {"class": name, "index": _class_index(name, names), "probability": p}
                for name, p in ranked
            ],
        }
    )


def _class_index(name: str, names: tuple[str, ...]) -> int:
    return names.index(name) if name in names else int(name.rpartition(" ")[2])


def glances(session: Session, id: str) -> Answer:
    """What every layer makes of a picture, in numbers."""
    return as_json(
        {
            "layers": [
                {
                    "index": one.layer,
                    "shape": one.shape,
                    "dead": one.zero,
                    "constant": one.constant,
                    "nan": one.odd,
                    "low": one.low,
                    "high": one.high,
                }
                for one in session.glances(session.slide(id))
            ]
        }
    )


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
        "known": found.known,
        "text": found.describe(),
        "image": found.image,
        "size": found.size,
        "stride": found.stride,
        "rows": found.local_rows,
        "columns": found.local_columns,
        "exact": exact,
        "data_dependent": found.data_dependent,
    }


def maps(
    session: Session, id: str, index: int, most: int = THUMB, channel: int | None = None
) -> Answer:
    """Feature maps in 8 bits: all of a layer, or one of its channels."""
    values = session.maps(session.slide(id), index)
    if channel is not None:
        k = within(channel, len(values), "channel")
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
        one = found[within(channel, len(found), "channel")]
        return Answer(wire.floats_block(one[None, None]), BINARY, lasting=True)
    if position is None:
        raise UsageError("Name a channel, or a position: ?channel=3, or ?y=4&x=5")
    y = within(position[0], found.shape[1], "row")
    x = within(position[1], found.shape[2], "column")
    return Answer(wire.floats_block(found[None, :, y : y + 1, x : x + 1]), BINARY, lasting=True)
