"""Receptive fields against what really depends on what."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from receptive_networks import COMPARED, GATED, Gate, conv, resized
from torch import Tensor, nn

from convscope.models.base import Input
from convscope.models.hooked import HookedModel, sample
from convscope.models.receptive import ReceptiveField, receptive_fields
from convscope.models.torch import TorchModel

SIZE = (20, 12)
Dependence = dict[str, tuple[np.ndarray, np.ndarray]]


def as_model(make: Callable[[], nn.Module], channels: int = 2) -> TorchModel:
    torch.manual_seed(0)
    network = make().eval().double()  # its convolutions are plain sums: NaN goes no further
    with torch.no_grad():
        network(sample(channels, *SIZE).double())  # lazy layers
    return TorchModel(network, "network", Input(channels=channels))


def depends_on(model: HookedModel, addresses: list[str], *, by_change: bool = False) -> Dependence:
    """By address, the hull of image rows, and of columns, that each position really depends on.

    One image a row (column) in which only that is NaN, or is changed: what is NaN, or changes,
    depends on it.
    """
    height, width = SIZE
    images = sample(model.input.channels, *SIZE).repeat(height + width, 1, 1, 1)
    mark = images.flip(0) * 3 + 1 if by_change else torch.full_like(images, torch.nan)
    for row in range(height):
        images[row, :, row] = mark[row, :, row]
    for column in range(width):
        images[height + column, :, :, column] = mark[0, :, :, column]
    results = model._record(images, addresses, grad=False)
    clean = model._record(sample(model.input.channels, *SIZE), addresses, grad=False)
    return {
        address: (
            _hulls(_marked(result[:height], clean[address], by_change), -2),
            _hulls(_marked(result[height:], clean[address], by_change), -1),
        )
        for address, result in results.items()
        if len(result) == len(images) and result.ndim in (2, 4)
    }


def _marked(result: Tensor, clean: Tensor, by_change: bool) -> Tensor:
    """Which positions of a map ``(lines, h, w)`` depend on each line; other results are one."""
    assert torch.isfinite(clean).all()
    marked = (result - clean).abs() > 1e-6 if by_change else result.isnan()
    return marked.flatten(1).any(1)[:, None, None] if result.ndim == 2 else marked.any(1)


def _hulls(marked: Tensor, dim: int) -> np.ndarray:
    """``[start, end)`` of the lines that each row (-2) or column (-1) of the map depends on."""
    seen = marked.any(-1 if dim == -2 else -2).numpy()  # (lines, positions)
    lines = np.arange(len(seen))[:, None]
    starts = np.where(seen, lines, len(seen)).min(0)
    ends = np.where(seen, lines + 1, 0).max(0)
    return np.stack([np.where(ends > 0, starts, 0), ends], 1)


def assert_exact(fields: Mapping[str, ReceptiveField], really: Dependence) -> None:
    assert really
    for address, (rows, columns) in really.items():
        field = fields[address]
        assert field.known, (address, field.unknown)
        np.testing.assert_array_equal(field.rows, rows, f"rows of {address}")
        np.testing.assert_array_equal(field.columns, columns, f"columns of {address}")


@pytest.mark.parametrize("make", COMPARED + GATED, ids=lambda make: make.__name__)
def test_exact(make: Callable[[], nn.Module]) -> None:
    model = as_model(make)
    fields = receptive_fields(model, SIZE)
    assert_exact(fields, depends_on(model, list(fields)))
    assert not any(field.data_dependent for field in fields.values())


def test_exact_where_weights_are_zero() -> None:
    model = as_model(resized)
    fields = receptive_fields(model, SIZE)
    assert_exact(fields, depends_on(model, list(fields), by_change=True))


@pytest.mark.parametrize("make", GATED, ids=lambda make: make.__name__)
def test_local_ignores_gates(make: Callable[[], nn.Module]) -> None:
    model = as_model(make)
    fields = receptive_fields(model, SIZE)
    for module in model.modules.values():
        if isinstance(module, Gate):
            module.held = module.last
    outside = [address for address in fields if not address.startswith("gate")]
    for address, (rows, columns) in depends_on(model, outside).items():
        field = fields[address]
        if not rows.any():  # all of it came through the gate: then that is told
            rows, columns = field.rows, field.columns
        np.testing.assert_array_equal(field.local_rows, rows, f"rows of {address}")
        np.testing.assert_array_equal(field.local_columns, columns, f"columns of {address}")
    assert any(field.gated for field in fields.values())
