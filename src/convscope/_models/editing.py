"""Changing what a layer computes while the network runs, for the length of a pass."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from convscope._errors import UsageError
from convscope._models.base import Edit
from convscope._models.capture import Keep, first_tensor, replace_first
from convscope._models.recording import Arrangement


def editing(
    edits: Mapping[str, Edit], arranged: Arrangement, keep: Keep, paths: Collection[str]
) -> Keep:
    """``keep`` for ``paths``, after the edits; the network goes on with what they return."""

    def edited(address: str, result: Any) -> Any:
        changed = _changed(edits.get(address), address, arranged, result)
        if address not in paths:
            return changed
        onward = keep(address, result if changed is None else changed)
        return changed if onward is None else onward

    return edited


def _changed(edit: Edit | None, address: str, arranged: Arrangement, result: Any) -> Any:
    # Without this guard what is done here would itself be reported as a function's result.
    with torch._C.DisableTorchFunction():
        tensor = first_tensor(result)
        if edit is None or tensor is None:
            return None
        changed = apply(edit, address, arranged.standard(address, tensor))
        return replace_first(result, tensor, arranged.as_it_was(address, changed, tensor))


def apply(edit: Edit, address: str, values: Tensor) -> Tensor:
    """What ``edit`` makes of ``values``; it must keep their shape."""
    changed = edit(values)
    if changed.shape != values.shape:
        raise UsageError(
            f"The edit at {address!r} returned {tuple(changed.shape)} for a result of "
            f"{tuple(values.shape)}. It must keep the shape"
        )
    return changed
