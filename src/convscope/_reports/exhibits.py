"""The pictures beside a finding: histograms, exemplars, channels against each other, classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._atlas import Atlas, Exemplar
from convscope._health import ByClass, Evidence, Finding
from convscope._plot.text import number
from convscope._reports import charts
from convscope._reports.markup import Html, figure, image_tag, join, tag
from convscope._similarity import spectrum

_BINS = 32
_FEWEST_BINS = 4
_SIDE = 128  # of a crop, in pixels of the file
_SMALL = 48  # crops of fewer pixels are shown as pixels
_CLASSES = 12  # bars for more classes than this are left out


def values(layer: Evidence, channel: int) -> Html:
    """The distribution of a channel's values, exact zeros told apart.

    Values in a few of the atlas's bins have no shape that it knows of, only a distance from zero.
    """
    least, mean, most = (
        number(float(values_[channel])) for values_ in (layer.minimum, layer.mean, layer.maximum)
    )
    apart = layer.switches and not layer.minimum[channel] <= 0 <= layer.maximum[channel]
    if not apart and np.count_nonzero(layer.histogram[channel]) < _FEWEST_BINS:
        return tag("p", f"Lowest {least}, mean {mean}, highest {most}.")
    edges, shares, zeros = uniform(layer, channel)
    name = f"{layer.path}:{channel}"
    ends = f"Lowest {least}, mean {mean}, highest {most}."
    marks = [(0.0, "0")] if layer.switches else []
    chart = charts.histogram(
        edges, shares, f"Values of {name}", x="value", y="% of positions", marks=marks
    )
    exact = f" Exactly zero, and not drawn: {_share(zeros)} of positions." if zeros else ""
    return figure(chart, f"Values of `{name}` at sampled positions of all images. {ends}{exact}")


def uniform(
    layer: Evidence, channel: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Edges and per cent in even bins, and the share of exact zeros, which is left out.

    The atlas's bins are quarters of octaves; what is in one is spread evenly over it.
    """
    counts = layer.histogram[channel].astype(np.float64)
    total = counts.sum() or 1
    ends = np.clip([layer.low, layer.high], layer.minimum[channel], layer.maximum[channel])
    exact = layer.low == layer.high
    zeros = float(counts[exact].sum() / total)
    counts = np.where(exact, 0, counts)
    low, high = float(layer.minimum[channel]), float(layer.maximum[channel])
    edges = np.linspace(low, high if high > low else low + (abs(low) or 1) / 50, _BINS + 1)
    width = np.maximum(ends[1] - ends[0], 1e-12)
    overlap = np.minimum(ends[1], edges[1:, None]) - np.maximum(ends[0], edges[:-1, None])
    part = np.clip(overlap, 0, None) / width
    part[:, ends[1] - ends[0] <= 1e-12] = 0
    spread = part @ counts
    narrow = np.flatnonzero((ends[1] - ends[0] <= 1e-12) & (counts > 0))
    for k in narrow:
        spread[min(int(np.searchsorted(edges, ends[0, k], "right")) - 1, _BINS - 1)] += counts[k]
    return edges, 100 * spread / total, zeros


def _share(share: float) -> str:
    return "more than 99.9 %" if 0.999 < share < 1 else f"{100 * share:.1f} %"


def exemplars(atlas: Atlas, address: str, most: int = 6, by: str = "peak") -> Html:
    """The images that drive a unit highest, cut to what the position looks at."""
    shown = [one for one in list(atlas[address].top(by=by))[:most] if one.thumbnail() is not None]
    if not shown:
        return Html("")
    what = "Where it is highest" if by == "peak" else "The images with its highest mean"
    return figure(tag("ul", [_crop(one) for one in shown], class_="crops"), f"{what}: `{address}`.")


def _crop(one: Exemplar) -> Html:
    image = one.crop() or one.thumbnail()
    assert image is not None
    small = max(image.size) < _SMALL
    if not small:
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    words = ", ".join(filter(None, [one.id, one.label, f"activation {number(one.score)}"]))
    shown = image_tag(image, words, title=words, class_="pixels" if small else None)
    label = tag("small", one.label) if one.label else None
    return tag("li", shown, tag("small", number(one.score)), label)


def against(layer: Evidence, one: int, other: int) -> Html:
    """Two channels' means over the images, one against the other."""
    step = max(1, layer.pooled.shape[1] // 1500)
    a, b = (np.asarray(layer.pooled[k, ::step], np.float64) for k in (one, other))
    chart = charts.dots(
        a,
        b,
        f"Means of channel {other} against channel {one}",
        x=f"mean of channel {one}",
        y=f"mean of channel {other}",
    )
    return figure(chart, f"Each dot is one of {len(a):,} images.")


def classes(of: ByClass, channel: int, name: str, best: str) -> Html:
    """The mean of a channel by class; of many classes the highest."""
    means = of.sums[:, channel] / np.maximum(of.counts[:, channel], 1)
    order = np.argsort(-means, kind="stable")[:_CLASSES].tolist()
    rows = [(of.names[k], float(means[k]), number(float(means[k]))) for k in order]
    strong = [at for at, k in enumerate(order) if of.names[k] == best]
    left = "" if len(of.names) <= _CLASSES else f" The {_CLASSES} highest of {len(of.names):,}."
    chart = charts.bars(rows, f"Mean of {name} by class", x="mean activation", strong=strong)
    return figure(chart, f"Mean of `{name}` over the images of each class.{left}")


def directions(layer: Evidence) -> Html:
    """How much of the variance the first directions hold."""
    shares = np.concatenate([[0], np.cumsum(spectrum(layer.heights))])
    even = np.arange(len(shares)) / (len(shares) - 1)
    at = np.arange(len(shares))
    chart = charts.lines(
        [(layer.path[-24:], at, 100 * shares), ("if all held as much", at, 100 * even)],
        f"Variance of {layer.path} by directions",
        x="directions",
        y="% of variance",
        low=0,
    )
    half = int(np.searchsorted(shares, 0.9))
    hold = "direction holds" if half == 1 else "directions hold"
    return figure(chart, f"{half} {hold} 90 % of the variance of {layer.channels} channels' peaks.")


def beside(finding: Finding, layer: Evidence, atlas: Atlas | None) -> Html:
    """What stands beside a finding's sentence."""
    first = finding.channels[0] if finding.channels else 0
    shown: list[Html] = []
    if finding.kind == "redundant layer":
        shown = [directions(layer)]
    elif finding.kind == "duplicates":
        row = finding.rows[0]
        shown = [
            against(layer, row["keep"], row["others"][0]),
            _rows_of(atlas, layer, [row["keep"], *row["others"][:2]]),
        ]
    elif finding.kind == "selective":
        best = finding.rows[0]["class"]
        assert layer.by_class is not None
        shown = [
            classes(layer.by_class, first, f"{layer.path}:{first}", best),
            _rows_of(atlas, layer, list(finding.channels[:3])),
        ]
    elif finding.kind != "not finite":
        shown = [values(layer, first)]
        if finding.kind in ("nearly dead", "always on", "saturated"):
            shown.append(_rows_of(atlas, layer, list(finding.channels[:2])))
    return tag("div", shown, class_="row")


def _rows_of(atlas: Atlas | None, layer: Evidence, channels: Sequence[int]) -> Html:
    if atlas is None:
        return Html("")
    rows = [exemplars(atlas, f"{layer.path}:{channel}") for channel in channels]
    return tag("div", join(rows)) if any(rows) else Html("")
