"""The report on channel health: its page and its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope._atlas import Atlas, open_atlas
from convscope._errors import untrained_note
from convscope._health import KINDS, ChannelHealth, Finding, LayerStatistics, check_health
from convscope._health.findings import count_images
from convscope._health.similarity import ranks
from convscope._plot.text import number
from convscope._reports import charts
from convscope._reports.health_figures import finding_figures
from convscope._reports.markup import (
    Html,
    details,
    figure,
    format_text,
    join,
    meter,
    paragraphs,
    scrollable,
    table,
    tag,
)
from convscope._reports.page import Page, PageSection

_WITH_FIGURES = 8  # findings of a kind that come with figures; the rest are sentences
_MAX_ROWS = 60


@dataclass(frozen=True, eq=False)
class HealthReport:
    """A report on the health of a network's channels; ``.save("health.html")`` writes its page.

    Attributes:
        atlas: What a scan measured.
        health: The findings as objects, and the statistics they rest on.
    """

    atlas: Atlas
    health: ChannelHealth

    @property
    def findings(self) -> Sequence[Finding]:
        """The findings, ordered by kind and then by layer."""
        return self.health.findings

    def sentences(self) -> list[str]:
        """Return the main results.

        Returns:
            Two paragraphs: what was examined, and what was found.
        """
        return self.health.sentences()

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON.

        Returns:
            A dictionary of texts, numbers, lists and dictionaries.
        """
        return {
            "model": self.atlas.model,
            "dataset": self.atlas.dataset,
            **self.health.to_dict(),
        }

    def save(self, path: str | Path) -> Path:
        """Write the page, one self-contained HTML file.

        Args:
            path: The file to write.

        Returns:
            The path.
        """
        return self.page.save(path)

    @cached_property
    def page(self) -> Page:
        """The report as a page."""
        return _page(self.atlas, self.health)

    def _repr_html_(self) -> str:
        return self.page._repr_html_()


def report(atlas: Atlas | str | Path) -> HealthReport:
    """Report which channels of a network are dead, duplicate, redundant or class-selective.

    Reads what a scan wrote and runs no model. The effective rank is that of Roy and Vetterli
    (EUSIPCO 2007), the similarity of layers is linear CKA (Kornblith et al., ICML 2019).

    Args:
        atlas: An atlas, or the folder that ``scan`` wrote.

    Returns:
        The report: ``.findings``, ``.sentences()``, and ``.save("health.html")`` for its page.

    Raises:
        AtlasError: The folder holds no finished atlas.
    """
    opened = atlas if isinstance(atlas, Atlas) else open_atlas(atlas)
    return HealthReport(opened, check_health(opened))


def _page(atlas: Atlas, health: ChannelHealth) -> Page:
    layers = {layer.path: layer for layer in health.layers}
    found = {kind: health.of_kind(kind) for kind in KINDS}
    sections = [
        _layers_section(health),
        *(_kind_section(kind, some, layers, atlas) for kind, some in found.items() if some),
        *_similarity_section(health),
        _method_section(health),
    ]
    return Page(
        title=health.title(_short_name(atlas)),
        kicker="convscope · channel health",
        lead=health.sentences(),
        facts=_facts(atlas, health),
        sections=sections,
        summary=_tallies(health),
        footer=f"Made by `convscope report {atlas.folder}` from an atlas written by convscope "
        f"{atlas.manifest['version']}, without running a model.",
    )


def _short_name(atlas: Atlas) -> str:
    """The model's name without library, options and weights."""
    name = str(atlas.manifest["model"]["name"]).split(",")[0]
    return name.removeprefix("torchvision:").removeprefix("timm:").removeprefix("keras:")


def _facts(atlas: Atlas, health: ChannelHealth) -> list[tuple[str, str]]:
    model, paths = atlas.manifest["model"], [f"`{layer.path}`" for layer in health.layers]
    size = model.get("size")
    facts = [("Model", f"`{atlas.model}`"), ("Images", _describe_images(atlas))]
    if model.get("preprocess"):
        facts.append(("Preprocessing", str(model["preprocess"])))
    elif size:
        facts.append(("Input size", f"{size[1]}×{size[0]} pixels"))
    listed = ", ".join(paths) if len(paths) <= 6 else f"{len(paths)}, {paths[0]} to {paths[-1]}"
    facts.append(("Layers", listed))
    if model.get("untrained"):
        facts.append(("Warning", untrained_note(model["untrained"])))
    return facts


def _describe_images(atlas: Atlas) -> str:
    text = f"{atlas.images:,} of `{atlas.dataset}`"
    if atlas.labeled:
        text += f", in {len(atlas.classes):,} classes"
    if atlas.skipped:
        text += f"; {len(atlas.skipped):,} could not be read and were skipped"
    return text


def _tallies(health: ChannelHealth) -> Html:
    """The number of findings of each kind, as links to their sections."""
    items = [
        _tally(kind, count, any(health.can_assess(layer, kind) for layer in health.layers))
        for kind, count in health.counts().items()
        if count or kind not in ("not finite", "constant", "saturated")
    ]
    return tag("ul", items, class_="tallies", aria_label="Number of each kind")


def _tally(kind: str, count: int, assessed: bool) -> Html:
    name = KINDS[kind].title.lower()
    if count:
        content = [tag("b", f"{count:,}"), tag("small", name)]
        return tag("li", tag("a", content, href=f"#{_anchor(kind)}"))
    number_, note = ("0", name) if assessed else ("–", f"{name}, not assessed")
    return tag("li", tag("span", tag("b", number_), tag("small", note), class_="none"))


def _anchor(kind: str) -> str:
    return kind.replace(" ", "-")


def _layers_section(health: ChannelHealth) -> PageSection:
    found = [kind for kind in KINDS if kind != "redundant" and health.of_kind(kind)]
    kinds = list(dict.fromkeys(["dead", *found]))
    titles = [KINDS[kind].title.lower() for kind in kinds]
    columns = ["layer", "channels", *titles, "effective rank", "kind"]
    rows = [_layer_row(layer, health, kinds) for layer in health.layers]
    text = paragraphs(
        "Effective rank: the peaks of the layer's channels vary from image to image like those of "
        "this number of independent channels. The bar is its share of the effective rank that "
        "independent channels would have on the same number of images. A dash: not assessed."
    )
    numeric = range(1, len(columns) - 2)
    element = table(columns, rows, "Number of channels of each kind by layer", numeric=numeric)
    return PageSection("layers", "By layer", join([text, element]))


def _layer_row(layer: LayerStatistics, health: ChannelHealth, kinds: Sequence[str]) -> list[Any]:
    cells: list[Any] = [tag("code", layer.path), f"{layer.channels:,}"]
    for kind in kinds:
        count = sum(one.count for one in health.of_kind(kind) if one.layer == layer.path)
        style = "n some" if count and KINDS[kind].is_defect else "n" if count else "n zero"
        text = f"{count:,}" if health.can_assess(layer, kind) else "–"
        cells.append(tag("td", text, class_=style))
    rank = ranks(layer)
    share = meter(rank[0] / rank[1], f"{number(rank[0])} of {layer.channels:,}") if rank else "–"
    size = "×".join(map(str, layer.size))
    return [*cells, share, f"{layer.kind} {size}".strip()]


def _kind_section(
    kind: str, findings: Sequence[Finding], layers: dict[str, LayerStatistics], atlas: Atlas
) -> PageSection:
    shown, rest = findings[:_WITH_FIGURES], findings[_WITH_FIGURES:]
    cards = [_card(one, finding_figures(one, layers[one.layer], atlas)) for one in shown]
    if rest:
        cards.append(details(f"{len(rest)} more layers", *(_card(one) for one in rest)))
    definition = paragraphs(KINDS[kind].definition, class_="soft")
    advice = tag("p", findings[0].advice, class_="advice")
    return PageSection(_anchor(kind), KINDS[kind].title, join([definition, advice, cards]))


def _card(finding: Finding, figures: Html | None = None) -> Html:
    heading = tag("p" if figures is None else "h3", format_text(finding.sentence))
    return tag("article", heading, figures, _rows(finding), class_="card")


def _rows(finding: Finding) -> Html | None:
    """The numbers of every channel or group, folded; none where there is a single channel."""
    if len(finding.rows) < 2 and finding.kind != "duplicate":
        return None
    columns = list(finding.rows[0])
    rows = [[_cell(row[key]) for key in columns] for row in finding.rows[:_MAX_ROWS]]
    noun = "group" if finding.kind == "duplicate" else "channel"
    title = f"Numbers of {len(finding.rows):,} {noun}{'s' * (len(finding.rows) != 1)}"
    if len(finding.rows) > _MAX_ROWS:
        title += f" (the first {_MAX_ROWS}; all are in --json)"
    numeric = [k for k, key in enumerate(columns) if key != "class"]
    return details(title, table(columns, rows, f"{finding.layer}: {title}", numeric=numeric))


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    if isinstance(value, int):
        return f"{value:,}"
    return number(value) if isinstance(value, float) else str(value)


def _similarity_section(health: ChannelHealth) -> list[PageSection]:
    cka, names = health.cka, [layer.path for layer in health.layers]
    if cka is None:
        return []
    heat_map = charts.heat_map(cka, names, "CKA between all layers")
    shown = figure(
        scrollable(heat_map, "CKA between all layers"),
        "Linear CKA, debiased, of means over the map: from 0 (dark), unrelated, to 1 (bright), "
        "equal up to a rotation. Hatched: a layer that does not vary.",
    )
    text = paragraphs(
        "Two layers are similar where they tell the same images apart, whatever their channels are "
        "(Kornblith et al., 2019). " + _largest_changes(cka, names)
    )
    title = "Similarity of layers"
    return [PageSection("similarity", title, join([text, shown]))]


def _largest_changes(cka: NDArray[np.float64], names: Sequence[str]) -> str:
    """Between which consecutive layers the similarity is lowest and highest."""
    steps = np.diag(cka, 1)
    finite = np.flatnonzero(np.isfinite(steps))
    if len(finite) < 2:
        return ""
    low, high = (int(finite[pick(steps[finite])]) for pick in (np.argmin, np.argmax))
    return (
        f"Of consecutive layers, `{names[low]}` and `{names[low + 1]}` differ most "
        f"(CKA {steps[low]:.2f}), `{names[high]}` and `{names[high + 1]}` least "
        f"({steps[high]:.2f})."
    )


def _method_section(health: ChannelHealth) -> PageSection:
    rows = [[kind.title, kind.definition] for kind in KINDS.values()]
    definitions = table(["kind", "definition"], rows, "Kinds and thresholds")
    missing = health.not_assessed()
    gaps = [
        tag("h3", "Not assessed"),
        tag("ul", [tag("li", format_text(text)) for text in missing]),
    ]
    sample = health.layers[0].pooled.shape[1]
    which = "all images" if sample >= health.images else f"{sample:,} images drawn at random"
    text = paragraphs(
        f"Counts and extremes are exact, over every position of {count_images(health.images)}. "
        "Correlations are of means over the map and of its peaks, ranks of peaks, and CKA of "
        f"means, on {which}. All results hold for these images; on others they may differ."
    )
    content = join([text, definitions, gaps if missing else None])
    return PageSection("method", "Method", content)
