"""What really depends on what, by brute force: the reference for receptive fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from convscope._models import Input, Model, ReceptiveField
from convscope._models.backend import sample
from convscope._models.sources import torch_model

SIZE = (20, 12)
Dependence = dict[str, tuple[np.ndarray, np.ndarray]]


def as_model(make: Callable[[], nn.Module], channels: int = 2) -> Model:
    torch.manual_seed(0)
    network = make().eval().double()  # its convolutions are plain sums: NaN goes no further
    with torch.no_grad():
        network(sample(channels, *SIZE).double())  # lazy layers
    return torch_model(network, "network", Input(channels=channels))


def depends_on(
    model: Model, fields: Mapping[str, ReceptiveField], *, by_change: bool = False
) -> Dependence:
    """By address of ``fields``, the hulls of the rows and columns that each position depends on.

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
    results = model.backend.record(model, images, list(fields), grad=False)
    clean = model.backend.record(
        model, sample(model.input.channels, *SIZE), list(fields), grad=False
    )
    for address, field in fields.items():
        if field.dims == (1, 2):  # channels last
            results[address] = results[address].permute(0, 3, 1, 2)
            clean[address] = clean[address].permute(0, 3, 1, 2)
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
        if not rows.size or not columns.size:  # a slice that holds nothing
            continue
        assert field.known, (address, field.unknown)
        np.testing.assert_array_equal(field.rows, rows, f"rows of {address}")
        np.testing.assert_array_equal(field.columns, columns, f"columns of {address}")
