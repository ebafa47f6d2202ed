"""How far a class stands out in a channel, as an effect size: it does not grow with the sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def effect_sizes(counts: ArrayLike, sums: ArrayLike, squares: ArrayLike) -> NDArray[np.float64]:
    """Hedges' g of every class against all others, in every channel: ``(classes, channels)``.

    - ``counts`` ``(classes,)``: images of each class
    - ``sums``, ``squares`` ``(classes, channels)``: Σx and Σx² over them

    The difference of the means in units of the deviation within both groups (Cohen's d), times
    1 − 3 / (4(n − 2) − 1), which takes off the bias of small samples (Hedges, J. Educ. Stat. 1981).
    +∞ or −∞ where the groups differ and neither varies at all; NaN for a class with fewer than two
    images inside or outside.
    """
    n = np.asarray(counts, np.float64)[:, None]
    inside, inside_squares = np.asarray(sums, np.float64), np.asarray(squares, np.float64)
    rest = n.sum() - n
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, other = inside / n, (inside.sum(0) - inside) / rest
        spread = _scatter(inside_squares, inside, n)
        spread += _scatter(inside_squares.sum(0) - inside_squares, inside.sum(0) - inside, rest)
        within = np.sqrt(spread / (n + rest - 2))
        difference = mean - other
        d = np.where(difference == 0, 0.0, difference / within)
        found = d * (1 - 3 / (4 * (n + rest - 2) - 1))
    return np.where((n >= 2) & (rest >= 2), found, np.nan)


def _scatter(
    squares: NDArray[np.float64], sums: NDArray[np.float64], n: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Σ(x − mean)², 0 where what is left is rounding."""
    found = squares - sums**2 / n
    return np.where(found > 1e-12 * squares, found, 0.0)
