"""Small networks, each with another way of reaching the image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Gate(nn.Module):
    """Computes a value about the whole image; ``held``, it gives what it gave before."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.held: Tensor | None = None
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.held is not None:
            return self.held.expand(len(x), *self.held.shape[1:])
        self.last = self.body(x)
        return self.last


class Function(nn.Module):
    """A network from a function of the input and of a few modules."""

    def __init__(self, forward: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.function = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def conv(inputs: int, outputs: int, kernel: int = 3, **options: object) -> nn.Conv2d:
    options.setdefault("padding", kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, **options)  # type: ignore[arg-type]


def plain() -> nn.Module:
    return nn.Sequential(conv(2, 4), nn.ReLU(), nn.MaxPool2d(2), conv(4, 4, 5), nn.BatchNorm2d(4))


def dilated() -> nn.Module:
    return nn.Sequential(conv(2, 4, dilation=2, padding=2), conv(4, 4, dilation=3, padding=1))


def strided() -> nn.Module:
    return nn.Sequential(
        conv(2, 4, stride=2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2, 1, padding=1)
    )


def ceiled() -> nn.Module:
    return nn.Sequential(
        conv(2, 3),
        nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.LPPool2d(2, 2, ceil_mode=True),
    )


def adaptive() -> nn.Module:
    return nn.Sequential(conv(2, 3), nn.AdaptiveAvgPool2d((5, 4)), nn.AdaptiveMaxPool2d((3, 3)))


def padded() -> nn.Module:
    def forward(self: Function, x: Tensor) -> Tensor:
        x = self.first(self.zero(x))  # type: ignore[operator]
        x = F.pad(self.second(F.pad(x, (2, 0, 1, 3))), (1, 2, 3, 0), mode="reflect")
        return F.pad(F.pad(x, (0, -2, -1, 1)), (0, 2, 1, 0), mode="replicate")

    zero = nn.ZeroPad2d((0, 1, 0, 1))
    return Function(forward, zero=zero, first=conv(2, 3, stride=2, padding=0), second=conv(3, 3))


def circular() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), conv(3, 2))


def same() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, (5, 3), padding="same", dilation=2), nn.ZeroPad2d((0, 1, 3, 0)), conv(3, 2)
    )


def skip() -> nn.Module:
    def forward(self: Function, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(x + self.second(F.relu(self.first(x))))
        return self.down(x) + self.short(x)

    return Function(
        forward,
        stem=conv(2, 4),
        first=conv(4, 4),
        second=conv(4, 4),
        down=conv(4, 4, stride=2),
        short=conv(4, 4, 1, stride=2),
    )


def branches() -> nn.Module:
    def forward(self: Function, x: Tensor) -> Tensor:
        x = torch.cat([self.one(x), self.five(x), F.max_pool2d(x, 3, 1, 1)], 1)
        return self.after(x)

    parts = {"one": conv(2, 2, 1), "five": conv(2, 3, 5), "after": conv(7, 7, groups=7)}
    return Function(forward, **parts)


def dense() -> nn.Module:
    def forward(self: Function, x: Tensor) -> Tensor:
        for part in (self.first, self.second, self.third):
            x = torch.cat([x, part(x)], 1)
        return F.avg_pool2d(x, 2)

    return Function(forward, first=conv(2, 2), second=conv(4, 2), third=conv(6, 2))


def grouped() -> nn.Module:
    """Channels of two groups with other fields, shuffled, then split."""

    def forward(self: Function, x: Tensor) -> Tensor:
        x = torch.cat([self.small(x), self.large(x)], 1)
        x = self.grouped(x)
        x = self.shuffle(x)
        first, second = x.chunk(2, 1)
        return torch.cat([first, self.deep(second)], 1)

    return Function(
        forward,
        small=conv(2, 4, 1),
        large=conv(2, 4, 5),
        grouped=conv(8, 8, groups=4),
        shuffle=nn.ChannelShuffle(2),
        deep=conv(4, 4, groups=4),
    )


def hourglass() -> nn.Module:
    def forward(self: Function, x: Tensor) -> Tensor:
        first = self.first(x)
        second = self.second(F.max_pool2d(first, 2))
        third = self.third(F.max_pool2d(second, 2))
        x = torch.cat([F.interpolate(third, scale_factor=2), second], 1)
        return torch.cat([self.up(self.fourth(x)), first], 1)

    return Function(
        forward,
        first=conv(2, 2),
        second=conv(2, 2),
        third=conv(2, 2),
        fourth=conv(4, 2),
        up=nn.ConvTranspose2d(2, 2, 2, 2),
    )


def transposed() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(2, 4, 3, stride=3, padding=1, output_padding=1, dilation=2),
        nn.ConvTranspose2d(4, 4, (3, 2), stride=2, groups=2),
        conv(4, 2),
    )


def sparse() -> nn.Module:
    """Transposed convolutions with holes: some positions depend on nothing."""
    return nn.Sequential(nn.ConvTranspose2d(2, 2, 2, stride=4, bias=False), conv(2, 2, 1))


def resized() -> nn.Module:
    """Smooth all through: compared by changes, for a weight of zero still passes a NaN."""

    def forward(self: Function, x: Tensor) -> Tensor:
        x = F.interpolate(self.first(x), scale_factor=2, mode="bilinear")
        x = F.interpolate(self.second(x), size=(9, 11), mode="bilinear", align_corners=True)
        x = F.interpolate(x, size=(5, 7), mode="bilinear", antialias=True)
        x = F.interpolate(x, size=(12, 10), mode="bicubic")
        return F.interpolate(x, size=(7, 23), mode="nearest-exact")

    return Function(forward, first=conv(2, 2), second=conv(2, 2))


def twice() -> nn.Module:
    def forward(self: Function, x: Tensor) -> Tensor:
        return self.pool(self.conv(self.pool(self.conv(x))))

    return Function(forward, conv=conv(2, 2), pool=nn.MaxPool2d(3, 2, 1))


def functions() -> nn.Module:
    def forward(self: Function, x: Tensor) -> Tensor:
        x = F.gelu(self.first(x)) * 2 - 1
        x = torch.stack([x, x.roll(3, 2)], 1).amax(1)
        x = x.flip(3)[:, :, 1:, ::2]
        low, high = x.split([2, 2], 1)
        x = low * torch.sigmoid(high) + torch.einsum("nchw,dc->ndhw", x, x.new_ones(2, 4))
        x = x[:, :, torch.tensor([3, 0, 1, 7])].repeat(1, 2, 1, 1)
        return (
            x.cumsum(2).clamp(max=9).index_select(3, torch.tensor([2, 0])).unfold(2, 2, 1)[..., 1]
        )

    return Function(forward, first=conv(2, 4))


def written() -> nn.Module:
    """Tensors that are written into, as a whole, in parts, and through views."""

    def forward(self: Function, x: Tensor) -> Tensor:
        x = self.first(x).relu_()
        canvas = x.new_zeros(x.shape[0], 4, x.shape[2] + 2, x.shape[3])
        canvas[:, :, 1:-1] = x
        canvas[:, :2, :, ::2] += self.second(canvas)[:, :2, :, ::2]
        view = canvas.transpose(2, 3)
        canvas[:, 3, 2:4] = x[:, 0, 8:10]
        shifted = torch.zeros_like(x)
        shifted[:, :, :-1] = x[:, :, 1:]
        return self.third(view.transpose(2, 3)[:, :, 1:-1] + shifted)

    return Function(forward, first=conv(2, 4), second=conv(4, 4), third=conv(4, 2, 1))


def windows() -> nn.Module:
    """Attention in shifted windows, patches merged after it."""
    from torchvision.models.swin_transformer import PatchMerging, SwinTransformerBlock

    def forward(self: Function, x: Tensor) -> Tensor:
        x = self.embed(x).permute(0, 2, 3, 1)
        x = self.shifted(self.straight(x))
        return self.merge(x).permute(0, 3, 1, 2)

    block = {"num_heads": 2, "window_size": [3, 3]}
    return Function(
        forward,
        embed=nn.Conv2d(2, 4, 2, 2),
        merge=PatchMerging(4),
        straight=SwinTransformerBlock(4, shift_size=[0, 0], **block),
        shifted=SwinTransformerBlock(4, shift_size=[1, 1], **block),
    )


def tokens() -> nn.Module:
    """A vision transformer's block, class token and all, folded back to its grid."""

    def forward(self: Function, x: Tensor) -> Tensor:
        maps = self.embed(x)
        x = torch.cat([self.start.weight.expand(len(x), 1, 4), maps.flatten(2).transpose(1, 2)], 1)
        x = self.norm(x)
        self.before(x[:, 1:].transpose(1, 2).reshape(maps.shape))
        x = x + self.attend(x, x, x)[0]
        return x[:, 1:].transpose(1, 2).reshape(maps.shape)

    return Function(
        forward,
        embed=nn.Conv2d(2, 4, 4, 4),
        start=nn.Embedding(1, 4),
        norm=nn.LayerNorm(4),
        attend=nn.MultiheadAttention(4, 2, batch_first=True),
        before=nn.Identity(),
    )


def shuffled() -> nn.Module:
    return nn.Sequential(
        conv(2, 8, stride=2), nn.PixelShuffle(2), conv(2, 2), nn.PixelUnshuffle(2), conv(8, 2)
    )


def unfolded() -> nn.Module:
    """Windows as columns, and summed back."""

    def forward(self: Function, x: Tensor) -> Tensor:
        size = x.shape[2:]
        columns = F.unfold(x, 3, padding=1, stride=2)
        local = columns.view(len(x), 2, 9, -1).amax(2)
        grid = self.grid(local.view(len(x), 2, (size[0] + 1) // 2, -1))
        return F.fold(columns * 2, size, 3, padding=1, stride=2) + F.interpolate(grid, size=size)

    return Function(forward, grid=conv(2, 2))


def lines() -> nn.Module:
    """Convolutions over rows as sequences, and over a volume made of channels."""

    def forward(self: Function, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = self.along(x.permute(0, 2, 1, 3).reshape(n * h, c, w)).view(n, h, 2, w)
        return self.volume(x.permute(0, 2, 1, 3)[:, None]).flatten(1, 2)

    return Function(
        forward, along=nn.Conv1d(2, 2, 5, padding=2), volume=nn.Conv3d(1, 2, 3, padding=(1, 0, 1))
    )


def normed() -> nn.Module:
    def forward(self: Function, x: Tensor) -> Tensor:
        return self.instance(self.second(self.group(self.first(x))))

    return Function(
        forward,
        first=conv(2, 4),
        group=nn.GroupNorm(2, 4),
        second=conv(4, 4),
        instance=nn.InstanceNorm2d(4),
    )


def classifier() -> nn.Module:
    return nn.Sequential(
        conv(2, 4),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
        nn.Softmax(1),
    )


def flat() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 2, 3), nn.MaxPool2d(4), nn.Flatten(), nn.LazyLinear(3))


def excited() -> nn.Module:
    """Squeeze-and-excitation."""

    def forward(self: Function, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(x * self.gate(x))

    squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(4, 2, 1), nn.ReLU(), conv(2, 4, 1))
    return Function(forward, first=conv(2, 4), gate=Gate(squeeze), second=conv(4, 2))


def excited_flat() -> nn.Module:
    """The same through linear layers and ``expand_as``, on channels with different fields."""

    def forward(self: Function, x: Tensor) -> Tensor:
        x = torch.cat([x, self.first(x)], 1)
        gate = self.gate(x)[:, :, None, None].expand_as(x)
        return self.second(x * gate)

    squeeze = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 4), nn.Sigmoid())
    return Function(forward, first=conv(2, 2), gate=Gate(squeeze), second=conv(4, 2))


def efficient_gate() -> nn.Module:
    """A gate from its own channel and its neighbors, on channels with different fields."""

    def forward(self: Function, x: Tensor) -> Tensor:
        x = torch.cat([x, self.first(x)], 1)
        return self.second(x * self.gate(x))

    def squeeze(self: Function, x: Tensor) -> Tensor:
        return self.mix(x.mean((2, 3))[:, None]).sigmoid()[:, 0, :, None, None]

    gate = Gate(Function(squeeze, mix=nn.Conv1d(1, 1, 3, padding=1)))
    return Function(forward, first=conv(2, 2), gate=gate, second=conv(4, 2))


def response() -> nn.Module:
    """ConvNeXt V2's block: channels last, normed over channels, global response norm."""

    def forward(self: Function, x: Tensor) -> Tensor:
        y = self.depthwise(x).permute(0, 2, 3, 1)
        y = F.gelu(self.wide(self.norm(y)))
        y = y + y * self.gate(y)
        return x + self.narrow(y).permute(0, 3, 1, 2)

    def strength(self: Function, x: Tensor) -> Tensor:
        strength = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
        return strength / (strength.mean(-1, keepdim=True) + 1e-6)

    return Function(
        forward,
        depthwise=conv(2, 2, 5, groups=2),
        norm=nn.LayerNorm(2),
        wide=nn.Linear(2, 6),
        gate=Gate(Function(strength)),
        narrow=nn.Linear(6, 2),
    )


def context() -> nn.Module:
    """A pooled branch of a pyramid, resized to the map and concatenated."""

    def forward(self: Function, x: Tensor) -> Tensor:
        x = self.first(x)
        pooled = F.interpolate(self.gate(x), size=x.shape[2:], mode="bilinear")
        return self.after(torch.cat([self.atrous(x), pooled], 1))

    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(4, 2, 1))
    return Function(
        forward,
        first=conv(2, 4),
        gate=Gate(pool),
        atrous=conv(4, 2, dilation=2, padding=2),
        after=conv(4, 2, 1),
    )


def attended_context() -> nn.Module:
    """A global context: positions weighed by a softmax, summed, added to every position."""

    def forward(self: Function, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(x + self.gate(x))

    def pool(self: Function, x: Tensor) -> Tensor:
        weights = self.mask(x).flatten(2).softmax(-1).transpose(1, 2)
        return torch.matmul(x.flatten(2), weights)[..., None]

    gate = Gate(Function(pool, mask=conv(4, 1, 1)))
    return Function(forward, first=conv(2, 4), gate=gate, second=conv(4, 2))


def two_gates() -> nn.Module:
    """Channel attention, then attention over positions: only the first is global."""

    def forward(self: Function, x: Tensor) -> Tensor:
        x = torch.cat([x, self.first(x)], 1)
        x = x * self.gate(x)
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.where(pooled))

    squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(4, 4, 1))
    return Function(forward, first=conv(2, 2), gate=Gate(squeeze), where=conv(2, 1, 5))


COMPARED = [
    plain,
    dilated,
    strided,
    ceiled,
    adaptive,
    padded,
    circular,
    same,
    skip,
    branches,
    dense,
    grouped,
    hourglass,
    transposed,
    sparse,
    twice,
    functions,
    written,
    windows,
    tokens,
    shuffled,
    unfolded,
    lines,
    normed,
    classifier,
    flat,
]
GATED = [
    excited,
    excited_flat,
    efficient_gate,
    response,
    context,
    attended_context,
    two_gates,
]
