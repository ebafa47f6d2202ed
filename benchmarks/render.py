"""A grid of 128 maps of 112×112 as a PNG: convscope, and what tutorials write by hand.

python benchmarks/render.py
"""

from __future__ import annotations

import io

import numpy as np
from timing import Budget, Pair, Setting, beside, compare, table

from convscope._plot import map_sheet

VALUES = np.random.default_rng(0).normal(size=(128, 112, 112)).astype(np.float32)
PEERS = ("by hand",)


def convscope() -> bytes:
    return map_sheet(VALUES, "layer · Conv2d 128×112×112", ["model", "input"])._repr_png_()


def subplots() -> bytes:
    """Forty lines of tutorial, at the usual size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(8, 16, figsize=(20, 10))
    for axis, one in zip(axes.flat, VALUES, strict=True):
        axis.imshow(one, cmap="viridis")
        axis.axis("off")
    stream = io.BytesIO()
    figure.savefig(stream, dpi=100)
    plt.close(figure)
    return stream.getvalue()


def pasted() -> bytes:
    """A grid put together in numpy, colored by matplotlib's table, saved by Pillow."""
    from matplotlib import colormaps
    from PIL import Image

    low = VALUES.min((1, 2), keepdims=True)
    scaled = (VALUES - low) / (VALUES.max((1, 2), keepdims=True) - low)
    grid = scaled.reshape(8, 16, 112, 112).swapaxes(1, 2).reshape(8 * 112, 16 * 112)
    stream = io.BytesIO()
    Image.fromarray(colormaps["viridis"](grid, bytes=True)[..., :3]).save(stream, "png")
    return stream.getvalue()


def pairs(_peer: str, setting: Setting) -> list[Pair]:
    work = "128 maps of 112×112, viridis, to PNG bytes"
    ways = {
        "plt.subplots": (subplots, "shrinks every map"),
        "numpy, a color table and Pillow": (pasted, "no titles, legend or dead channels"),
    }
    return [
        beside(work, name, setting, {"ours": convscope}, lambda way=way: way, remark)
        for name, (way, remark) in ways.items()
    ]


def budgets(setting: Setting) -> list[Budget]:
    found = compare({"ours": convscope, "theirs": subplots}, setting.rounds)
    work = "grid of 128 maps of 112×112 to PNG"
    return [
        Budget(work, 1000 * found["ours"], 60, "CPU ms"),
        Budget("… beside plt.subplots", found["theirs"] / found["ours"], 40, "×", least=True),
    ]


def main() -> None:
    runs = {"convscope": convscope, "plt.subplots": subplots, "pasted by hand": pasted}
    table("128 maps of 112×112, viridis, to PNG bytes", compare(runs, rounds=7), "convscope")
    print(f"  convscope: {len(convscope()) / 1e6:.2f} MB; budget 60 ms and 40 ×")


if __name__ == "__main__":
    main()
