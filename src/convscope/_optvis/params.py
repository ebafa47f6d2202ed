"""Parametrizations: the numbers that are optimized, and how they become images."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import pi
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from convscope._atlas import Atlas
from convscope._data import DatasetLike
from convscope._errors import UsageError, closest
from convscope._images import ImagesLike

Size = tuple[int, int]  # height, width

ReferenceImages: TypeAlias = ImagesLike | DatasetLike | Atlas
"""Images, a dataset, or an atlas (which has activations and no whole images)."""

# How red, green and blue vary together in photographs (lucid's matrix: the square root of the
# color covariance of ImageNet), over its largest column norm.
with torch.inference_mode(False):  # whoever imports this may be in it, for good
    _COLOR = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    _CORRELATE = (_COLOR / _COLOR.norm(dim=0).max()).T.contiguous()
    _DECORRELATE = torch.linalg.inv(_CORRELATE)


class Param(abc.ABC):
    """How the optimized numbers (the state) become an image.

    Attributes:
        decorrelate: Whether colors vary together as in photographs (RGB only).
        images: Images whose statistics it is fitted to (``fitted``); ``None`` for none.
        default_learning_rate: The learning rate of Adam that suits the numbers.
    """

    decorrelate: bool
    images: ReferenceImages | None = None
    default_learning_rate: ClassVar[float] = 0.05

    @abc.abstractmethod
    def random(self, channels: int, size: Size, generators: Sequence[torch.Generator]) -> Tensor:
        """Return an initial state ``(N, …)``, one entry from each generator."""

    @abc.abstractmethod
    def decode(self, state: Tensor, full: Size, size: Size) -> Tensor:
        """Return values ``(N, C, *size)`` before color correlation and sigmoid.

        Args:
            state: The optimized numbers of images of size ``full``.
            full: Height and width that the state is made for.
            size: Height and width of the result; smaller than ``full`` drops the finest detail.
        """

    @abc.abstractmethod
    def encode(self, values: Tensor) -> Tensor:
        """Return the state that ``decode`` turns into these values ``(N, C, H, W)``."""

    def fitted(self, images: Iterable[Tensor]) -> Param:
        """Return a copy fitted to batches of images ``(N, C, H, W)``, 0…1, of the final size."""
        return self

    @abc.abstractmethod
    def describe(self, channels: int) -> str:
        """Return the parametrization in words, for images with this number of channels."""

    def to_image(self, state: Tensor, full: Size, size: Size | None = None) -> Tensor:
        """Return images ``(N, C, H, W)``, 0…1, of size ``full``, or smaller ones of ``size``."""
        values = self.decode(state, full, size or full)
        if self.decorrelate and values.shape[1] == 3:
            values = _mix_colors(values, _CORRELATE)
        return values.sigmoid()

    def from_image(self, image: Tensor) -> Tensor:
        """Return the state of given images ``(N, C, H, W)``, 0…1."""
        return self.encode(self.to_values(image))

    def to_values(self, image: Tensor) -> Tensor:
        """Undo sigmoid and color correlation, ``(N, C, H, W)``; black and white are clamped."""
        values = image.clamp(0.01, 0.99).logit()
        if self.decorrelate and values.shape[1] == 3:
            values = _mix_colors(values, _DECORRELATE)
        return values


def _mix_colors(values: Tensor, matrix: Tensor) -> Tensor:
    return F.conv2d(values, matrix.T[..., None, None].to(values.device))


@dataclass(frozen=True)
class Fourier(Param):
    """Optimize the Fourier coefficients of the image, low frequencies faster.

    Source: Olah, Mordvintsev and Schubert, Feature Visualization, Distill 2017.

    Args:
        decay: Coefficients are scaled by 1 / frequency^decay.
        std: Standard deviation of the initial noise of the coefficients.
        decorrelate: Whether colors vary together as in photographs (RGB only).
    """

    decay: float = 1.0
    std: float = 0.01
    decorrelate: bool = True
    default_learning_rate: ClassVar[float] = 0.1

    def random(self, channels: int, size: Size, generators: Sequence[torch.Generator]) -> Tensor:
        shape = (channels, size[0], size[1] // 2 + 1, 2)
        drawn = [torch.randn(shape, generator=g, device=g.device) for g in generators]
        return self.std * torch.stack(drawn)

    def decode(self, state: Tensor, full: Size, size: Size) -> Tensor:
        scale = _amplitudes(full, size, self.decay, state.device)
        if size != full:
            state = _low_frequencies(state, size)
        values: Tensor = torch.fft.irfft2(torch.view_as_complex(state * scale[..., None]), s=size)
        return values

    def encode(self, values: Tensor) -> Tensor:
        size = (values.shape[-2], values.shape[-1])
        spectrum = torch.view_as_real(torch.fft.rfft2(values))
        state: Tensor = spectrum / _amplitudes(size, size, self.decay, values.device)[..., None]
        return state

    def describe(self, channels: int) -> str:
        color = ", colors decorrelated (ImageNet's)" if self.decorrelate and channels == 3 else ""
        return f"Fourier coefficients{color}, sigmoid"


def _low_frequencies(state: Tensor, size: Size) -> Tensor:
    """Return the low frequencies, those that an image of ``size`` can hold."""
    rows = (size[0] + 1) // 2
    return torch.cat([state[:, :, :rows], state[:, :, -(size[0] // 2) :]], 2)[
        :, :, :, : size[1] // 2 + 1
    ]


@lru_cache(maxsize=16)
def _amplitudes(full: Size, size: Size, decay: float, device: torch.device) -> Tensor:
    """Return the scale of each coefficient: lucid's, with its factor of a quarter."""
    rows = torch.fft.fftfreq(size[0], device=device)[:, None] * size[0] / full[0]
    columns = torch.fft.rfftfreq(size[1], device=device)[None] * size[1] / full[1]
    frequency = torch.hypot(rows, columns).clamp_min(1 / max(full))
    area = size[0] * size[1] / (full[0] * full[1]) ** 0.5
    amplitudes: Tensor = area / (4 * frequency**decay)
    return amplitudes


@dataclass(frozen=True)
class Pixels(Param):
    """Optimize each pixel by itself.

    Args:
        std: Standard deviation of the initial noise, before the sigmoid.
        decorrelate: Whether colors vary together as in photographs (RGB only).
    """

    std: float = 0.05
    decorrelate: bool = False

    def random(self, channels: int, size: Size, generators: Sequence[torch.Generator]) -> Tensor:
        shape = (channels, *size)
        drawn = [torch.randn(shape, generator=g, device=g.device) for g in generators]
        return self.std * torch.stack(drawn)

    def decode(self, state: Tensor, full: Size, size: Size) -> Tensor:
        return state if size == full else F.adaptive_avg_pool2d(state, size)

    def encode(self, values: Tensor) -> Tensor:
        return values

    def describe(self, channels: int) -> str:
        return "pixels, sigmoid"


@dataclass(frozen=True, eq=False)
class MaCo(Param):
    """Optimize the phases of the Fourier coefficients; magnitudes are the mean of given images.

    This excludes the high-frequency noise that no photograph has.
    Source: MaCo, Fel et al., NeurIPS 2023, arXiv:2306.06805, with the magnitudes of ImageNet.

    Args:
        images: A dataset or images whose mean magnitude spectrum is used.
        decorrelate: Whether colors vary together as in photographs (RGB only).
        magnitude: Mean magnitudes ``(C, H, W // 2 + 1)``; set by ``fitted``.
        mean: Mean of each channel times the number of pixels ``(C,)``; set by ``fitted``.
        count: Number of images; set by ``fitted``.
    """

    images: ReferenceImages
    decorrelate: bool = True
    magnitude: Tensor | None = None
    mean: Tensor | None = None
    count: int = 0
    default_learning_rate: ClassVar[float] = 0.2

    def fitted(self, images: Iterable[Tensor]) -> MaCo:
        """Return a copy with the mean spectrum of batches of images ``(N, C, H, W)``, 0…1."""
        total, mean, count = None, None, 0
        for batch in images:
            spectrum = torch.fft.rfft2(self.to_values(batch))
            parts = (spectrum.abs(), spectrum[..., 0, 0].real)
            sums = tuple(part.sum(0).cpu().double() for part in parts)
            total, mean = sums if total is None else (total + sums[0], mean + sums[1])
            count += len(batch)
        if total is None or mean is None:
            raise UsageError("MaCo needs images to take the spectrum from, and got none")
        magnitude = (total / count).float()
        magnitude[..., 0, 0] = 0  # the mean color has no phase
        return MaCo(self.images, self.decorrelate, magnitude, (mean / count).float(), count)

    def random(self, channels: int, size: Size, generators: Sequence[torch.Generator]) -> Tensor:
        shape = (channels, size[0], size[1] // 2 + 1)
        drawn = [torch.rand(shape, generator=g, device=g.device) for g in generators]
        return 2 * pi * torch.stack(drawn) - pi

    def decode(self, state: Tensor, full: Size, size: Size) -> Tensor:
        if self.magnitude is None or self.mean is None:
            raise UsageError("MaCo is not fitted to images yet. Call param.fitted(…)")
        magnitude, mean = self.magnitude.to(state.device), self.mean.to(state.device)
        if size != full:
            state, magnitude = (
                _low_frequencies(state, size),
                _low_frequencies(magnitude[None], size)[0],
            )
        area = full[0] * full[1]
        scale = size[0] * size[1] / area
        values: Tensor = torch.fft.irfft2(torch.polar(magnitude * scale, state), s=size)
        return values + (mean / area)[:, None, None]

    def encode(self, values: Tensor) -> Tensor:
        phases: Tensor = torch.fft.rfft2(values).angle()
        return phases

    def describe(self, channels: int) -> str:
        return f"Fourier phases, mean magnitudes of {self.count:,} given images (MaCo), sigmoid"


def parse_param(param: Param | str, images: ReferenceImages | None = None) -> Param:
    """Return a parametrization by name; ``maco`` takes its spectrum from ``images``."""
    if isinstance(param, Param):
        return param
    if param == "maco":
        if images is None:
            raise UsageError("maco needs images to take the spectrum from. Give them: images=…")
        return MaCo(images)
    by_name: dict[str, Param] = {"fourier": Fourier(), "pixels": Pixels()}
    if param not in by_name:
        known = [*by_name, "maco"]
        near = closest(param, known) or f" Known: {', '.join(known)}"
        raise UsageError(f"No parametrization {param!r}.{near}")
    return by_name[param]
