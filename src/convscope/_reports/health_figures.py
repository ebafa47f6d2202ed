"""The figures beside a finding: histograms, exemplars, scatter plots, means by class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from convscope._atlas import Atlas, Exemplar
from convscope._health import ClassStatistics, Finding, LayerStatistics
from convscope._plot.text import number
from convscope._reports import charts
from convscope._reports.markup import EMPTY, Html, figure, join, tag, thumbnail_tag
from convscope._similarity import spectrum

_BINS = 32
_MIN_FILLED_BINS = 4
_MAX_BARS = 12
_MAX_DOTS = 1500
_EXEMPLARS = 6


def finding_figures(finding: Finding, layer: LayerStatistics, atlas: Atlas) -> Html:
    """Return the figures that belong to a finding, side by side."""
    first = finding.channels[0] if finding.channels else 0
    figures: list[Html] = []
    if finding.kind == "redundant":
        figures = [explained_variance(layer)]
    elif finding.kind == "duplicate":
        row = finding.rows[0]
        figures = [
            scatter(layer, row["keep"], row["duplicates"][0]),
            _exemplar_rows(atlas, layer, [row["keep"], *row["duplicates"][:2]]),
        ]
    elif finding.kind == "selective":
        assert layer.classes is not None
        figures = [
            class_means(layer.classes, first, layer.path, finding.rows[0]["class"]),
            _exemplar_rows(atlas, layer, finding.channels[:3]),
        ]
    elif finding.kind != "not finite":
        figures = [value_histogram(layer, first)]
        if finding.kind in ("nearly dead", "always active", "saturated"):
            figures.append(_exemplar_rows(atlas, layer, finding.channels[:2]))
    return tag("div", figures, class_="row")


def value_histogram(layer: LayerStatistics, channel: int) -> Html:
    """Return the histogram of a channel's values, without exact zeros.

    Values that fill a few of the atlas's bins have no shape that the atlas could resolve; for them
    only the extremes and the mean are given.
    """
    extremes = ", ".join(
        f"{name} {number(float(values[channel]))}"
        for name, values in (
            ("minimum", layer.minimum),
            ("mean", layer.mean),
            ("maximum", layer.maximum),
        )
    )
    off_zero = layer.has_relu and not layer.minimum[channel] <= 0 <= layer.maximum[channel]
    if not off_zero and np.count_nonzero(layer.histogram[channel]) < _MIN_FILLED_BINS:
        return tag("p", f"{extremes[0].upper()}{extremes[1:]}.")
    edges, shares, zeros = rebin(layer, channel)
    name = f"{layer.path}:{channel}"
    marks = [(0.0, "0")] if layer.has_relu else []
    chart = charts.histogram(
        edges, shares, f"Values of {name}", x="value", y="% of positions", marks=marks
    )
    note = f" Exactly zero (not drawn): {_percent(zeros)} of positions." if zeros else ""
    return figure(
        chart, f"Values of `{name}` at sampled positions of all images: {extremes}.{note}"
    )


def rebin(
    layer: LayerStatistics, channel: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return edges of equal bins, the percentage in each, and the share of exact zeros.

    The atlas's bins are quarters of octaves; the count of one is spread evenly over it. Exact zeros
    are left out of the bins.
    """
    counts = layer.histogram[channel].astype(np.float64)
    total = counts.sum() or 1
    low, high = float(layer.minimum[channel]), float(layer.maximum[channel])
    ends = np.clip([layer.bin_low, layer.bin_high], low, high)
    exact = layer.bin_low == layer.bin_high
    zeros = float(counts[exact].sum() / total)
    counts = np.where(exact, 0, counts)
    edges = np.linspace(low, high if high > low else low + (abs(low) or 1) / 50, _BINS + 1)
    width = ends[1] - ends[0]
    narrow = width <= 1e-12
    overlap = np.minimum(ends[1], edges[1:, None]) - np.maximum(ends[0], edges[:-1, None])
    share = np.clip(overlap, 0, None) / np.maximum(width, 1e-12)
    share[:, narrow] = 0
    spread = share @ counts
    for k in np.flatnonzero(narrow & (counts > 0)):
        spread[min(int(np.searchsorted(edges, ends[0, k], "right")) - 1, _BINS - 1)] += counts[k]
    return edges, 100 * spread / total, zeros


def _percent(share: float) -> str:
    return "more than 99.9 %" if 0.999 < share < 1 else f"{100 * share:.1f} %"


def scatter(layer: LayerStatistics, one: int, other: int) -> Html:
    """Return two channels' means over the images, plotted against each other."""
    step = max(1, layer.pooled.shape[1] // _MAX_DOTS)
    a, b = (np.asarray(layer.pooled[k, ::step], np.float64) for k in (one, other))
    chart = charts.dots(
        a,
        b,
        f"Means of channel {other} against channel {one}",
        x=f"mean of channel {one}",
        y=f"mean of channel {other}",
    )
    return figure(chart, f"Each dot is one of {len(a):,} images.")


def class_means(classes: ClassStatistics, channel: int, path: str, highlighted: str) -> Html:
    """Return the mean of a channel by class, largest first."""
    means = classes.sums[:, channel] / np.maximum(classes.counts[:, channel], 1)
    order = np.argsort(-means, kind="stable")[:_MAX_BARS].tolist()
    rows = [(classes.names[k], float(means[k]), number(float(means[k]))) for k in order]
    strong = [row for row, k in enumerate(order) if classes.names[k] == highlighted]
    count = len(classes.names)
    note = "" if count <= _MAX_BARS else f" The {_MAX_BARS} largest of {count:,}."
    title = f"Mean of {path}:{channel} by class"
    chart = charts.bars(rows, title, x="mean activation", strong=strong)
    return figure(chart, f"Mean of `{path}:{channel}` over the images of each class.{note}")


def explained_variance(layer: LayerStatistics) -> Html:
    """Return the variance of the peaks that is explained by the first principal components."""
    shares = np.concatenate([[0], np.cumsum(spectrum(layer.rectified_peaks))])
    components = np.arange(len(shares))
    even = components / (len(shares) - 1)
    chart = charts.lines(
        [(layer.path[-24:], components, 100 * shares), ("equal shares", components, 100 * even)],
        f"Explained variance of {layer.path}",
        x="principal components",
        y="% of variance",
        low=0,
    )
    count = int(np.searchsorted(shares, 0.9))
    verb = "component explains" if count == 1 else "components explain"
    return figure(
        chart, f"{count} {verb} 90 % of the variance of the peaks of {layer.channels} channels."
    )


def _exemplar_rows(atlas: Atlas, layer: LayerStatistics, channels: Sequence[int]) -> Html:
    rows = [exemplars(atlas, f"{layer.path}:{channel}") for channel in channels]
    return tag("div", join(rows)) if any(rows) else EMPTY


def exemplars(atlas: Atlas, address: str) -> Html:
    """Return the images with the unit's highest peaks, cropped to the receptive field."""
    top = list(atlas.unit(address).top(by="peak"))[:_EXEMPLARS]
    shown = [_crop(one) for one in top if one.thumbnail() is not None]
    if not shown:
        return EMPTY
    return figure(tag("ul", shown, class_="crops"), f"Highest peaks of `{address}`.")


def _crop(exemplar: Exemplar) -> Html:
    image = exemplar.crop() or exemplar.thumbnail()
    assert image is not None
    score = number(exemplar.score)
    text = ", ".join(filter(None, [exemplar.id, exemplar.label, f"activation {score}"]))
    label = tag("small", exemplar.label) if exemplar.label else None
    return tag("li", thumbnail_tag(image, text), tag("small", score), label)
