"""What is done with the results that a pass reports: record, stream or edit them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from convscope._errors import ModelError, UsageError
from convscope._models.backend import Consume, Edit, not_called
from convscope._models.hooks import StopPass, base_path
from convscope._models.layouts import Layout
from convscope._models.structure import Report

QUANTIZED = (
    "holds integers, and those have no gradient. Give the network as it was before quantization"
)


class ChannelOrder(Protocol):
    """How a framework orders the dimensions of results that no layout is known of."""

    def to_standard(self, result: Tensor, volumes: bool) -> Tensor:
        """A layer's result in the standard layout, float32."""

    def to_native(self, standard: Tensor, like: Tensor, volumes: bool) -> Tensor:
        """The inverse: ``standard`` in the layout and type of ``like``."""


class Arrangement:
    """From each result to the standard layout, float32, and back."""

    def __init__(
        self, order: ChannelOrder, layouts: Mapping[str, Layout], volumes: bool = False
    ) -> None:
        self._order = order
        self._layouts = layouts
        self._volumes = volumes

    def to_standard(self, address: str, result: Tensor) -> Tensor:
        """The result at ``address`` as a map, if it is one."""
        layout = self._fitting(address, result)
        if layout is None:
            return self._order.to_standard(result, self._volumes)
        plain = result.dequantize() if result.is_quantized else result
        return layout.standard(plain).float()

    def to_native(self, address: str, standard: Tensor, like: Tensor) -> Tensor:
        """The inverse: ``standard`` in the layout and type of ``like``."""
        layout = self._fitting(address, like)
        if layout is None:
            return self._order.to_native(standard, like, self._volumes)
        return layout.restored(standard, like).to(like.dtype)

    def _fitting(self, address: str, result: Tensor) -> Layout | None:
        """Its layout; ``None`` where the framework's own order says it.

        The shape of some results depends on the values in the images.
        """
        layout = self._layout(address)
        if layout is None or layout.fits(result) or layout.plain:
            return layout if layout is not None and layout.fits(result) else None
        expected = "×".join(map(str, layout.shape))
        raise ModelError(
            f"{address!r} has another shape for these images than the {expected} that was traced, "
            "so what its dimensions hold is not known. In Python, raw=True gives it as it is"
        )

    def _layout(self, address: str) -> Layout | None:
        """Of a call that no pass has made before: that of the first."""
        return self._layouts.get(address) or self._layouts.get(base_path(address))


class RawOrder:
    """Results in the network's own order of dimensions."""

    def to_standard(self, result: Tensor, volumes: bool) -> Tensor:
        return (result.dequantize() if result.is_quantized else result).float()

    def to_native(self, standard: Tensor, like: Tensor, volumes: bool) -> Tensor:
        return standard.to(like.dtype)


class OverwriteWatch:
    """Tells which results something wrote into after they were reported."""

    def __init__(self) -> None:
        self._versions: dict[str, tuple[Tensor, int]] = {}
        self._sums: dict[str, float] = {}

    def watch(self, address: str, tensor: Tensor, *, by_value: bool = False) -> None:
        """Note a result as it is now; ``by_value`` where torch does not see every write.

        ``tensor.data`` and numpy write past its version.
        """
        if not tensor.is_inference():  # those have no version; they are always copied
            self._versions[address] = tensor, tensor._version
            if by_value:
                self._sums[address] = _checksum(tensor)

    def found(self) -> set[str]:
        """Addresses of results that were written into since."""
        return {
            address
            for address, (tensor, version) in self._versions.items()
            if tensor._version != version
            or (address in self._sums and _checksum(tensor) != self._sums[address])
        }


def _checksum(tensor: Tensor) -> float:
    """The sum; NaN, which equals nothing, where the tensor holds one."""
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        plain = tensor.detach()
        plain = plain.dequantize() if plain.is_quantized else plain
        if plain.is_meta or not plain.is_floating_point():
            return 0.0
        return float(plain.sum(dtype=torch.float64))


class Recorder:
    """Keeps the requested results in the standard layout, and ends the pass when it has them all.

    ``fragile`` are the addresses whose results the network writes into later on: these are copied.
    With ``grad`` what is kept is a node of the graph that everything after it depends on, and on
    nothing else of the layer's result.
    """

    def __init__(
        self, arrangement: Arrangement, paths: Sequence[str], fragile: Collection[str], grad: bool
    ) -> None:
        self.results: dict[str, Tensor] = {}
        self._arrangement = arrangement
        self._missing = set(paths)
        self._fragile = fragile
        self._grad = grad
        self._written = OverwriteWatch()

    def report(self, address: str, result: Tensor) -> Tensor:
        """Take what a layer computed; returns what the network goes on with."""
        onward = self._keep(address, result)
        self._missing.discard(address)
        if not self._missing:
            raise StopPass
        return onward

    def _keep(self, address: str, tensor: Tensor) -> Tensor:
        """Keep ``tensor``; returns what the network goes on with."""
        if self._grad:
            if tensor.is_quantized:
                raise ModelError(f"{address!r} {QUANTIZED}")
            kept = self._arrangement.to_standard(address, tensor)
            if kept is tensor and "/" not in address:
                kept = tensor.view_as(tensor)  # a module may return its own input
            onward = self._arrangement.to_native(address, kept, tensor)
            onward = onward.clone() if address in self._fragile else onward
        else:
            onward = tensor
            copied = address in self._fragile or tensor.is_inference()
            kept = tensor.clone() if copied else tensor
        self.results[address] = kept
        self._written.watch(address, kept)
        return onward

    def overwritten(self, model: str) -> set[str]:
        """Results that something after them wrote into, and that were not copied."""
        written = self._written.found()
        if written & set(self._fragile):
            raise ModelError(
                f"{model} writes into the result of {min(written)!r} where it cannot be kept "
                "apart, so there is no gradient at it. Take the layer before or after it"
            )
        return written

    def complete(self, model: str) -> dict[str, Tensor]:
        """Every requested result; raises ``UnknownLayer`` where one is missing."""
        if self._missing:
            raise not_called(model, self._missing)
        if self._grad:
            return self.results
        standard = self._arrangement.to_standard
        return {address: standard(address, tensor) for address, tensor in self.results.items()}


class Streamer:
    """Passes each requested result to ``consume`` and ends the pass after the last of them.

    Results are handed over before anything can overwrite them. What ``consume`` raises is kept and
    raised after the pass: a framework would wrap it.
    """

    def __init__(
        self, to_standard: Callable[[str, Any], Tensor], paths: Sequence[str], consume: Consume
    ) -> None:
        self._to_standard = to_standard
        self._missing = set(paths)
        self._consume = consume
        self._raised: BaseException | None = None

    def report(self, address: str, result: Any) -> None:
        """Hand over one result, in the framework's own kind of array."""
        try:
            self._consume(address, self._to_standard(address, result))
        except BaseException as error:
            self._raised = error
            raise StopPass from None
        self._missing.discard(address)
        if not self._missing:
            raise StopPass

    def finish(self, model: str) -> None:
        """Raise what went wrong."""
        if self._raised is not None:
            raise self._raised
        if self._missing:
            raise not_called(model, self._missing)


def editing(
    edits: Mapping[str, Edit], arrangement: Arrangement, report: Report, paths: Collection[str]
) -> Report:
    """``report`` for ``paths``, after the edits; the network goes on with what they return."""

    def edited(address: str, result: Tensor) -> Tensor | None:
        changed = None
        if address in edits:
            values = apply_edit(edits[address], address, arrangement.to_standard(address, result))
            changed = arrangement.to_native(address, values, result)
        if address not in paths:
            return changed
        onward: Tensor | None = report(address, result if changed is None else changed)
        return changed if onward is None else onward

    return edited


def apply_edit(edit: Edit, address: str, values: Tensor) -> Tensor:
    """What ``edit`` makes of ``values``; it must keep their shape."""
    changed = edit(values)
    if changed.shape != values.shape:
        raise UsageError(
            f"The edit at {address!r} returned {tuple(changed.shape)} for a result of "
            f"{tuple(values.shape)}. It must keep the shape"
        )
    return changed
