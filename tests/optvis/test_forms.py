"""MaCo, opacity, bfloat16, and batches that prove too large for memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import convscope as cs
from convscope._errors import ModelError, UsageError
from convscope._models import Model
from convscope._optvis import MaCo, OptimizationStep, activation_grid, channel, logit, maximize

Loader = Callable[..., Model]
DRAW = np.random.default_rng(4)
PHOTOGRAPHS = [
    (DRAW.normal(0, 1, (24, 24, 3)).cumsum(0).cumsum(1) * 4 + 128).clip(0, 255).astype(np.uint8)
    for _ in range(5)
]


def network(channels: int = 3) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.Tanh()
    )


def logits(picture: np.ndarray) -> np.ndarray:
    shares = (picture / 255).clip(0.01, 0.99)
    return np.log(shares / (1 - shares))


def test_maco_keeps_the_mean_magnitudes_of_the_pictures(small: Loader) -> None:
    param = MaCo(PHOTOGRAPHS, decorrelate=False)
    seen = maximize(small(network()), "2:1", steps=12, param=param)
    spectra = [np.abs(np.fft.rfft2(logits(p).transpose(2, 0, 1))) for p in PHOTOGRAPHS]
    expected = np.mean(spectra, 0)
    found = np.abs(np.fft.rfft2(logits(seen.values.astype(np.float64) * 255)))
    inner = np.s_[:, 1:8, 1:8]  # eight bits and the ends of the sigmoid blur the faintest
    ratio = found[inner] / expected[inner]
    assert 0.8 < np.median(ratio) < 1.2
    assert "5 given images (MaCo)" in seen.run.param


def test_maco_climbs_and_repeats_itself(small: Loader) -> None:
    first, again = (
        maximize(small(network()), "2:1", steps=24, param="maco", images=PHOTOGRAPHS)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.values, again.values)
    assert first.curve[-5:].mean() > first.curve[:3].mean()


@pytest.mark.parametrize("channels", [1, 5])
def test_maco_of_other_numbers_of_channels(small: Loader, channels: int) -> None:
    floats = [torch.rand(channels, 24, 24) for _ in range(3)]
    seen = maximize(small(network(channels), channels), "2:1", steps=3, param="maco", images=floats)
    assert seen.values.shape == (channels, 24, 24)


def test_maco_without_pictures_is_one_line(small: Loader) -> None:
    with pytest.raises(UsageError, match="Give them: images="):
        maximize(small(network()), "2:1", steps=2, param="maco")


class Corner(nn.Module):
    """Looks at the upper left quarter only."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x[..., : x.shape[-2] // 2, : x.shape[-1] // 2])


def test_what_no_gradient_reached_is_seen_through(small: Loader, tmp_path: Any) -> None:
    seen = maximize(small(Corner(), size=(64, 64)), "conv:0", steps=24, opacity=True)
    assert seen.opacity is not None
    assert seen.opacity.shape == (64, 64)
    assert seen.opacity[:24, :24].mean() > 0.4
    assert seen.opacity[48:, 48:].max() < 0.05
    assert (np.abs(seen.image[48:, 48:].astype(int) - 128) <= 6).all()
    path = seen.save(tmp_path / "bare.png", bare=True)
    with Image.open(path) as image:
        assert image.mode == "RGBA"
        alpha = np.asarray(image)[..., 3]
    np.testing.assert_allclose(alpha, seen.opacity * 255, atol=0.51)
    assert "fades to gray" in seen.sheet().description


def test_bfloat16_climbs_to_nearly_the_same(small: Loader) -> None:
    full, half = (
        maximize(small(network()), "2:1", steps=24, bfloat16=half) for half in (False, True)
    )
    assert not np.array_equal(full.values, half.values)
    assert half.activation == pytest.approx(full.activation, abs=0.05)


class Small(nn.Module):
    """Fits two images at once into memory; tells ``on_batch`` how many it gets."""

    def __init__(self, error: Exception, on_batch: Callable[[int], None]) -> None:
        super().__init__()
        self.inner, self.error, self.on_batch = network(), error, on_batch

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 2 and x.requires_grad:
            raise self.error
        self.on_batch(len(x))
        return self.inner(x)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:98] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: type(e).__name__)
def test_a_batch_too_large_for_memory_is_halved(small: Loader, error: Exception) -> None:
    told: list[tuple[int, int]] = []
    sizes: list[int] = []
    module = Small(error, sizes.append)
    units = [f"inner.2:{k}" for k in range(7)]

    def watch(step: OptimizationStep) -> None:
        told.append((step.done, step.total))

    seen = maximize(small(module), units, steps=3, on_step=watch)
    assert [one.objective for one in seen] == units
    assert max(sizes) == 2
    assert told[-1] == (21, 21)
    assert told == sorted(told)


def test_one_picture_too_large_for_memory_is_one_line(small: Loader) -> None:
    with pytest.raises(ModelError, match=r"does not fit in memory\. Take"):
        maximize(small(Small(OUT_OF_MEMORY[1], lambda count: None)), "inner.2:1", steps=2, count=3)


def test_other_errors_are_not_taken_for_it(small: Loader) -> None:
    with pytest.raises(ModelError, match="boom"):
        maximize(
            small(Small(RuntimeError("boom"), lambda count: None)), "inner.2:1", steps=2, count=3
        )


def test_a_grid_is_a_picture_for_each_place(small: Loader) -> None:
    model = small(network())
    image = PHOTOGRAPHS[0]
    seen = maximize(model, activation_grid(image, "2", side=3), steps=4)
    assert [one.objective for one in seen] == [f"2 at {y},{x}" for y in range(3) for x in range(3)]
    maps = model.activations(image, ["2"])["2"][0]
    wanted = maps[:, :8, 8:15].mean((1, 2)).numpy()  # 22×22 in 3×3: the middle of the top row
    (cell,) = [c for c in activation_grid(image, "2", side=3).cells(model) if str(c) == "2 at 0,1"]
    np.testing.assert_allclose(cell.vector, wanted, atol=0.02)  # type: ignore[attr-defined]
    sheet = seen.sheet()
    assert "activation grid" in sheet.title
    assert sheet.image.width > 3 * sheet.image.width / 4


def test_a_grid_of_what_has_no_places_is_one_line(small: Loader) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 3))
    with pytest.raises(UsageError, match="An activation grid needs a layer of maps"):
        maximize(small(module), activation_grid(PHOTOGRAPHS[0], "1"), steps=2)


def test_classes_are_named(small: Loader) -> None:
    model = small(nn.Sequential(*network(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    model.set_input(classes=("a", "b", "tabby cat", "d", "e", "f", "g", "h"))
    by = [maximize(model, what, steps=2) for what in (logit(2), logit("Tabby Cat"))]
    typed = maximize(model, ["class:2", "class:tabby_cat - 0.5 * class:1"], steps=2)
    assert [one.objective for one in by] == ["class 2 tabby cat"] * 2
    assert [one.objective for one in typed] == [
        "class 2 tabby cat",
        "class 2 tabby cat - 0.5 * class 1 b",
    ]
    np.testing.assert_array_equal(by[0].values, by[1].values)


def test_an_atlas_knows_the_highest_activation(small: Loader, tmp_path: Path) -> None:
    model = small(network())
    for k, picture in enumerate(PHOTOGRAPHS):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "photos" / f"{k}.png")
    cs.scan(model, tmp_path / "photos", tmp_path / "atlas", "2", top=2)
    units = ["2:1", channel("2", 1) - channel("2", 2)]
    by_atlas = maximize(model, units, steps=2, images=str(tmp_path / "atlas"))
    by_images = maximize(model, units, steps=2, images=PHOTOGRAPHS)
    assert by_atlas[0].highest == pytest.approx(by_images[0].highest, rel=1e-4)
    assert by_atlas[0].run.compared_images == 5
    assert by_atlas[1].highest is None
    with pytest.raises(UsageError, match="holds no whole images"):
        maximize(model, "2:1", steps=2, param="maco", images=str(tmp_path / "atlas"))
    other = cs.load(Corner(), input=(3, 24, 24), preprocess=cs.Preprocess(size=(24, 24)))
    with pytest.raises(UsageError, match="The atlas is of Sequential, not of Corner"):
        maximize(other, "conv:1", steps=2, images=str(tmp_path / "atlas"))
