"""Whether weights look as an initialization left them. Cheap: a few numbers of each kernel."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

FRESH_NORMS = "its batch normalizations have never seen a batch"
_SAMPLE = 4096


def untrained_kernels(kernels: Sequence[tuple[Tensor, Tensor | None]]) -> str:
    """Why kernels and their biases look untrained; empty where they do not.

    The default initialization of torch is uniform within ±1/√fan-in, which no training keeps; the
    usual others set every bias to zero. Ends at the first kernel that looks trained.
    """
    biases = [bias for _, bias in kernels if bias is not None]
    if biases and not any(bool(bias.detach().any()) for bias in biases):
        return "all its biases are exactly zero"
    large = [weight for weight, _ in kernels if weight.numel() >= 400]
    if large and all(_is_uniform(weight) for weight in large):
        return "its kernels are uniform random numbers"
    return ""


def _is_uniform(kernel: Tensor) -> bool:
    """A uniform distribution has kurtosis 1.8 and fills its range; trained kernels have peaks."""
    flat = kernel.detach().flatten()
    values = flat[:: max(1, len(flat) // _SAMPLE)].float()
    centered = values - values.mean()
    variance = centered.pow(2).mean()
    kurtosis = float(centered.pow(4).mean() / variance.pow(2).clamp_min(1e-30))
    reach = float(values.abs().max() / (variance.sqrt() * 3**0.5).clamp_min(1e-30))
    return abs(kurtosis - 1.8) < 0.25 and reach < 1.08
