"""A dream raises what it is of, on any picture, in tiles as whole; the model stays as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

import convscope as cs
from convscope._errors import ConvscopeError, ImageError, ModelError, UnknownLayer, UsageError
from convscope._models import Model
from convscope._optvis import OptimizationStep, channel, dream, neuron
from convscope._optvis.stylize.dream import balance_frequencies
from convscope._optvis.stylize.tiling import STRIDE, Tiling, gradient, mirrored_indices

Loader = Callable[..., Model]
CHANCE = np.random.default_rng(0)
PICTURE = CHANCE.integers(60, 190, (40, 56, 3), np.uint8)
FEW = {"steps": 3, "octaves": 2, "jitter": 4}


def network(channels: int = 3) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


def rises(made: object) -> bool:
    (before, after), *_ = made.measures.values()  # type: ignore[attr-defined]
    return bool(after > before)


@pytest.mark.parametrize(
    "what",
    [None, "3", "4", "3:2", "3:2 - 0.5 * 0:1", ["1", "4:3"], channel("3", 5), cs.logit(2)],
    ids=str,
)
def test_what_it_is_of_rises(small: Loader, what: object) -> None:
    made = dream(small(network()), PICTURE, what, **FEW)
    assert rises(made)
    assert made.values.shape == (3, 40, 56)
    assert made.values.dtype == np.float32
    assert 0 <= made.values.min() < made.values.max() <= 1
    np.testing.assert_array_equal(made.before * 255, PICTURE.transpose(2, 0, 1))


def test_the_planted_color_appears(planted: Model) -> None:
    """Channel 1 sees red: a gray picture reddens, and its other colors fade."""
    gray = np.full((32, 48, 3), 120, np.uint8)
    made = dream(planted, gray, "eyes:1", steps=10)
    red, green, blue = (made.values - made.before).mean((1, 2))
    assert red > 0.05
    assert max(green, blue) < -0.05


def test_the_measure_is_that_of_the_eight_bit_picture(small: Loader) -> None:
    model = small(network())
    made = dream(model, PICTURE, "4", **FEW)
    value = model.activations(torch.from_numpy(made.values)[None], "4")["4"].square().mean()
    assert made.measures["layer 4"][1] == pytest.approx(float(value), rel=1e-5)


def test_by_default_it_looks_deep_after_the_nonlinearity(small: Loader) -> None:
    assert "DeepDream of layer 4" in dream(small(network()), PICTURE, **FEW).title


@pytest.mark.parametrize("channels", [1, 4])
def test_numbers_of_any_channels(small: Loader, channels: int) -> None:
    values = CHANCE.random((channels, 33, 47), np.float32)
    made = dream(small(network(channels), channels), values, "4", **FEW)
    assert rises(made)
    assert made.values.shape == values.shape
    assert made.sheet().image.size


def test_a_gray_file_for_a_color_network_and_the_other_way(small: Loader, tmp_path: Path) -> None:
    Image.fromarray(PICTURE[..., 0]).save(tmp_path / "gray.png")
    assert dream(small(network()), tmp_path / "gray.png", "4", **FEW).values.shape[0] == 3
    assert dream(small(network(1), 1), PICTURE, "4", **FEW).image.shape == (40, 56)


def test_a_guide_is_painted_where_it_fits(small: Loader) -> None:
    guide = np.zeros((30, 30, 3), np.uint8)
    guide[:, 15:] = (255, 0, 0)
    made = dream(small(network()), PICTURE, "4", guide=guide, **FEW)
    assert rises(made)
    assert made.references["guide"].shape == (3, 30, 30)


def test_a_size_is_that_of_the_longer_side(small: Loader) -> None:
    made = dream(small(network()), PICTURE, "4", size=28, **FEW)
    assert made.values.shape == (3, 20, 28)
    assert "image resized from 56×40" in made.sheet().description


def test_the_same_seed_gives_the_same_bits(small: Loader) -> None:
    first, again, other = (
        dream(small(network()), PICTURE, "4", seed=seed, **FEW) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.values, again.values)
    np.testing.assert_array_equal(first.curve, again.curve)
    assert (first.values != other.values).any()


def test_tiles_give_the_gradient_of_the_whole() -> None:
    """Where tiles overlap by twice the receptive field, to the last digits; mirrored likewise."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 5, 5, padding=2), nn.Softplus(), nn.MaxPool2d(2), nn.Conv2d(5, 4, 3, padding=1)
    )
    picture = torch.rand(1, 3, 200, 264)

    def look(tile: Tensor) -> Tensor:
        return module(tile).square().mean()

    whole = gradient(picture, (5, -9), Tiling((512, 512), 32), look)
    tiled = gradient(picture, (5, -9), Tiling((128, 128), 32), look)
    assert len(Tiling((128, 128), 32).tiles((200, 264))) >= 6
    torch.testing.assert_close(tiled[1], whole[1], rtol=1e-4, atol=float(whole[1].std()) * 1e-4)
    assert tiled[0] == pytest.approx(whole[0], rel=0.05)


def test_the_gradient_is_that_of_the_shifted_picture() -> None:
    picture = torch.rand(1, 2, 9, 7, requires_grad=True)
    weights = torch.rand(1, 2, 9, 7)
    moved = picture[..., mirrored_indices(9, 4, picture.device), :]
    moved = moved[..., mirrored_indices(7, -3, picture.device)]
    truth = torch.autograd.grad((moved * weights).sum(), picture)[0]
    found = gradient(picture, (4, -3), Tiling((64, 64), 0), lambda tile: (tile * weights).sum())[1]
    torch.testing.assert_close(found, truth)


def test_a_dream_in_tiles_is_the_dream_in_one_piece(small: Loader) -> None:
    picture = CHANCE.integers(60, 190, (96, 160, 3), np.uint8)
    module = nn.Sequential(*list(network())[:5])
    whole, tiled = (
        dream(small(module), picture, "4", steps=4, octaves=1, tile=tile) for tile in (512, 64)
    )
    assert tiled.settings["tiles"] > whole.settings["tiles"] == 1
    np.testing.assert_allclose(tiled.values, whole.values, atol=2 / 255)


@given(st.integers(1, 3000), st.integers(2, 600), st.integers(0, 96), st.booleans())
def test_tiles_cover_a_side_once(length: int, side: int, margin: int, fixed: bool) -> None:
    side = side if fixed else max(side, 2 * STRIDE)
    margin = margin if fixed else min(margin, side // 4)
    spans = [pair[0] for pair in Tiling((side, side), margin, fixed).tiles((length, 1))]
    assert [s.low for s in spans] == [0, *(s.high for s in spans[:-1])]
    assert spans[-1].high == spans[-1].stop == length
    for span in spans:
        assert 0 <= span.start <= span.low < span.high <= span.stop
        assert span.stop - span.start <= side + 2 * STRIDE
        if fixed and length >= side:
            assert span.stop - span.start == side


def test_an_evened_gradient_has_mean_magnitude_one() -> None:
    torch.manual_seed(0)
    values = balance_frequencies(torch.randn(1, 3, 30, 40) * 1e-9)
    assert float(values.abs().mean()) == pytest.approx(1)
    assert not balance_frequencies(torch.zeros(1, 3, 8, 8)).any()


class Fixed(nn.Module):
    """Takes 16×16 alone, before its first layer is done."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (16, 16):
            raise ValueError("16×16 is wanted")
        return self.conv(x)


def test_a_network_of_one_size_looks_at_tiles_of_it(small: Loader) -> None:
    made = dream(small(Fixed(), size=(16, 16)), PICTURE, "conv", **FEW)
    assert rises(made)
    assert made.settings["tiles"] >= 12


class Watched(Exception):
    pass


def state_of(module: nn.Module) -> list[object]:
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules()]
    modes = [(m.training, getattr(m, "inplace", None)) for m in module.modules()]
    weights = [(p.requires_grad, p.grad is None) for p in module.parameters()]
    return [hooks, modes, weights]


@pytest.mark.parametrize("stop", [None, Watched, KeyboardInterrupt])
def test_the_model_is_left_as_found_and_what_is_done_is_kept(
    small: Loader, stop: type[BaseException] | None
) -> None:
    module = network().train()
    before, values = state_of(module), {k: v.clone() for k, v in module.state_dict().items()}

    def watch(step: OptimizationStep) -> None:
        assert step.total == 6
        assert step.images().shape == (1, 3, 40, 56)
        if stop and step.done == 2:
            raise stop

    if stop is Watched:
        with pytest.raises(Watched):
            dream(small(module), PICTURE, "4", on_step=watch, **FEW)
    else:
        made = dream(small(module), PICTURE, "4", on_step=watch, **FEW)
        assert made.steps == (2 if stop else 6)
        assert ("interrupted after 2 of 6 steps" in made.sheet().description) == bool(stop)
        assert made.values.shape == (3, 40, 56)
    assert state_of(module) == before
    assert all(torch.equal(v, values[k]) for k, v in module.state_dict().items())


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.detach())


def broken() -> nn.Module:
    module = network()
    module[3].weight.data[:] = torch.nan  # type: ignore[union-attr]
    return module


@pytest.mark.parametrize(
    ("module", "image", "what", "options", "kind", "text"),
    [
        (network, PICTURE, "conv9", {}, UnknownLayer, "No layer 'conv9'"),
        (network, PICTURE, "4:8", {}, UnknownLayer, "No channel 8 in '4'"),
        (network, PICTURE, 7, {}, UsageError, "7 is not an objective"),
        (network, PICTURE, neuron("4", 1, (2, 2)), {}, UsageError, "names a position"),
        (network, PICTURE, "4", {"steps": 0}, UsageError, "Nearest: 1"),
        (network, PICTURE, "4", {"octaves": 0}, UsageError, "octaves=0 is too small"),
        (network, PICTURE, "4", {"scale": 1.0}, UsageError, "Usual: 1.4"),
        (network, PICTURE, "4", {"step_size": 0.0}, UsageError, "is not above 0"),
        (network, PICTURE, "4", {"tile": 8}, UsageError, "Nearest: 64"),
        (network, PICTURE, "4", {"size": 1}, UsageError, "too small"),
        (network, PICTURE, "7", {"guide": PICTURE}, UsageError, "needs a layer of maps"),
        (network, PICTURE, "4:1", {"guide": PICTURE}, UsageError, "name one layer"),
        (
            network,
            PICTURE[:1, :1],
            "4",
            {},
            ModelError,
            "An image of 1×1 (height×width) is too small",
        ),
        (Fixed, PICTURE[:9], "conv", {}, ModelError, "too small: Fixed takes 16×16"),
        (Detached, PICTURE, "conv", {}, ModelError, "No gradient leads from 'conv'"),
        (broken, PICTURE, "4", {}, ModelError, "may hold NaN"),
        (network, "nowhere.png", "4", {}, ImageError, "No image 'nowhere.png'"),
        (network, PICTURE.transpose(2, 0, 1) * 1.0, "4", {}, ImageError, "are no image once"),
    ],
)
def test_what_cannot_be_is_one_line(
    small: Loader,
    module: Callable[[], nn.Module],
    image: object,
    what: object,
    options: dict[str, object],
    kind: type[Exception],
    text: str,
) -> None:
    with pytest.raises(kind) as error:
        dream(small(module(), size=(16, 16)), image, what, **{**FEW, **options})
    assert text in str(error.value)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, ConvscopeError)


def test_where_nothing_changes_it_says_so(small: Loader) -> None:
    module = network()
    module[3].bias.data[:] = -1e6  # type: ignore[union-attr]
    made = dream(small(module), PICTURE, "4", **FEW)
    np.testing.assert_array_equal(made.values, made.before)
    assert "nothing changed: no gradient reached the image" in made.sheet().description


def test_the_picture_is_written_with_its_words(small: Loader, tmp_path: Path) -> None:
    made = dream(small(network()), PICTURE, "4", **FEW)
    written = Image.open(made.save(tmp_path / "new" / "dream.png"))
    np.testing.assert_array_equal(np.asarray(written), made.image)
    assert "DeepDream of layer 4" in written.text["Title"]  # type: ignore[attr-defined]
    assert "model Sequential" in written.text["Description"]  # type: ignore[attr-defined]
    card = json.loads((tmp_path / "new/dream.json").read_text())
    assert (card["steps"], card["settings"]["seed"], len(card["curve"])) == (6, 0, 6)
    assert made.sheet(theme="dark")._repr_html_().startswith("<img")
    assert made._repr_html_().startswith("<img")
    with pytest.raises(UsageError, match=r"Known: \.png"):
        made.save(tmp_path / "dream.tga")
