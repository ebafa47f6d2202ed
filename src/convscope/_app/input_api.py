"""Answers of the API on input images: predictions, feature maps, values, receptive fields."""

from __future__ import annotations

import numpy as np
from PIL import Image

from convscope._app import wire
from convscope._app.inputs import InputImage
from convscope._app.session import Session
from convscope._app.wire import (
    BINARY,
    MAX_SIDE,
    PNG,
    WEBP,
    Payload,
    check_index,
    image_payload,
    json_payload,
    npz_payload,
)
from convscope._errors import ModelError, UnknownLayer, UsageError
from convscope._models import ReceptiveField

_SMALL_IMAGE = 256  # pixels a side; larger ones travel as WebP
_SIDE_LIMIT = 4096


def inputs(session: Session) -> Payload:
    """The input images of this session, and the names of the demo images."""
    listed = [input_facts(image) for image in session.inputs()]
    return json_payload({"inputs": listed, "demos": list(session.demos)})


def input_facts(image: InputImage) -> dict[str, object]:
    """An input image and its preprocessing."""
    return {
        "id": image.id,
        "name": image.name,
        "original_size": image.original_size,
        "input_size": image.preprocessed.shape[:2],
        "scale": image.scale,
        "offset": image.offset,
        "preprocessing": image.preprocessing,
    }


def pixels(session: Session, id: str, stage: str = "original") -> Payload:
    """An input image as it was given, or preprocessed."""
    image = session.input(id)
    if stage == "preprocessed":
        return image_payload(Image.fromarray(image.preprocessed))
    if stage != "original":
        raise UsageError(f"No stage {stage[:40]!r}: original or preprocessed")
    small = max(image.original.size) <= _SMALL_IMAGE
    return image_payload(image.original, PNG if small else WEBP)


def predictions(session: Session, id: str) -> Payload:
    """The five most probable classes, or why there are none."""
    network, image = session.model, session.input(id)
    session.maps(image, session.layers_with_maps[0])  # the maps on the page come first
    try:
        ranked = network.predict(image.batch, top=5)
    except ModelError as error:
        return json_payload({"predictions": [], "note": str(error)})
    names = network.input.classes
    return json_payload(
        {
            "note": "",
            "predictions": [
                {"class": name, "index": _class_index(name, names), "probability": probability}
                for name, probability in ranked
            ],
        }
    )


def _class_index(name: str, names: tuple[str, ...]) -> int:
    return names.index(name) if name in names else int(name.rpartition(" ")[2])


def layer_summaries(session: Session, id: str) -> Payload:
    """All layers on an input image, in numbers."""
    return json_payload(
        {
            "layers": [
                {
                    "index": summary.layer,
                    "shape": summary.shape,
                    "inactive": summary.inactive,
                    "constant": summary.constant,
                    "non_finite": summary.non_finite,
                    "minimum": summary.minimum,
                    "maximum": summary.maximum,
                }
                for summary in session.layer_summaries(session.input(id))
            ]
        }
    )


def thumbnails(session: Session, id: str) -> Payload:
    """The mean map of every layer, small."""
    means = [(one.layer, one.mean) for one in session.layer_summaries(session.input(id))]
    return Payload(wire.thumbnails_block(means), BINARY, immutable=True)


def receptive_fields(session: Session, id: str, index: int) -> Payload:
    """The receptive field of each position of a layer on an input image."""
    image, layer = session.input(id), session.layer(index)
    try:
        field = session.model.receptive_fields(image.batch.size)[layer.path]
    except (ModelError, KeyError) as error:
        reason = str(error) if isinstance(error, ModelError) else ""
        raise UnknownLayer(
            reason or f"The receptive field of {layer.path!r} is not known"
        ) from None
    return json_payload(_field_facts(field))


def _field_facts(field: ReceptiveField) -> dict[str, object]:
    """``rows`` and ``columns`` leave out global gates; ``exact`` has them, where there are any."""
    exact = {"rows": field.rows, "columns": field.columns} if field.gated else None
    return {
        "known": field.known,
        "description": field.describe(),
        "input_size": field.image,
        "size": field.size,
        "stride": field.stride,
        "rows": field.local_rows,
        "columns": field.local_columns,
        "exact": exact,
        "data_dependent": field.data_dependent,
    }


def maps(
    session: Session, id: str, index: int, max_side: int = MAX_SIDE, channel: int | None = None
) -> Payload:
    """Feature maps in 8 bits: all of a layer, or one of its channels; ``max_side=0``: unpooled."""
    values = session.maps(session.input(id), index)
    if channel is not None:
        k = check_index(channel, len(values), "channel")
        values = values[k : k + 1]
    if not 0 <= max_side <= _SIDE_LIMIT:
        raise UsageError(
            f"max_side={max_side} is out of range: 0 (not pooled) to {_SIDE_LIMIT}. "
            f"Usual: {MAX_SIDE}"
        )
    return Payload(wire.maps_block(values, max_side), BINARY, immutable=True)


def values(
    session: Session,
    id: str,
    index: int,
    channel: int | None = None,
    position: tuple[int, int] | None = None,
) -> Payload:
    """Exact values: a channel at every position, or every channel at one position."""
    layer_maps = session.maps(session.input(id), index)
    if channel is not None:
        one = layer_maps[check_index(channel, len(layer_maps), "channel")]
        return Payload(wire.floats_block(one[None, None]), BINARY, immutable=True)
    if position is None:
        raise UsageError("Name a channel, or a position: ?channel=3, or ?y=4&x=5")
    y = check_index(position[0], layer_maps.shape[1], "row")
    x = check_index(position[1], layer_maps.shape[2], "column")
    block = wire.floats_block(layer_maps[None, :, y : y + 1, x : x + 1])
    return Payload(block, BINARY, immutable=True)


# Files


def maps_file(session: Session, id: str, index: int, channel: int | None = None) -> Payload:
    """``maps`` ``(C, H, W)`` of a layer as ``.npz``, or ``(H, W)`` of one of its channels."""
    layer_maps = session.maps(session.input(id), index)
    if channel is None:
        return npz_payload(_describe(session, id, index), maps=layer_maps)
    k = check_index(channel, len(layer_maps), "channel")
    return npz_payload(f"{_describe(session, id, index)}, channel {k}", maps=layer_maps[k])


def pair_file(
    a: tuple[Session, str, int], b: tuple[Session, str, int], channel: int | None = None
) -> Payload:
    """Maps ``a`` and ``b`` as ``.npz``, and ``difference`` = a − b where their shapes agree."""
    left, right = (one.maps(one.input(id), index) for one, id, index in (a, b))
    if channel is not None:
        left, right = (x[check_index(channel, len(x), "channel")] for x in (left, right))
    arrays = {"a": left, "b": right}
    if left.shape == right.shape:
        with np.errstate(invalid="ignore"):  # of two infinities
            arrays["difference"] = left - right
    return npz_payload(f"a: {_describe(*a)}; b: {_describe(*b)}", **arrays)


def _describe(session: Session, id: str, index: int) -> str:
    return f"{session.model.title}, {session.layer(index).path}, {session.input(id).name}"
