"""Class selectivity of channels as an effect size, which does not grow with the sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def effect_sizes(counts: ArrayLike, sums: ArrayLike, squares: ArrayLike) -> NDArray[np.float64]:
    """Hedges' g of every class against all others (Hedges, J. Educ. Stat. 1981).

    The difference of the means in units of the pooled standard deviation within both groups
    (Cohen's d), times 1 − 3 / (4(n − 2) − 1), which corrects the bias of small samples.

    Args:
        counts: Number of images of each class, ``(classes,)`` or ``(classes, channels)``.
        sums: Σx over the images of each class, ``(classes, channels)``.
        squares: Σx² over all images, ``(channels,)``.

    Returns:
        float64 ``(classes, channels)``, in standard deviations. +∞ or −∞ where the groups differ
        and neither varies; NaN for a class with fewer than two images inside or outside.
    """
    n, total = np.asarray(counts, np.float64), np.asarray(sums, np.float64)
    n = n[:, None] if n.ndim == 1 else n
    rest, power = n.sum(0) - n, np.asarray(squares, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = total / n - (total.sum(0) - total) / rest
        between = difference**2 * n * rest / (n + rest)
        within = power - total.sum(0) ** 2 / n.sum(0) - between
        within = np.where(within > 1e-12 * power, within, 0.0)  # else rounding
        d = difference / np.sqrt(within / (n + rest - 2))
        flat = np.abs(difference) <= 1e-6 * np.sqrt(power / n.sum(0))  # the root of that rounding
        g = np.where(flat, 0.0, d) * (1 - 3 / (4 * (n + rest - 2) - 1))
    return np.where((n >= 2) & (rest >= 2), g, np.nan)
