"""A grid of 128 maps of 112×112 as a PNG: convscope, and what tutorials write by hand.

python benchmarks/render.py
"""

from __future__ import annotations

import io

import numpy as np
from timing import compare, table

from convscope.figures import map_sheet

VALUES = np.random.default_rng(0).normal(size=(128, 112, 112)).astype(np.float32)


def convscope() -> bytes:
    return map_sheet(VALUES, "layer · Conv2d 128×112×112", ["model", "input"])._repr_png_()


def subplots() -> bytes:
    """Forty lines of tutorial, at the usual size."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(8, 16, figsize=(20, 10))
    for axis, one in zip(axes.flat, VALUES, strict=True):
        axis.imshow(one, cmap="viridis")
        axis.axis("off")
    stream = io.BytesIO()
    figure.savefig(stream, dpi=100)
    plt.close(figure)
    return stream.getvalue()


if __name__ == "__main__":
    import matplotlib as mpl

    mpl.use("Agg")
    medians = compare({"convscope": convscope, "plt.subplots by hand": subplots}, rounds=7)
    table("128 maps of 112×112, viridis, to PNG bytes", medians, "convscope")
    print(f"  convscope: {len(convscope()) / 1e6:.2f} MB; budget 60 ms and 40 ×")
