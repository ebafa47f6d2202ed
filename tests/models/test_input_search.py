"""What a network takes that does not say so: found by running it, against plain passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import convscope as cs
from convscope._errors import ConvscopeError, ImageError, ModelError

PICTURE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
PASSES: list[str] = []  # of every network that counts its own


class SpaceToDepth(nn.Module):
    """The stem of YOLOv5: four neighbors become four channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4 * channels, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.conv(torch.cat(parts, 1))


class Unshuffle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16 * channels, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pixel_unshuffle(x, 4))


class HeadFirst(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(16, 2, 1)
        self.decoder = nn.ConvTranspose2d(8, 16, 2, 2)
        self.conv = nn.Conv2d(channels, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decoder(self.conv(x)))


class FunctionFirst(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, channels, 3, 3))
        self.conv = nn.Conv2d(5, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.conv2d(x, self.weight).relu())


class LinearPatches(nn.Module):
    """Patches of 4×4 by a linear layer; its only convolution mixes the 64 patches."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(16 * channels, 10)
        self.conv = nn.Conv1d(64, 64, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.linear(F.unfold(x, 4, stride=4).transpose(1, 2)))


class Grouped(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


KINDS = (SpaceToDepth, Unshuffle, HeadFirst, FunctionFirst, LinearPatches, Grouped)


def made(kind: Callable[[int], nn.Module], channels: int) -> nn.Module:
    torch.manual_seed(channels)
    return kind(channels).eval()


def plain_result(network: nn.Module, images: Tensor) -> Tensor:
    """What ``conv`` computes, from a hook of torch's own."""
    found: list[Tensor] = []
    hook = network.get_submodule("conv").register_forward_hook(lambda m, i, o: found.append(o))
    with torch.no_grad():
        network(images)
    hook.remove()
    return found[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 9])
def test_arrays_show_how_many_channels_a_network_takes(
    kind: Callable[[int], nn.Module], channels: int
) -> None:
    images = torch.rand(2, channels, 32, 32)
    model = cs.load(made(kind, channels))
    found = model.activations(images, "conv")["conv"].flatten(2)
    assert torch.equal(found, plain_result(made(kind, channels), images).flatten(2))
    assert model.input.channels == channels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_get_the_number_of_channels_with_which_a_network_runs(
    kind: Callable[[int], nn.Module], channels: int
) -> None:
    model = cs.load(made(kind, channels))
    maps = cs.feature_maps(model, PICTURE, "conv")["conv"]
    batch = model.prepare(PICTURE)
    assert batch.values.shape == (1, channels, 32, 32)
    expected = plain_result(made(kind, channels), batch.values)
    assert np.array_equal(maps.values.ravel(), expected.numpy().ravel())


def test_what_is_assumed_is_said() -> None:
    def note(network: nn.Module, given: Any = None, **told: Any) -> str:
        model = cs.load(network, **told)
        if given is not None:
            model.prepare(given)
        return model.input.note

    assert note(made(HeadFirst, 3)) == (
        "input unknown, 3×224×224 assumed, with which the network runs"
    )
    assert note(made(HeadFirst, 2), torch.rand(1, 2, 20, 20)) == (
        "number of input channels unknown, 2 assumed, as the array given has"
    )
    fitted = cs.Preprocess(size=(20, 20))
    assert note(made(HeadFirst, 3), preprocess=fitted) == (
        "number of input channels unknown, 3 assumed, with which the network runs"
    )
    assert note(made(Grouped, 3), preprocess=fitted) == ""
    assert note(made(HeadFirst, 3), input=(3, 20, 20)) == ""
    assert note(made(Grouped, 3), torch.rand(1, 3, 20, 20)) == ""
    model = cs.load(made(HeadFirst, 2))
    assert repr(model) == "Model('HeadFirst', input 16×any×size, not tried yet)"
    model.logits(torch.rand(1, 2, 20, 20))
    assert repr(model) == "Model('HeadFirst', input 2×any×size)"
    assert model.layers["conv"].shape == (8, 224, 224)
    assert model.input.note == (
        "number of input channels unknown, 2 assumed, as the array given has; input size "
        "unknown, 224×224 assumed for the layer table"
    )


def test_what_the_user_says_wins() -> None:
    class Expanding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x.expand(-1, 3, -1, -1))

    images = torch.rand(1, 1, 16, 16)
    expected = plain_result(Expanding().eval(), images).shape
    told = cs.load(Expanding(), input=(1, 16, 16))
    assert told.activations(images, "conv")["conv"].shape == expected
    assert told.prepare(PICTURE).values.shape == (1, 1, 16, 16)
    assert cs.load(Expanding()).logits(images).shape == expected
    untold = cs.load(Expanding())
    assert untold.prepare(PICTURE).values.shape == (1, 3, 32, 32)
    with pytest.raises(ImageError, match="has 2 channels where Expanding takes 3"):
        untold.prepare(torch.rand(2, 16, 16))
    wrong = cs.load(made(HeadFirst, 3), input=(8, 20, 20))
    with pytest.raises(ModelError, match="failed on an input of 8×20×20"):
        wrong.layers  # noqa: B018


class Counting(nn.Module):
    def __init__(self, sides: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4 * (sides - 2) ** 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        PASSES.append("×".join(map(str, x.shape[1:])))
        return self.head(self.conv(x).flatten(1))


def test_no_pass_before_one_is_needed_and_none_twice() -> None:
    PASSES.clear()
    model = cs.load(Counting(28), classes=["a", "b"])
    assert repr(model.copy())
    model.prepare(torch.rand(3, 28, 28))  # as many channels as the first convolution takes
    assert PASSES == []
    model.logits(torch.rand(3, 28, 28))
    assert PASSES == ["3×28×28"]
    PASSES.clear()
    assert cs.load(Counting(28)).layers["conv"].shape == (4, 26, 26)
    assert PASSES == ["3×224×224", "3×32×32", "3×28×28", "3×28×28"]  # tried, then traced


def test_the_size_of_what_was_given_is_tried_last() -> None:
    model = cs.load(Counting(37))
    found = model.activations(torch.rand(2, 3, 37, 37), "conv")["conv"]
    assert found.shape == (2, 4, 35, 35)
    assert model.input.note == "input size unknown, 37×37 assumed for the layer table"


def test_a_network_that_takes_no_image_says_its_own_error_soon() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor, other: Tensor) -> Tensor:
            PASSES.append("two")
            return self.conv(x) + other

    model = cs.load(Two())
    for given in (PICTURE, torch.rand(5, 8, 8)):
        with pytest.raises(ConvscopeError) as raised:
            model.logits(given)
        assert "\n" not in str(raised.value)
    assert PASSES.count("two") == 0  # it cannot even be called
    with pytest.raises(ModelError, match="It takes more than one input"):
        model.layers  # noqa: B018


def test_arrays_in_files_show_it_too(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((5, 16, 16), np.float32))
    model = cs.load(made(HeadFirst, 5))
    assert model.logits(tmp_path / "a.npy").shape == (1, 2, 32, 32)
    assert cs.load(made(HeadFirst, 5)).logits([torch.rand(5, 16, 16)]).shape == (1, 2, 32, 32)


# Networks that take the image by name, or something else than an image


class ByName(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.words = nn.Embedding(10, 4)

    def _maps(self, image: Any) -> Tensor:
        return self.conv(image)


class KeywordOnly(ByName):
    def forward(self, *, image: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._maps(image)


class AfterTokens(ByName):
    def forward(
        self, input_ids: Tensor | None = None, pixel_values: Tensor | None = None
    ) -> Tensor:
        if input_ids is not None:
            raise ValueError("there were no words")
        return self._maps(pixel_values)


@pytest.mark.parametrize(("kind", "name"), [(KeywordOnly, "image"), (AfterTokens, "pixel_values")])
def test_an_image_that_is_taken_by_name_is_given_by_name(kind: type[ByName], name: str) -> None:
    network, images = kind().eval(), torch.rand(2, 3, 8, 8)
    model = cs.load(network, input=(3, 8, 8))
    found = model.activations(images.requires_grad_(), "conv", grad=True)["conv"]
    expected = network(**{name: images})
    assert torch.equal(found, expected)
    (one,) = torch.autograd.grad(found.sum(), images)
    (other,) = torch.autograd.grad(expected.sum(), images)
    torch.testing.assert_close(one, other)


class BothWords(ByName):
    def forward(self, input_ids: Tensor, pixel_values: Tensor | None = None) -> Tensor:
        return self.words(input_ids).mean(1)[..., None, None] + self._maps(pixel_values)


class WordsFirst(ByName):
    def forward(self, text: Tensor, image: Tensor | None = None) -> Tensor:
        return self.words(text)


class OfDict(ByName):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self._maps(batch["image"])


class OfNested(ByName):
    def forward(self, samples: Any) -> Tensor:
        return self._maps(samples.tensors)


class TwoNames(ByName):
    def forward(self, *, image: Tensor, mask: Tensor) -> Tensor:
        return self._maps(image) * mask


ALONE = "Give a module that takes the image alone, and whose forward calls it with"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            BothWords,
            "BothWords failed on an input of 3×8×8: TypeError: BothWords.forward() missing 1 "
            f"required positional argument: 'input_ids'. It takes more than one input. {ALONE} the "
            "others",
        ),
        (
            WordsFirst,
            "WordsFirst takes no plain array of images: it looks numbers up in a table, such as "
            f"those of words. {ALONE} all it expects",
        ),
        (
            OfDict,
            f"OfDict takes no plain array of images: it reads batch['image']. {ALONE} a dict: "
            "{'image': image}",
        ),
        (
            OfNested,
            f"OfNested takes no plain array of images: it reads samples.tensors. {ALONE} what it "
            "expects",
        ),
        (
            TwoNames,
            "TwoNames failed on an input of 3×8×8: TypeError: TwoNames.forward() takes 1 "
            "positional argument but 2 were given. It takes more than one input. "
            f"{ALONE} the others",
        ),
    ],
)
def test_what_takes_something_else_than_an_image_says_so(kind: type[ByName], said: str) -> None:
    model = cs.load(kind(), input=(3, 8, 8))
    for asked in (lambda: model.layers, lambda: model.logits(torch.rand(3, 8, 8))):
        with pytest.raises(ModelError) as raised:
            asked()
        assert str(raised.value) == said


def test_signals_are_not_taken_for_images_of_another_network() -> None:
    class Both(nn.Module):
        """A convolution over frequencies and time, whose rows a 1-D convolution reads."""

        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Conv1d(4, 5, 3)
            self.conv = nn.Conv2d(1, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.line(self.conv(x).mean(-2))

    model = cs.load(Both())
    assert model.prepare(PICTURE).values.shape == (1, 1, 32, 32)
    assert model.input.kind == "image"
    with pytest.raises(ModelError, match=r"It takes images\. Give their shape: --input C,H,W$"):
        print(cs.load(made(Grouped, 3), input=(3, 50)).layers)
