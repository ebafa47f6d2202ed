"""What is shown, as numbers to keep: float32 arrays in one ``.npz``, with a line of what they are.

Nothing in these files is pickled: ``numpy.load(path)`` opens them with its defaults.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from convscope._app.answers import Answer, within
from convscope._app.captured import Floats
from convscope._app.reasons import Unit, explained
from convscope._app.session import Session
from convscope._filters import filters

NPZ = "application/zip"


def maps(session: Session, id: str, index: int, channel: int | None = None) -> Answer:
    """``maps`` ``(C, H, W)`` of a layer, or ``(H, W)`` of one of its channels."""
    found = session.maps(session.slide(id), index)
    if channel is None:
        return _npz(_about(session, id, index), maps=found)
    k = within(channel, len(found), "channel")
    return _npz(f"{_about(session, id, index)}, channel {k}", maps=found[k])


def pair(
    a: tuple[Session, str, int], b: tuple[Session, str, int], channel: int | None = None
) -> Answer:
    """``a`` and ``b``, and ``difference`` = a − b where their shapes are the same."""
    left, right = (one.maps(one.slide(id), index) for one, id, index in (a, b))
    if channel is not None:
        left, right = (x[within(channel, len(x), "channel")] for x in (left, right))
    told: dict[str, Floats] = {"a": left, "b": right}
    if left.shape == right.shape:
        with np.errstate(invalid="ignore"):  # of two infinities
            told["difference"] = left - right
    return _npz(f"a: {_about(*a)}; b: {_about(*b)}", **told)


def kernels(session: Session, index: int, channel: int | None = None) -> Answer:
    """``weights`` of a layer, outputs first."""
    layer = session.layer(index)
    values = filters(session.model, layer.path).values
    if channel is not None:
        values = values[within(channel, len(values), "filter")]
    return _npz(f"{session.model.title}, filters of {layer.path}", weights=values)


def attribution(
    session: Session, id: str, method: str, target: int | None, unit: Unit | None
) -> Answer:
    """``attribution`` ``(h, w)``: positive speaks for the target; ``seen``: what the model saw."""
    found = explained(session, session.model, id, method, target, unit)
    about = f"{session.model.title}, {session.slide(id).name}: {method} for {found.target}"
    return _npz(about, attribution=found.maps[0].values, seen=session.slide(id).seen)


def _about(session: Session, id: str, index: int) -> str:
    return f"{session.model.title}, {session.layer(index).path}, {session.slide(id).name}"


def _npz(about: str, **arrays: Any) -> Answer:
    stream = io.BytesIO()
    np.savez(stream, about=np.array(about), **arrays)
    return Answer(stream.getvalue(), NPZ, lasting=True)
