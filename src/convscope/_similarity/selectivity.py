"""Class selectivity of channels as an effect size, which does not grow with the sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def effect_sizes(counts: ArrayLike, sums: ArrayLike, squares: ArrayLike) -> NDArray[np.float64]:
    """Hedges' g of every class against all others, in every channel: ``(classes, channels)``.

    - ``counts``: images of each class, ``(classes,)`` or ``(classes, channels)``
    - ``sums`` ``(classes, channels)``: Σx over them
    - ``squares`` ``(channels,)``: Σx² over all images

    The difference of the means in units of the deviation within both groups (Cohen's d), times
    1 − 3 / (4(n − 2) − 1), which takes off the bias of small samples (Hedges, J. Educ. Stat. 1981).
    What varies within the groups is what varies at all, less what varies between them.
    +∞ or −∞ where the groups differ and neither varies; NaN for a class with fewer than two images
    inside or outside.
    """
    n, total = np.asarray(counts, np.float64), np.asarray(sums, np.float64)
    n = n[:, None] if n.ndim == 1 else n
    rest, every = n.sum(0) - n, np.asarray(squares, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = total / n - (total.sum(0) - total) / rest
        whole = every - total.sum(0) ** 2 / n.sum(0)
        between = difference**2 * n * rest / (n + rest)
        within = np.where(whole - between > 1e-12 * every, whole - between, 0.0)  # else rounding
        d = difference / np.sqrt(within / (n + rest - 2))
        flat = np.abs(difference) <= 1e-6 * np.sqrt(every / n.sum(0))  # the root of that rounding
        found = np.where(flat, 0.0, d) * (1 - 3 / (4 * (n + rest - 2) - 1))
    return np.where((n >= 2) & (rest >= 2), found, np.nan)
