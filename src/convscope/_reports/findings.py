"""The report on a network's channels: its page, its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from convscope._atlas import Atlas, open_atlas
from convscope._health import KINDS, REMARKS, Evidence, Examination, Finding, examine
from convscope._health.classes import ENOUGH as ENOUGH_OF_A_CLASS
from convscope._health.examination import concerned
from convscope._health.likeness import ENOUGH_IMAGES, ranks
from convscope._health.switches import images_of
from convscope._plot.text import number
from convscope._reports import charts, exhibits
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
from convscope._reports.words import MEANINGS, lead, short_name, title

_ILLUSTRATED = 8  # findings of a kind that come with pictures; the rest are sentences
_LISTED = 60  # rows of a table of channels


@dataclass(frozen=True, eq=False)
class Report:
    """What an atlas says of a network's channels; ``.save("findings.html")`` writes the page.

    ``examination`` holds the findings as objects, ``to_dict()`` everything for JSON.
    """

    atlas: Atlas
    examination: Examination

    @property
    def findings(self) -> Sequence[Finding]:
        return self.examination.findings

    def sentences(self) -> list[str]:
        """What was found, in a few sentences."""
        return lead(self.examination)

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        model, data = self.atlas.model, self.atlas.dataset
        return {"model": model, "dataset": data, **self.examination.to_dict()}

    def save(self, path: str | Path) -> Path:
        """Write the page: one HTML file that needs nothing else."""
        return self.page.save(path)

    @cached_property
    def page(self) -> Page:
        """The page."""
        return _page(self.atlas, self.examination)

    def _repr_html_(self) -> str:
        return self.page._repr_html_()


def report(atlas: Atlas | str | Path) -> Report:
    """Examine an atlas, or the folder of one: which channels are dead, redundant, selective?

    Raises ``AtlasError`` where there is no finished atlas.
    """
    opened = atlas if isinstance(atlas, Atlas) else open_atlas(atlas)
    return Report(opened, examine(opened))


def _page(atlas: Atlas, found: Examination) -> Page:
    sections = [_layers(found)]
    by_path = {layer.path: layer for layer in found.layers}
    sections += [_part(kind, found.of(kind), by_path, atlas) for kind in KINDS if found.of(kind)]
    alike = _alignment(found)
    sections += [*([alike] if alike else []), _method(found)]
    return Page(
        title=title(found, short_name(atlas)),
        kicker="convscope · findings",
        lead=lead(found),
        facts=_facts(atlas, found),
        sections=sections,
        summary=_tallies(found),
        footer=f"Made by `convscope report {atlas.folder}` from an atlas that convscope "
        f"{atlas.manifest['version']} wrote. No model was run for it.",
    )


def _facts(atlas: Atlas, found: Examination) -> list[tuple[str, str]]:
    model = atlas.manifest["model"]
    size = model.get("size")
    facts = [("Model", f"`{atlas.model}`"), ("Images", _images(atlas))]
    if model.get("preprocess"):
        facts.append(("As the model sees them", str(model["preprocess"])))
    elif size:
        facts.append(("As the model sees them", f"{size[1]}×{size[0]} pixels"))
    facts.append(
        (
            "Layers",
            ", ".join(f"`{layer.path}`" for layer in found.layers)
            if len(found.layers) <= 6
            else _ends(found.layers),
        )
    )
    if model.get("untrained"):
        facts.append(("Beware", f"this network looks untrained: {model['untrained']}"))
    return facts


def _images(atlas: Atlas) -> str:
    text = f"{atlas.images:,} of `{atlas.dataset}`"
    if atlas.labeled:
        text += f", in {len(atlas.classes):,} classes"
    if atlas.skipped:
        text += f"; {len(atlas.skipped):,} could not be read and were left out"
    return text


def _ends(layers: Sequence[Evidence]) -> str:
    return f"{len(layers)}, from `{layers[0].path}` to `{layers[-1].path}`"


def _tallies(found: Examination) -> Html:
    shown = [
        _tally(kind, count, any(_judged(layer, kind) for layer in found.layers))
        for kind, count in found.counts().items()
        if count or kind not in ("not finite", "constant", "saturated")
    ]
    return tag("ul", shown, class_="tallies", aria_label="How many of each kind")


def _tally(kind: str, count: int, judged: bool) -> Html:
    name = KINDS[kind].lower()
    if not count:
        inside = [
            tag("b", "0" if judged else "–"),
            tag("small", name if judged else f"{name}, not judged"),
        ]
        return tag("li", tag("span", inside, class_="none"))
    inside = [tag("b", f"{count:,}"), tag("small", name)]
    return tag("li", tag("a", inside, href=f"#{_anchor(kind)}"))


def _anchor(kind: str) -> str:
    return kind.replace(" ", "-")


def _layers(found: Examination) -> PageSection:
    shown = [kind for kind in KINDS if kind != "redundant layer" and found.of(kind)]
    shown = list(dict.fromkeys(["dead", *shown]))
    heads = [
        "layer",
        "channels",
        *(KINDS[kind].lower() for kind in shown),
        "effective rank",
        "kind",
    ]
    rows = [_layer_row(layer, found, shown) for layer in found.layers]
    text = paragraphs(
        "Effective rank: from image to image, the peaks of the layer's channels vary like those of "
        "so many independent channels. The bar is its share of what independent channels would "
        "show on as many images. A dash: nothing that could be judged."
    )
    made = table(
        heads, rows, "Channels of each kind, layer by layer", numeric=range(1, len(heads) - 2)
    )
    return PageSection("layers", "Layer by layer", join([text, made]))


def _layer_row(layer: Evidence, found: Examination, kinds: Sequence[str]) -> list[Any]:
    cells: list[Any] = [tag("code", layer.path), f"{layer.channels:,}"]
    for kind in kinds:
        count = sum(concerned(one) for one in found.of(kind) if one.layer == layer.path)
        style = "n some" if count and kind not in REMARKS else "n" if count else "n zero"
        cells.append(tag("td", f"{count:,}" if _judged(layer, kind) else "–", class_=style))
    rank = ranks(layer)
    share = meter(rank[0] / rank[1], f"{number(rank[0])} of {layer.channels:,}") if rank else "–"
    size = "×".join(map(str, layer.size))
    return [*cells, share, f"{layer.kind} {size}".strip()]


def _judged(layer: Evidence, kind: str) -> bool:
    """Whether that layer could have shown a finding of that kind."""
    if kind in ("dead", "nearly dead", "always on"):
        return layer.switches
    if kind == "redundant layer":
        return ranks(layer) is not None
    if kind == "selective":
        of = layer.by_class
        return of is not None and bool((of.counts >= ENOUGH_OF_A_CLASS).any())
    if kind == "duplicates":
        return layer.twins is not None and layer.pooled.shape[1] >= ENOUGH_IMAGES
    return kind != "saturated" or layer.bounds is not None


def _part(
    kind: str, findings: Sequence[Finding], layers: dict[str, Evidence], atlas: Atlas
) -> PageSection:
    cards = [_as_dict(one, layers[one.layer], atlas) for one in findings[:_ILLUSTRATED]]
    rest = findings[_ILLUSTRATED:]
    more = [
        tag("div", tag("p", format_text(one.sentence)), _rows(one), class_="card") for one in rest
    ]
    folded_rest = details(f"{len(rest)} more layers", *more) if more else None
    advice = tag("p", findings[0].advice, class_="advice")
    intro = paragraphs(MEANINGS[kind], class_="soft")
    return PageSection(_anchor(kind), KINDS[kind], join([intro, advice, cards, folded_rest]))


def _as_dict(finding: Finding, layer: Evidence, atlas: Atlas) -> Html:
    return tag(
        "article",
        tag("h3", format_text(finding.sentence)),
        exhibits.beside(finding, layer, atlas),
        _rows(finding),
        class_="card",
    )


def _rows(finding: Finding) -> Html | None:
    """Every channel (group) with its numbers, behind a line where there are several."""
    if len(finding.rows) < 2 and finding.kind != "duplicates":
        return None
    heads = list(finding.rows[0])
    rows = [[_text(row[key]) for key in heads] for row in finding.rows[:_LISTED]]
    what = "groups" if finding.kind == "duplicates" else "channels"
    title = f"{len(finding.rows):,} {what if len(finding.rows) > 1 else what[:-1]}, with numbers"
    if len(finding.rows) > _LISTED:
        title += f" (the first {_LISTED}; all are in --json)"
    numeric = [k for k, key in enumerate(heads) if key != "class"]
    return details(title, table(heads, rows, f"{finding.layer}: {title}", numeric=numeric))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_text(one) for one in value)
    return (
        f"{value:,}"
        if isinstance(value, int)
        else number(value)
        if isinstance(value, float)
        else str(value)
    )


def _alignment(found: Examination) -> PageSection | None:
    table_ = found.alignment
    if table_ is None:
        return None
    names = [layer.path for layer in found.layers]
    chart = charts.heat_map(table_, names, "CKA between all layers")
    shown = figure(
        scrollable(chart, "CKA between all layers"),
        "Linear CKA, debiased: from 0 (dark), unrelated, to 1 (bright), alike but for a rotation. "
        "On means over the map. Hatched: a layer that does not vary.",
    )
    text = paragraphs(
        "Two layers are alike where they tell the same images apart, whatever their channels are "
        "(Kornblith et al., 2019). " + _neighbors(table_, names)
    )
    return PageSection(
        "likeness", "How alike the layers are", join([text, shown]), "Likeness of layers"
    )


def _neighbors(values: Any, names: Sequence[str]) -> str:
    steps = np.diag(values, 1)
    known = np.flatnonzero(np.isfinite(steps))
    if len(known) < 2:
        return ""
    least, most = (int(known[pick(steps[known])]) for pick in (np.argmin, np.argmax))
    return (
        f"From one line to the next, most changes between `{names[least]}` and "
        f"`{names[least + 1]}` (CKA {steps[least]:.2f}), least between `{names[most]}` and "
        f"`{names[most + 1]}` ({steps[most]:.2f})."
    )


def _method(found: Examination) -> PageSection:
    rows = [[KINDS[kind], MEANINGS[kind]] for kind in KINDS]
    made = table(["kind", "what counts as one"], rows, "Thresholds")
    left = found.unjudged()
    gaps = [tag("h3", "Not judged"), tag("ul", [tag("li", format_text(text)) for text in left])]
    sample = found.layers[0].pooled.shape[1]
    text = paragraphs(
        f"Counts and extremes are exact: of every position of all {images_of(found.images)}. "
        "Correlations are of means over the map and of its peaks, ranks of peaks, CKA of means, on "
        f"{'all of them' if sample >= found.images else f'{sample:,} of them, drawn at random'}. "
        "Everything is said of these images; on others it may be otherwise."
    )
    return PageSection("method", "How this was judged", join([text, made, gaps if left else None]))
