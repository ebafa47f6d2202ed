"""Where on the image grid each element of a tensor stands, however the network lays it out.

While a network runs once, every tensor carries a code of the same shape: the row and the column of
each element, or none. What moves elements about (views, transpositions, windows, rolls, joined
tokens) moves their codes alike, by the same operation; a convolution or a pooling begins a new
grid; a matrix product keeps the positions of its rows. So tokens, windows and channels that come
last are all recognized, and attention makes no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

RADIX = 4096
"""A code is ``row * RADIX + column + 1``, exact in float32; 0 is no position (a class token)."""

_SAME = {"clone", "detach", "alias", "contiguous", "lift_fresh", "_to_copy", "to", "positive"}
_VIEWS = {"view", "_unsafe_view", "reshape", "_reshape_alias"}
_MOVES = {
    "permute",
    "transpose",
    "t",
    "unsqueeze",
    "squeeze",
    "expand",
    "slice",
    "select",
    "narrow",
    "split",
    "split_with_sizes",
    "chunk",
    "unbind",
    "cat",
    "stack",
    "roll",
    "flip",
    "repeat",
    "index_select",
    "index",
    "gather",
    "unfold",
    "im2col",
    "pixel_shuffle",
    "pixel_unshuffle",
    "channel_shuffle",
    "native_channel_shuffle",
    "constant_pad_nd",
    "slice_scatter",
    "select_scatter",
    "rot90",
    "movedim",
    "tile",
    "split_copy",
    "unbind_copy",
}
_PRODUCTS = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1, "matmul": 0, "linear": 0}
_REDUCTIONS = {
    "mean",
    "sum",
    "amax",
    "amin",
    "max",
    "min",
    "var",
    "std",
    "logsumexp",
    "prod",
    "median",
    "linalg_vector_norm",
    "norm",
    "var_mean",
    "argmax",
}
_GRIDS = ("conv", "pool2d", "upsample", "grid_sampler", "col2im")


class Positions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows positions through every operation inside the ``with``."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._codes: MutableMapping[Tensor, Tensor] = WeakTensorKeyDictionary()

    def mark(self, tensor: Tensor, code: Tensor) -> None:
        """Set where the elements of ``tensor`` stand."""
        self._codes[tensor] = code

    def of(self, tensor: Tensor) -> Tensor | None:
        """The codes of a tensor, of its shape; ``None`` where it has no position."""
        return self._codes.get(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        try:
            with torch._C.DisableTorchFunction():
                self._follow(func, args, kwargs or {}, result)
        except Exception:  # positions are lost; the network must not be
            for tensor in _tensors([result]):
                self._codes.pop(tensor, None)
        return result

    def _follow(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        name = func.overloadpacket.__name__
        if name == "copy_":
            self._copied(args[0], args[1])
            return
        outputs = list(_tensors([result]))
        if not outputs or not outputs[0].is_floating_point():
            return
        plain = name.rstrip("_") if not name.startswith("_") else name
        tracked = [t for t in _tensors([args, kwargs]) if t in self._codes]
        if outputs[0].ndim >= 3 and any(word in plain for word in _GRIDS):
            codes = [self._on_grid(args[0], outputs[0])]
        elif not tracked:
            return
        elif plain in _SAME:
            codes = [self._codes[tracked[0]]]
        elif plain in _VIEWS:
            codes = [self._codes[tracked[0]].reshape(outputs[0].shape)]
        elif plain in _MOVES:
            codes = list(_tensors([self._moved(func, plain, args, kwargs)]))
        else:
            codes = [self._computed(plain, func, args, tracked, outputs[0])]
        for output, code in zip(outputs, codes, strict=False):
            if code is not None and code.shape == output.shape:
                self._codes[output] = code

    def _moved(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """The same operation on the codes; what has none stands nowhere."""
        if name == "constant_pad_nd" and (code := self.of(args[0])) is not None:
            return _padded(code, args[1])

        def coded(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return [coded(item) for item in value]
            if isinstance(value, Tensor) and value.is_floating_point():
                known = self._codes.get(value)
                return torch.zeros(()).expand(value.shape) if known is None else known
            return value

        return func(*map(coded, args), **{key: coded(value) for key, value in kwargs.items()})

    def _computed(
        self, name: str, func: Any, args: Any, tracked: list[Tensor], out: Tensor
    ) -> Tensor | None:
        if name in _PRODUCTS:
            left, right = args[_PRODUCTS[name] : _PRODUCTS[name] + 2]
            return _product(self.of(left), self.of(right), out)
        if "scaled_dot_product" in name:
            query = self.of(args[0])
            return None if query is None else query[..., :1].expand(out.shape)
        if name in _REDUCTIONS:
            return _reduced(self._codes[tracked[0]], func, args, out)
        return _pointwise([self._codes[t] for t in tracked], out)

    def _on_grid(self, source: Tensor, out: Tensor) -> Tensor | None:
        """Positions after a convolution: those it had, where the size stays; else a new grid.

        A volume has none: which of its three axes would be the image's?
        """
        code = self.of(source)
        stays = code is not None and out.ndim < 5 and code.shape[2:] == out.shape[2:]
        if code is not None and stays and bool(core(code).any()) and not varies(code, 1):
            return code[:, :1].expand(out.shape)
        return grid(out.shape[2], out.shape[3]).expand(out.shape) if out.ndim == 4 else None

    def _copied(self, target: Tensor, source: Tensor) -> None:
        """A part of a tensor was overwritten: so is that part of its codes."""
        code = self.of(source)
        base = target if target._base is None else target._base
        if code is None and self.of(base) is None:
            return
        base_code = self.of(base)
        canvas = torch.zeros(base.untyped_storage().nbytes() // base.element_size())
        whole = canvas.as_strided(base.shape, base.stride(), base.storage_offset())
        if base_code is not None:
            whole.copy_(base_code)
        part = canvas.as_strided(target.shape, target.stride(), target.storage_offset())
        part.copy_(torch.zeros(()) if code is None else code)
        self._codes[base] = whole
        self._codes[target] = part


@lru_cache(maxsize=64)
def grid(height: int, width: int) -> Tensor:
    """The codes of a map; nothing writes into them."""
    return torch.arange(height)[:, None] * float(RADIX) + torch.arange(width) + 1


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(value.values())


def core(code: Tensor) -> Tensor:
    """The codes with size 1 along the dimensions that were merely expanded."""
    for dim, step in enumerate(code.stride()):
        if step == 0 and code.shape[dim] > 1:
            code = code.narrow(dim, 0, 1)
    return code


def varies(code: Tensor, dim: int) -> bool:
    """Whether positions change along a dimension."""
    code = core(code)
    return code.shape[dim] > 1 and bool((code != code.select(dim, 0).unsqueeze(dim)).any())


def _padded(code: Tensor, pad: Sequence[int]) -> Tensor:
    """Padding continues the grid, and is part of the map.

    Beside tokens, and beside rows that were rolled, it stands nowhere. ``pad`` is as in
    ``constant_pad_nd``: before and after the last dimension first.
    """
    dims = range(code.ndim - 1, -1, -1)
    sides = [(dim, *pad[k : k + 2]) for dim, k in zip(dims, range(0, len(pad), 2), strict=False)]
    along = [dim for dim in range(code.ndim) if varies(code, dim)]
    even = all(not varies(code.diff(dim=dim), dim) for dim in along)
    if len(along) != 2 or not even or bool((core(code) == 0).any()):
        return F.pad(code, list(pad))
    for dim, before, after in sides:
        code = code.narrow(dim, max(0, -before), code.shape[dim] + min(0, before) + min(0, after))
        code = _continued(code, dim, max(0, before), max(0, after))
    return code


def _continued(code: Tensor, dim: int, before: int, after: int) -> Tensor:
    """Steps of the same length beyond both ends, moved so that none is negative."""
    steps = code.diff(dim=dim)
    first, last = code.narrow(dim, 0, 1), code.narrow(dim, -1, 1)
    if steps.shape[dim]:
        left, right = steps.narrow(dim, 0, 1), steps.narrow(dim, -1, 1)
    else:
        left = right = torch.zeros_like(first)
    parts = [
        *(first - k * left for k in range(before, 0, -1)),
        code,
        *(last + k * right for k in range(1, after + 1)),
    ]
    return torch.cat(parts, dim) + before * left


def _product(left: Tensor | None, right: Tensor | None, out: Tensor) -> Tensor | None:
    """Rows stand where those of the left stood, columns where those of the right did."""
    if left is not None and not varies(left, -1):
        return left[..., :1].expand(out.shape)
    if right is not None and right.ndim > 1 and not varies(right, -2):
        return right[..., :1, :].expand(out.shape)
    for code in (left, right):
        if code is not None and code.shape == out.shape:
            return code  # tokens mixed into as many
    if left is not None and any(varies(left[..., 0], dim) for dim in range(left.ndim - 1)):
        return left[..., :1].expand(out.shape)  # patches joined in the channels
    return None


def _reduced(code: Tensor, func: Any, args: Any, out: Tensor) -> Tensor | None:
    """What is taken together stands where its first did; all of it together stands nowhere."""
    names = [argument.name for argument in func._schema.arguments]
    dims = args[names.index("dim")] if "dim" in names and names.index("dim") < len(args) else None
    if dims is None or dims == []:
        return _pointwise([code], out)
    code = code.amin(dims, keepdim=True)
    return code.reshape(out.shape) if any(varies(code, d) for d in range(code.ndim)) else None


def _pointwise(codes: list[Tensor], out: Tensor) -> Tensor | None:
    """The positions of the operand of that shape; where it has none, those of the others."""
    codes = sorted(codes, key=lambda code: code.shape != out.shape)
    fitting = [code.expand(out.shape) for code in codes if _broadcasts(code.shape, out.shape)]
    if not fitting:
        first = codes[0]  # features made of features, as recurrent layers make them
        same = first.ndim == out.ndim and first.shape[:-1] == out.shape[:-1]
        return first[..., :1].expand(out.shape) if same else None
    code = fitting[0]
    for other in fitting[1:]:
        if other is not code and bool((core(code) == 0).any()):
            code = torch.where(code > 0, code, other)
    return code


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(a in (1, b) for a, b in pairs)
