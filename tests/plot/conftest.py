from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture
def maps() -> NDArray[np.float32]:
    """Six maps of 10×14: live, live, dead, constant, with a NaN, with both infinities."""
    values = np.random.default_rng(0).normal(size=(6, 10, 14)).astype(np.float32)
    values[2] = 0
    values[3] = 0.31
    values[4, 2, 3] = np.nan
    values[5, 0, 0], values[5, 9, 13] = np.inf, -np.inf
    return values
