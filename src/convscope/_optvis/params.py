"""Parametrizations: what is adjusted so that a picture changes. Pictures are 0…1, ``N C H W``."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import pi
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from convscope._errors import UsageError, closest

Size = tuple[int, int]

# How red, green and blue vary together in photographs (lucid's matrix: the square root of the
# color covariance of ImageNet), over its largest column norm.
_COLOR = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_MIX = (_COLOR / _COLOR.norm(dim=0).max()).T.contiguous()
_UNMIX = torch.linalg.inv(_MIX)


class Param(abc.ABC):
    """How numbers become a picture. ``decorrelate``: colors vary as in photographs (RGB only).

    ``usual_rate`` is the step of Adam that suits the numbers; ``images``: pictures that it learns
    from first (``fitted``), ``None`` where it learns from none.
    """

    decorrelate: bool
    images: Any = None
    usual_rate: ClassVar[float] = 0.05

    @abc.abstractmethod
    def random(self, channels: int, size: Size, generators: Sequence[torch.Generator]) -> Tensor:
        """Numbers for one picture from each generator."""

    @abc.abstractmethod
    def waves(self, state: Tensor, full: Size, size: Size) -> Tensor:
        """The numbers as values ``(N, C, *size)`` before colors and the squeeze into 0…1."""

    @abc.abstractmethod
    def from_values(self, values: Tensor) -> Tensor:
        """The numbers that give these values at full size."""

    def fitted(self, pictures: Iterable[Tensor]) -> Param:
        """The same after a look at pictures 0…1 ``(N, C, H, W)`` of the size wanted."""
        return self

    @abc.abstractmethod
    def describe(self, channels: int) -> str:
        """What is adjusted, in words."""

    def image(self, state: Tensor, full: Size, size: Size | None = None) -> Tensor:
        """The pictures, 0…1; at a smaller ``size`` the same without its finest detail."""
        values = self.waves(state, full, size or full)
        if self.decorrelate and values.shape[1] == 3:
            values = _mixed(values, _MIX)
        return values.sigmoid()

    def of_picture(self, picture: Tensor) -> Tensor:
        """The numbers of given pictures."""
        return self.from_values(self.values(picture))

    def values(self, picture: Tensor) -> Tensor:
        """Before the squeeze and the colors; what is nearly black or white is kept in reach."""
        values = picture.clamp(0.01, 0.99).logit()
        if self.decorrelate and values.shape[1] == 3:
            values = _mixed(values, _UNMIX)
        return values


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
    usual_rate: ClassVar[float] = 0.1

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
        color = ", colors decorrelated (ImageNet's)" if self.decorrelate and channels == 3 else ""
        return f"Fourier waves{color}, sigmoid"


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


@dataclass(frozen=True, eq=False)
class MaCo(Param):
    """Phases alone: every wave keeps the mean magnitude that it has in given ``images``.

    So a picture cannot gather what no photograph has (MaCo: Fel et al., NeurIPS 2023,
    arXiv:2306.06805; there the spectrum is ImageNet's, here that of the user's own pictures).
    """

    images: Any
    decorrelate: bool = True
    magnitude: Tensor | None = None
    mean: Tensor | None = None
    count: int = 0
    usual_rate: ClassVar[float] = 0.2

    def fitted(self, pictures: Iterable[Tensor]) -> MaCo:
        total, mean, count = None, None, 0
        for some in pictures:
            spectrum = torch.fft.rfft2(self.values(some))
            parts = (spectrum.abs(), spectrum[..., 0, 0].real)
            sums = tuple(part.sum(0).cpu().double() for part in parts)
            total, mean = sums if total is None else (total + sums[0], mean + sums[1])
            count += len(some)
        if total is None or mean is None:
            raise UsageError("MaCo takes its spectrum from pictures, and was given none")
        magnitude = (total / count).float()
        magnitude[..., 0, 0] = 0  # the mean color has no phase
        return MaCo(self.images, self.decorrelate, magnitude, (mean / count).float(), count)

    def random(self, channels: int, size: Size, generators: Sequence[torch.Generator]) -> Tensor:
        shape = (channels, size[0], size[1] // 2 + 1)
        drawn = [torch.rand(shape, generator=g, device=g.device) for g in generators]
        return 2 * pi * torch.stack(drawn) - pi

    def waves(self, state: Tensor, full: Size, size: Size) -> Tensor:
        if self.magnitude is None or self.mean is None:
            raise UsageError("MaCo has not seen its pictures yet: fitted(…)")
        magnitude, mean = self.magnitude.to(state.device), self.mean.to(state.device)
        if size != full:
            state, magnitude = _low(state, size), _low(magnitude[None], size)[0]
        area = full[0] * full[1]
        scale = size[0] * size[1] / area
        pictures: Tensor = torch.fft.irfft2(torch.polar(magnitude * scale, state), s=size)
        return pictures + (mean / area)[:, None, None]

    def from_values(self, values: Tensor) -> Tensor:
        phases: Tensor = torch.fft.rfft2(values).angle()
        return phases

    def describe(self, channels: int) -> str:
        return f"phases of waves, magnitudes of {self.count:,} given pictures (MaCo), sigmoid"


def parse_param(given: Param | str, images: Any = None) -> Param:
    """A parametrization by name, or as it is; ``maco`` takes its spectrum from ``images``."""
    if isinstance(given, Param):
        return given
    if given == "maco":
        if images is None:
            raise UsageError("maco takes the spectrum of your own pictures. Give them: images=…")
        return MaCo(images)
    named: dict[str, Param] = {"fourier": Fourier(), "pixels": Pixels()}
    if given not in named:
        known = [*named, "maco"]
        near = closest(given, known) or f" Known: {', '.join(known)}"
        raise UsageError(f"No parametrization {given!r}.{near}")
    return named[given]
