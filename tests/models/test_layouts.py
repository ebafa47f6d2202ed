"""Maps in the standard layout, whatever the network's own: a bright spot appears where it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import convscope as cs

H, W = 8, 12  # of the image; patches of 2×2 make a grid of 4×6


def load(network: nn.Module, size: tuple[int, int] = (H, W)) -> cs.Model:
    return cs.load(network.eval(), input=(1, *size))


def spot(y: int, x: int, size: tuple[int, int] = (H, W), batch: int = 1) -> Tensor:
    """Images that are black but for one bright patch, which stands at ``(y, x)`` of the grid."""
    image = torch.zeros(batch, 1, *size)
    image[:, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2] = 1
    return image


def brightest(maps: Tensor) -> list[tuple[int, int]]:
    """Where each image is brightest, its channels together."""
    total = maps.detach().abs().sum(1)
    return [divmod(int(k), total.shape[2]) for k in total.flatten(1).argmax(1)]


def patches(width: int = 5) -> nn.Conv2d:
    torch.manual_seed(1)
    return nn.Conv2d(1, width, 2, stride=2, bias=False)


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


class ChannelsLast(nn.Module):
    """As ConvNeXt has it inside its blocks, and Swin everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = patches()
        self.wide = linear(5, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.wide(self.patches(x).permute(0, 2, 3, 1))
        return x.permute(0, 3, 1, 2).mean((2, 3))


class Tokens(nn.Module):
    """As a vision transformer: a class token and two registers before the tokens of the grid."""

    def __init__(self, heads: int = 2) -> None:
        super().__init__()
        self.patches = patches(6)
        self.first = nn.Parameter(torch.full((1, 3, 6), 9.0))
        self.heads = heads
        self.qkv = linear(6, 18)
        self.proj = linear(6, 6)
        self.mlp = nn.Sequential(linear(6, 10), nn.ReLU(), linear(10, 6))
        self.head = linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], 1)
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-2, -1) * 0.01).softmax(-1) @ v
        x = x + 0.01 * self.proj(mixed.transpose(1, 2).reshape(x.shape))
        x = x + 0.1 * self.mlp(x)
        return self.head(x[:, 0])


class TokensFirst(nn.Module):
    """As older transformers have it: tokens, images, features."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = patches(6)
        self.mix = nn.MultiheadAttention(6, 2)
        self.norm = nn.LayerNorm(6)
        self.mlp = nn.Linear(6, 9)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).permute(2, 0, 1)
        x = x + 0.01 * self.mix(x, x, x)[0]
        return self.mlp(x).mean(0)


class Windows(nn.Module):
    """As Swin: shifted windows of 2×2, one after the other in the batch; then patches merged."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = patches()
        self.inside = linear(5, 5)
        self.merge = linear(20, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).permute(0, 2, 3, 1).roll((-1, -1), (1, 2))
        n, h, w, c = x.shape
        x = nn.functional.pad(x, (0, 0, 0, w % 2, 0, h % 2))
        tall, wide = x.shape[1] // 2, x.shape[2] // 2
        x = x.view(n, tall, 2, wide, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        x = self.inside(x)
        x = x.view(n, tall, wide, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(n, tall * 2, -1, c)
        x = x[:, :h, :w].roll((1, 1), (1, 2))
        even = x[:, : h // 2 * 2, : w // 2 * 2]
        corners = [even[:, y::2, z::2] for z in (0, 1) for y in (0, 1)]
        return self.merge(torch.cat(corners, -1)).mean((1, 2))


CASES: list[tuple[Callable[[], nn.Module], str, tuple[int, ...]]] = [
    (ChannelsLast, "wide", (7, 4, 6)),
    (ChannelsLast, "/permute", (5, 4, 6)),
    (ChannelsLast, "/permute#2", (7, 4, 6)),
    (Tokens, "/flatten", (6, 4, 6)),
    (Tokens, "/cat", (6, 4, 6)),
    (Tokens, "qkv", (18, 4, 6)),
    (Tokens, "/matmul#2", (6, 4, 6)),  # heads times features
    (Tokens, "proj", (6, 4, 6)),
    (Tokens, "/add", (6, 4, 6)),
    (Tokens, "mlp.1", (10, 4, 6)),
    (Tokens, "/add#2", (6, 4, 6)),
    (TokensFirst, "/permute", (6, 4, 6)),
    (TokensFirst, "/add", (6, 4, 6)),
    (TokensFirst, "mlp", (9, 4, 6)),
    (Windows, "inside", (5, 4, 6)),
    (Windows, "/roll", (5, 4, 6)),
    (Windows, "/roll#2", (5, 4, 6)),
]


@pytest.mark.parametrize(("network", "path", "shape"), CASES)
@pytest.mark.parametrize("place", [(1, 4), (3, 0)])
def test_a_bright_spot_appears_at_its_place(
    network: Callable[[], nn.Module], path: str, shape: tuple[int, ...], place: tuple[int, int]
) -> None:
    model = load(network())
    images = torch.cat([spot(*place), spot(2, 2)])
    maps = model.activations(images, path)[path]
    black = model.activations(images * 0, path)[path]
    assert tuple(maps.shape[1:]) == model.layers[path].shape == shape
    blurred = "matmul" in path or path == "proj"  # attention tells everyone; rows stay in order
    assert blurred or brightest(maps - black) == [place, (2, 2)]


def test_folded_tokens_are_the_tokens_of_the_network() -> None:
    model = load(Tokens())
    images = torch.rand(2, 1, H, W)
    paths = ["/add", "mlp.0", "/matmul#2"]
    maps = model.activations(images, paths)
    own = model.activations(images, paths, raw=True)
    for path in ("/add", "mlp.0"):
        assert own[path].shape[1] == 3 + 24
        expected = own[path][:, 3:].transpose(1, 2).reshape(2, -1, 4, 6)
        assert torch.equal(maps[path], expected)
    heads = own["/matmul#2"][:, :, 3:].permute(0, 1, 3, 2).reshape(2, 6, 4, 6)
    assert torch.equal(maps["/matmul#2"], heads)


def test_tokens_apart_are_counted_in_the_table() -> None:
    model = load(Tokens())
    assert model.layers["mlp.0"].apart == 3
    assert model.layers["mlp.0"].shape_text() == "10×4×6 + 3 tokens"
    assert model.layers["/flatten"].apart == 0
    assert model.layers["head"].shape == (3,)


def test_patches_joined_in_the_channels_make_a_smaller_grid() -> None:
    model = load(Windows())
    maps = model.activations(spot(3, 2), ["/cat", "merge"])
    assert maps["/cat"].shape == (1, 20, 2, 3)
    assert brightest(maps["merge"]) == [(1, 1)]


@pytest.mark.parametrize("size", [(12, 8), (10, 6), (8, 12)])
def test_other_sizes_than_the_models_own(size: tuple[int, int]) -> None:
    model = load(Windows())
    place = (3, 1)
    images = torch.cat([spot(*place, size), spot(0, 2, size)])
    assert len(model.layers)
    maps = model.activations(images, ["inside", "/roll#2"])
    for found in maps.values():  # an odd grid is padded for the windows, and the padding left out
        assert found.shape == (2, 5, size[0] // 2, size[1] // 2)
        assert brightest(found) == [place, (0, 2)]


@pytest.mark.parametrize(
    ("network", "path"),
    [(Tokens, "/add"), (TokensFirst, "/add"), (Windows, "inside"), (ChannelsLast, "wide")],
)
def test_gradients_at_a_folded_layer(network: Callable[[], nn.Module], path: str) -> None:
    model = load(network())
    images = torch.rand(2, 1, H, W, requires_grad=True)
    taken = {}
    last = model.layers[-1].path
    for raw in (False, True):
        seen = model.activations(images, [path, last], grad=True, raw=raw)
        assert seen[last].ndim == 2
        total = (seen[last] * torch.arange(1.0, seen[last].shape[1] + 1)).sum()
        taken[raw] = torch.autograd.grad(total, [seen[path], images])
        if not raw:
            assert taken[raw][0].shape == seen[path].shape == (2, *model.layers[path].shape)
    assert torch.allclose(taken[False][1], taken[True][1], atol=1e-6)
    folded, own = taken[False][0], taken[True][0]
    kept = own[:, 3:] if network is Tokens else own  # the class token is apart
    assert folded.sum().item() == pytest.approx(kept.sum().item(), rel=1e-4)
    assert folded.abs().max() == pytest.approx(float(kept.abs().max()), rel=1e-4)


def test_a_network_without_convolutions_has_maps_too() -> None:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = linear(4, 6)
            self.across = linear(24, 24)
            self.norm = nn.LayerNorm(6)

        def forward(self, x: Tensor) -> Tensor:
            n = len(x)
            x = x.reshape(n, 1, 4, 2, 6, 2).permute(0, 2, 4, 3, 5, 1).reshape(n, 24, 4)
            x = self.embed(x)
            x = x + 0.01 * self.across(x.transpose(1, 2)).transpose(1, 2)
            return self.norm(x).mean(1)

    model = load(Mixer())
    assert model.layers["embed"].shape == (6, 4, 6)
    assert brightest(model.activations(spot(2, 5), "/add")["/add"]) == [(2, 5)]
    assert [layer.path for layer in model.layers.representative()]
    maps = cs.feature_maps(model, torch.rand(1, H, W), ["embed", "norm"])
    assert maps["embed"].values.shape == maps["norm"].values.shape == (6, 4, 6)


def test_a_slice_written_later_keeps_its_place() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = patches()
            self.end = linear(5, 5)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.patches(x).flatten(2).transpose(1, 2)
            held = tokens.new_zeros(len(x), 25, 5)
            held[:, 1:] = tokens
            return self.end(held)

    model = load(Written())
    assert model.layers["end"].shape == (5, 4, 6)
    assert model.layers["end"].apart == 1
    assert brightest(model.activations(spot(3, 1), "end")["end"]) == [(3, 1)]


def test_lines_and_volumes() -> None:
    class Signal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(8, 4, 3, padding=1)
            self.deep = nn.Conv1d(4, 6, 3, stride=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.deep(torch.relu(self.conv(x[:, 0])))

    class Volume(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(1, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x.reshape(len(x), 1, 2, 4, W)).mean((2, 3, 4))

    signal, volume = load(Signal()), load(Volume())
    images = torch.rand(2, 1, H, W)
    line = signal.activations(images, "kind=conv")
    assert [tuple(line[p].shape) for p in ("conv", "deep")] == [(2, 4, 12), (2, 6, 5)]
    weight, bias = signal.module.conv.weight, signal.module.conv.bias
    expected = nn.functional.conv1d(images[:, 0], weight, bias, padding=1)
    assert torch.allclose(line["conv"], expected, atol=1e-6)
    assert volume.activations(images, "conv")["conv"].shape == (2, 4, 2, 4, W)
    assert cs.feature_maps(signal, images[0], "conv")["conv"].values.shape == (4, 1, 12)
    stacked = cs.feature_maps(volume, images[0], "conv")["conv"]
    assert stacked.values.shape == (4, 8, W)
    assert any("2 slices of 4×12" in line for line in stacked.grid().lines)


def test_tuples_and_dicts_of_results() -> None:
    class Many(nn.Module):
        def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
            super().__init__()
            self.body = Wrapped(wrap)

        def forward(self, x: Tensor) -> Any:
            return {"mask": self.body(x), "count": 3}

    class Wrapped(nn.Module):
        def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
            super().__init__()
            self.conv = patches()
            self.wrap = wrap

        def forward(self, x: Tensor) -> Any:
            return self.wrap(self.conv(x))

    for wrap in (lambda t: (t, t * 2), lambda t: {"out": t.permute(0, 2, 3, 1)}, lambda t: [t]):
        model = load(Many(wrap))
        maps = model.activations(spot(2, 3), ["body", "body.conv"], grad=True)
        assert torch.equal(maps["body"], maps["body.conv"])
        assert brightest(maps["body"]) == [(2, 3)]
        assert model.logits(spot(2, 3)).shape[0] == 1


def test_keras_tokens_are_folded() -> None:
    import keras

    inputs = keras.Input((H, W, 1))
    x = keras.layers.Conv2D(5, 2, strides=2, use_bias=False, name="patches")(inputs)
    x = keras.layers.Reshape((24, 5), name="tokens")(x)
    x = keras.layers.Dense(7, use_bias=False, name="wide")(x)
    model = cs.load(keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(x)))
    assert model.layers["wide"].shape == (7, 4, 6)
    image = spot(1, 5).permute(0, 2, 3, 1)
    assert brightest(model.activations(image, "wide")["wide"]) == [(1, 5)]
    assert brightest(model.activations(image, "patches")["patches"]) == [(1, 5)]


def test_maps_of_plain_networks_are_the_tensors_themselves() -> None:
    network = nn.Sequential(patches(), nn.ReLU())
    maps = load(network).activations(spot(1, 1), ["0"])["0"]
    assert np.array_equal(maps.numpy(), network[0](spot(1, 1)).detach().numpy())


def test_pooled_tokens_keep_the_place_of_their_windows() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = patches()
            self.end = linear(5, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).permute(0, 2, 3, 1)
            n, h, w, c = x.shape
            windows = x.reshape(n, h // 2, 2, w // 2, 2, c).amax((2, 4)).reshape(n, -1, c)
            return self.end(windows).mean(1)

    model = load(Pooled())
    assert model.layers["end"].shape == (5, 2, 3)
    assert model.layers["/mean"].shape == (5,)  # all together stand nowhere
    assert brightest(model.activations(spot(3, 4), "end")["end"]) == [(1, 2)]


def test_recurrent_layers_over_rows() -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = patches()
            self.along = nn.LSTM(5, 4, batch_first=True)
            self.end = linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).permute(0, 2, 3, 1)
            n, h, w, c = x.shape
            x, _ = self.along(x.reshape(n * h, w, c))
            return self.end(x.reshape(n, h, w, -1))

    model = load(Rows())
    assert model.layers["along"].shape == (4, 4, 6)
    assert model.layers["end"].shape == (3, 4, 6)
    images = torch.cat([spot(1, 4), spot(3, 0)])
    change = model.activations(images, "along")["along"]
    change = change - model.activations(images * 0, "along")["along"]
    assert [y for y, _ in brightest(change)] == [1, 3]


@pytest.mark.parametrize(
    "pad",
    [nn.ZeroPad2d(1), nn.ZeroPad2d((0, 1, 2, 3)), nn.ConstantPad2d((2, -1, -1, 4), 5.0)],
    ids=str,
)
def test_padding_is_part_of_a_map(pad: nn.Module) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), pad, nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3))
    images = torch.rand(2, 3, 12, 10)
    model = cs.load(network, input=(3, 12, 10))
    expected = network[:2](images).detach()
    assert model.layers["1"].shape == tuple(expected.shape[1:])
    assert model.layers["1"].apart == 0
    torch.testing.assert_close(model.activations(images, ["1"])["1"], expected, rtol=0, atol=0)


def test_padding_of_channels_leaves_a_map() -> None:
    """The shortcut of a CIFAR ResNet without parameters: strided, zeros joined to the channels."""

    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            shortcut = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
            return self.second(x) + shortcut

    network, images = Shortcut(), torch.rand(2, 3, 12, 8)
    model = cs.load(network, input=(3, 12, 8))
    strided = network.first(images)[:, :, ::2, ::2].detach()
    padded = torch.cat([torch.zeros(2, 2, 6, 4), strided, torch.zeros(2, 2, 6, 4)], 1)
    maps = model.activations(images, ["/pad", "/add"])
    assert model.layers["/pad"].shape == (8, 6, 4)
    torch.testing.assert_close(maps["/pad"], padded, rtol=0, atol=0)
    torch.testing.assert_close(maps["/add"], network(images).detach(), rtol=0, atol=0)


def test_padding_of_channels_that_come_last() -> None:
    """Padded before windows are made of it, as in Swin: rows and columns, not channels."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 6, 2, 2), nn.LayerNorm(6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(self.conv(x).permute(0, 2, 3, 1))
            return nn.functional.pad(x, (0, 0, 0, 2, 0, 1))

    network, images = Last(), torch.rand(2, 3, 12, 8)
    model = cs.load(network, input=(3, 12, 8))
    expected = network(images).detach().permute(0, 3, 1, 2)
    assert model.layers["/pad"].shape == (6, 7, 6)
    torch.testing.assert_close(model.activations(images, ["/pad"])["/pad"], expected)
