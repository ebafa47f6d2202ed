"""Parametrizations: what is adjusted so that a picture changes. Pictures are 0…1, ``N C H W``."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from convscope.errors import UsageError, closest

Size = tuple[int, int]

# How red, green and blue vary together in photographs (lucid's matrix: the square root of the
# colour covariance of ImageNet), over its largest column norm.
_COLOUR = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_MIX = (_COLOUR / _COLOUR.norm(dim=0).max()).T.contiguous()
_UNMIX = torch.linalg.inv(_MIX)


class Param(abc.ABC):
    """How numbers become a picture. ``decorrelate``: colours vary as in photographs (RGB only)."""

    decorrelate: bool

    @abc.abstractmethod
    def random(self, channels: int, size: Size, generators: Sequence[torch.Generator]) -> Tensor:
        """Numbers for one picture from each generator."""

    @abc.abstractmethod
    def waves(self, state: Tensor, full: Size, size: Size) -> Tensor:
        """The numbers as values ``(N, C, *size)`` before colours and the squeeze into 0…1."""

    @abc.abstractmethod
    def from_values(self, values: Tensor) -> Tensor:
        """The numbers that give these values at full size."""

    @abc.abstractmethod
    def describe(self, channels: int) -> str:
        """What is adjusted, in words."""

    def picture(self, state: Tensor, full: Size, size: Size | None = None) -> Tensor:
        """The pictures, 0…1; at a smaller ``size`` the same without its finest detail."""
        values = self.waves(state, full, size or full)
        if self.decorrelate and values.shape[1] == 3:
            values = _mixed(values, _MIX)
        return values.sigmoid()

    def of_picture(self, picture: Tensor) -> Tensor:
        """The numbers of given pictures; what is nearly black or white is kept within reach."""
        values = picture.clamp(0.01, 0.99).logit()
        if self.decorrelate and values.shape[1] == 3:
            values = _mixed(values, _UNMIX)
        return self.from_values(values)


def _mixed(values: Tensor, matrix: Tensor) -> Tensor:
    return F.conv2d(values, matrix.T[..., None, None].to(values.device))


@dataclass(frozen=True)
class Fourier(Param):
    """Waves, coarse ones adjusted faster: 1/frequency^``decay``.

    Start: noise of standard deviation ``spread`` in every wave.
    """

    decay: float = 1.0
    spread: float = 0.01
    decorrelate: bool = True

    def random(self, channels: int, size: Size, generators: Sequence[torch.Generator]) -> Tensor:
        shape = (channels, size[0], size[1] // 2 + 1, 2)
        drawn = [torch.randn(shape, generator=g, device=g.device) for g in generators]
        return self.spread * torch.stack(drawn)

    def waves(self, state: Tensor, full: Size, size: Size) -> Tensor:
        scale = _amplitudes(full, size, self.decay, state.device)
        if size != full:
            state = _low(state, size)
        pictures: Tensor = torch.fft.irfft2(torch.view_as_complex(state * scale[..., None]), s=size)
        return pictures

    def from_values(self, values: Tensor) -> Tensor:
        size = (values.shape[-2], values.shape[-1])
        spectrum = torch.view_as_real(torch.fft.rfft2(values))
        numbers: Tensor = spectrum / _amplitudes(size, size, self.decay, values.device)[..., None]
        return numbers

    def describe(self, channels: int) -> str:
        colour = ", colours decorrelated (ImageNet's)" if self.decorrelate and channels == 3 else ""
        return f"Fourier waves{colour}, sigmoid"


def _low(state: Tensor, size: Size) -> Tensor:
    """The waves that a picture of ``size`` can hold."""
    rows = (size[0] + 1) // 2
    return torch.cat([state[:, :, :rows], state[:, :, -(size[0] // 2) :]], 2)[
        :, :, :, : size[1] // 2 + 1
    ]


@lru_cache(maxsize=16)
def _amplitudes(full: Size, size: Size, decay: float, device: torch.device) -> Tensor:
    """What a unit of each wave adds to a picture; lucid's scale, quarter included."""
    rows = torch.fft.fftfreq(size[0], device=device)[:, None] * size[0] / full[0]
    columns = torch.fft.rfftfreq(size[1], device=device)[None] * size[1] / full[1]
    frequency = torch.hypot(rows, columns).clamp_min(1 / max(full))
    area = size[0] * size[1] / (full[0] * full[1]) ** 0.5
    amplitudes: Tensor = area / (4 * frequency**decay)
    return amplitudes


@dataclass(frozen=True)
class Pixels(Param):
    """Each pixel by itself. Start: noise of standard deviation ``spread``."""

    spread: float = 0.05
    decorrelate: bool = False

    def random(self, channels: int, size: Size, generators: Sequence[torch.Generator]) -> Tensor:
        shape = (channels, *size)
        drawn = [torch.randn(shape, generator=g, device=g.device) for g in generators]
        return self.spread * torch.stack(drawn)

    def waves(self, state: Tensor, full: Size, size: Size) -> Tensor:
        return state if size == full else F.adaptive_avg_pool2d(state, size)

    def from_values(self, values: Tensor) -> Tensor:
        return values

    def describe(self, channels: int) -> str:
        return "pixels, sigmoid"


NAMED: dict[str, Param] = {"fourier": Fourier(), "pixels": Pixels()}


def param_of(given: Param | str) -> Param:
    """A parametrization by name, or as it is."""
    if isinstance(given, Param):
        return given
    if given not in NAMED:
        near = closest(given, NAMED) or f" Known: {', '.join(NAMED)}"
        raise UsageError(f"No parametrization {given!r}.{near}")
    return NAMED[given]
