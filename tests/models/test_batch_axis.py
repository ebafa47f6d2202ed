"""Which image each number belongs to, wherever a network puts its batch: against hooks."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import convscope as cs

H, W = 6, 8


def images(count: int) -> Tensor:
    return torch.rand(count, 3, H, W, generator=torch.Generator().manual_seed(count))


def hooked(network: nn.Module, values: Tensor, path: str) -> Tensor:
    """What a plain hook on an untouched copy records."""
    own, kept = copy.deepcopy(network), []
    own.get_submodule(path).register_forward_hook(lambda _m, _i, out: kept.append(out.clone()))
    with torch.no_grad():
        own(values)
    return kept[0]


class Folded(nn.Module):
    """Axial attention: each row of each image is an entry of the batch, which comes second."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.mix = nn.Linear(4, 5)
        self.transposed = transposed

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x).permute(0, 2, 3, 1).flatten(0, 1)
        y = y.transpose(0, 1) if self.transposed else y
        y = self.mix(y)
        y = y.transpose(0, 1) if self.transposed else y
        return y.reshape(len(x), H, W, 5).mean((1, 2))


class WindowsBeforeImages(nn.Module):
    """Halves of the image lie before the images in the batch, and not after them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3, padding=1)
        self.after = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        halves = torch.cat(x.split(H // 2, 2))
        return self.after(self.body(halves).relu()).mean((1, 2, 3))[: len(x)]


class Stacked(nn.Module):
    """A stack of two results in front of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.both = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.both(torch.stack([y, y * 2])).mean((0, 3, 4))


CASES: list[tuple[Callable[[], nn.Module], str, Callable[[Tensor, int], Tensor]]] = [
    (lambda: Folded(False), "mix", lambda t, n: t.reshape(n, H, W, 5).permute(0, 3, 1, 2)),
    (lambda: Folded(True), "mix", lambda t, n: t.reshape(W, n, H, 5).permute(1, 3, 2, 0)),
    (Stacked, "both", lambda t, n: t.transpose(0, 1).reshape(n, 8, H, W)),
    (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(2), Permuted(2, 0, 1), First()),
        "2",
        lambda t, n: t.permute(1, 2, 0).reshape(n, 4, H, W),
    ),
]


class Permuted(nn.Module):
    def __init__(self, *dims: int) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.dims)


class First(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(0)


@pytest.mark.parametrize(("make", "path", "standard"), CASES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_image_gets_its_own_map(
    make: Callable[[], nn.Module], path: str, standard: Callable[[Tensor, int], Tensor], count: int
) -> None:
    torch.manual_seed(0)
    network, values = make().eval(), images(count)
    model = cs.load(network, input=(3, H, W))
    recorded = model.activations(values, path)[path]
    assert torch.equal(recorded, standard(hooked(network, values, path), count))
    assert tuple(recorded.shape[1:]) == model.layers[path].shape
    streamed: dict[str, Tensor] = {}
    model.stream(values, [path], lambda at, result: streamed.update({at: result.clone()}))
    assert torch.equal(streamed[path], recorded)


def test_an_edit_reaches_the_image_it_is_meant_for() -> None:
    torch.manual_seed(0)
    network, values = Folded(True).eval(), images(3)

    def second_image_off(maps: Tensor) -> Tensor:
        changed = maps.clone()
        changed[1] = 0
        return changed

    model = cs.load(network, input=(3, H, W))
    edited = model.edited({"mix": second_image_off}).logits(values)
    plain = network(values)
    assert torch.equal(edited[[0, 2]], plain[[0, 2]])
    assert not edited[1].any()


def test_rows_of_one_image_in_two_parts_are_no_grid() -> None:
    model = cs.load(WindowsBeforeImages().eval(), input=(3, H, W))
    recorded = model.activations(images(3), "after")["after"]
    alone = [model.activations(one[None], "after")["after"] for one in images(3)]
    assert torch.allclose(recorded, torch.cat(alone), atol=1e-6)


class PerImage(nn.Module):
    """Takes its batch apart, as detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.conv(one * 2) for one in x.split(1)])


class OnlyOne(PerImage):
    """Refuses more than one image."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 1:
            raise ValueError("one image at a time")
        return self.conv(x * 2)


class NoBatch(PerImage):
    """Its convolution gets an image without a batch axis."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.conv(one * 2) for one in x])


@pytest.mark.parametrize("kind", [PerImage, OnlyOne, NoBatch])
def test_a_network_that_takes_one_image_at_a_time(kind: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    network = kind().eval()
    assert isinstance(network, PerImage)
    model = cs.load(network, input=(3, H, W))
    assert [layer.path for layer in model.layers if not layer.function] == ["conv"]
    assert model.layers["conv"].shape == (4, H - 2, W - 2)
    recorded = model.activations(images(3), "conv")["conv"]
    assert torch.allclose(recorded, network.conv(images(3) * 2), atol=1e-6)
    streamed: dict[str, Tensor] = {}
    model.stream(images(3), ["conv"], lambda at, result: streamed.update({at: result}))
    assert torch.equal(streamed["conv"], recorded)


class Mixed(nn.Module):
    """The third result is about all images together."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.means = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y - self.means(y.mean((0, 2, 3)))[:, None, None]


def test_what_belongs_to_no_image_is_refused() -> None:
    model = cs.load(Mixed().eval(), input=(3, H, W))
    values = images(3)
    with pytest.raises(cs.ConvscopeError, match="none of its dimensions counts the images"):
        model.activations(values, "means")
    raw = model.activations(values, "means", raw=True)["means"]
    assert torch.allclose(raw, model.module.conv(values).mean((0, 2, 3)), atol=1e-6)


class Scales(nn.Module):
    """A detector's head over two scales joined in one sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.large = nn.Conv2d(3, 8, 1)
        self.small = nn.Conv2d(8, 8, 2, 2)
        self.line = nn.Conv1d(8, 6, 1)
        self.tokens = nn.Linear(8, 5)
        self.bins = nn.Conv2d(2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        large = self.large(x)
        joined = torch.cat([large.flatten(2), self.small(large).flatten(2)], 2)
        bins = self.bins(joined.view(len(x), 4, 2, -1).transpose(1, 2))
        tokens = self.tokens(joined.transpose(1, 2))
        return (
            self.line(joined).mean(2) + tokens.mean((1, 2))[:, None] + bins.mean((1, 2, 3))[:, None]
        )


def test_several_scales_are_a_line() -> None:
    network = Scales().eval()
    model, length = cs.load(network, input=(3, H, W)), H * W + H * W // 4
    for path, channels in (("line", 6), ("tokens", 5)):
        assert model.layers[path].shape == (channels, length)
        expected = hooked(network, images(2), path)
        expected = expected.transpose(1, 2) if path == "tokens" else expected
        assert torch.equal(model.activations(images(2), path)[path], expected)
    assert model.layers["bins"].no_map
    assert not model.layers["bins"].is_map


def test_what_no_image_reaches_is_not_listed() -> None:
    class Fresh(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.scale = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            mask, memory = torch.eye(4).reshape(2, 8), x.new(4, 4)
            weight = self.scale.weight * torch.tensor([[2.0]])
            memory.copy_(weight + mask.sum())
            return self.conv(x).mean((2, 3)) @ memory

    listed = [layer.path for layer in cs.load(Fresh().eval(), input=(3, H, W)).layers]
    assert listed == ["conv", "/mean", "/matmul"]


class Overwritten(nn.Module):
    def __init__(self, write: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.after = nn.Identity()
        self.write = write

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        self.write(y)
        return self.after(y).mean((2, 3))


@pytest.mark.parametrize(
    "write",
    [
        lambda y: y[:, 0].fill_(0.25),
        lambda y: y.__setitem__((Ellipsis, slice(2)), 0),
        lambda y: y.__setitem__((slice(None), slice(None), slice(1, 3)), y[:, :, 2:4].clone()),
        lambda y: y.masked_fill_(y > 0, 1),
        lambda y: y[:, :, ::2].zero_(),
    ],
    ids=["channel", "columns", "rows", "mask", "every second row"],
)
def test_what_is_written_into_a_map_stands_on_it(write: Callable[[Tensor], object]) -> None:
    torch.manual_seed(0)
    network = Overwritten(write).eval()
    model = cs.load(network, input=(3, H, W))
    assert model.layers["after"].shape == (4, H, W)
    recorded = model.activations(images(2), "after")["after"]
    assert torch.equal(recorded, hooked(network, images(2), "after"))


class FoldedWithChannels(nn.Module):
    """Windows, images and channels in one dimension: positions of a window in front."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.folded = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).unflatten(3, (4, 2)).unflatten(2, (3, 2))
        y = self.folded(y.permute(3, 5, 0, 2, 4, 1).reshape(4, -1))
        return y.sum(0).reshape(len(x), -1).sum(1, keepdim=True)


def test_windows_folded_with_channels_are_no_small_map() -> None:
    network = FoldedWithChannels().eval()
    model = cs.load(network, input=(3, H, W))
    layer = model.layers["folded"]
    assert layer.refusal or layer.shape == (4, H, W)


def test_rows_and_channels_of_equal_number_are_not_exchanged() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, H, 1), Permuted(0, 2, 1, 3), nn.ReLU(), First()).eval()
    model = cs.load(network, input=(3, H, W))
    recorded = model.activations(images(2), ["1", "2"])
    assert torch.equal(recorded["1"], network[0](images(2)))
    assert torch.equal(recorded["2"], network[0](images(2)).relu())


class OneInTokens(nn.Module):
    """Takes one image at a time, and its tokens stand before the images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2, 2)
        self.tokens = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        each = [self.conv(one[None]).flatten(2).permute(2, 0, 1) for one in x]
        return self.tokens(torch.cat(each, 1)).mean(0)


def test_raw_results_of_single_images_are_joined_where_the_network_counts_them() -> None:
    torch.manual_seed(0)
    network = OneInTokens().eval()
    model = cs.load(network, input=(3, H, W))
    raw = model.activations(images(3), "tokens", raw=True)["tokens"]
    assert raw.shape == (12, 3, 4)
    assert torch.allclose(raw, hooked(network, images(3), "tokens"), atol=1e-6)


def test_a_size_that_fails_leaves_no_trace() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4 * H * W, 5)).eval()
    model = cs.load(network, input=(3, H, W))
    with pytest.raises(cs.ConvscopeError):
        len(cs.load(model, input=(3, H + 1, W)).layers)
    assert torch.equal(model.activations(images(3), "2")["2"], network(images(3)))


class Chosen(nn.Module):
    """As many tokens as the image has bright pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.chosen = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 1:
            raise ValueError("one image at a time")
        y = self.conv(x).flatten(2)[0].T
        return self.chosen(y[(x.mean(1) > 0.5).flatten()]).mean(0, keepdim=True)


def test_a_result_of_another_shape_than_traced_is_refused() -> None:
    model = cs.load(Chosen().eval(), input=(3, H, W))
    assert model.layers["chosen"].shape
    with pytest.raises(cs.ConvscopeError, match="has another shape for these images than the"):
        model.activations(images(1) * 0 + 0.9, "chosen")
    raw = model.activations(images(1) * 0 + 0.9, "chosen", raw=True)["chosen"]
    assert raw.shape == (H * W, 5)
    assert "conv" in model.receptive_fields()


class GateBesideConstants(nn.Module):
    """Channels of zeros beside a rolled map, and a gate over all: still one map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.gate = nn.Conv2d(H, H, 1)
        self.gated = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.roll(self.conv(x), 1, 2)
        y = nn.functional.pad(y, (0, 0, 0, 0, 1, 1))
        y = y * self.gate(y.mean((2, 3), keepdim=True)).sigmoid()
        return self.gated(y.permute(0, 3, 2, 1)).mean((1, 2))


def test_a_gate_does_not_place_the_channels_of_zeros() -> None:
    torch.manual_seed(0)
    network = GateBesideConstants().eval()
    model = cs.load(network, input=(3, H, W))
    assert model.layers["gated"].shape == (H, H, W)
    recorded = model.activations(images(2), "gated")["gated"]
    unrolled = hooked(network, images(2), "gated").permute(0, 3, 2, 1).roll(-1, 2)
    assert torch.equal(recorded, unrolled)
