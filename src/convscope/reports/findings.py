"""The report on a network's channels: its page, its JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from convscope.atlas import Atlas, open_atlas
from convscope.figures.text import number
from convscope.findings import KINDS, REMARKS, Evidence, Examination, Finding, examine
from convscope.findings import classes as of_classes
from convscope.findings.examination import FEW_IMAGES, concerned
from convscope.findings.likeness import CORRELATED, COSINE, ENOUGH_IMAGES, REDUNDANT, ranks
from convscope.findings.switches import NEARLY, OUTER, SATURATED
from convscope.reports import charts, exhibits
from convscope.reports.markup import Html, join, rich, tag
from convscope.reports.page import Page, Part, figure, folded, meter, paragraphs, scrolling, table

_ILLUSTRATED = 8  # findings of a kind that come with pictures; the rest are sentences
_LISTED = 60  # rows of a table of channels

MEANINGS = {
    "not finite": "Channels with a value that is NaN or infinite.",
    "dead": "Channels that are above zero at no position of any image, where a ReLU keeps only "
    "what is.",
    "nearly dead": f"Above zero at one position in {1 / NEARLY:,.0f} or fewer.",
    "constant": "Channels that have one value everywhere.",
    "saturated": f"Channels of a bounded function with {SATURATED:.0%} or more of their positions "
    f"in the outer {'eighth' if OUTER == 1 / 8 else OUTER} of its range.",
    "duplicates": f"Channels whose means over the map correlate by {CORRELATED} or more across "
    f"images, and whose filters have a cosine of {COSINE} or more. Each group is named by the "
    "channel that varies most: the one to keep.",
    "redundant layer": f"Layers whose effective rank (Roy and Vetterli, 2007) is {REDUNDANT:.0%} "
    "or less of what as many independent channels would show on so many images.",
    "always on": f"Channels that are at or below zero at one position in {1 / NEARLY:,.0f} or "
    "fewer. Common, and no defect.",
    "selective": f"Channels whose mean on one class lies {of_classes.SELECTIVE:g} or more standard "
    "deviations (Hedges' g) above all other images. Expected in the last layers of a classifier.",
}


@dataclass(frozen=True, eq=False)
class Report:
    """What an atlas says of a network's channels; ``.save("findings.html")`` writes the page.

    ``examination`` holds the findings as objects, ``card()`` everything for JSON.
    """

    atlas: Atlas
    examination: Examination

    @property
    def findings(self) -> Sequence[Finding]:
        return self.examination.findings

    def sentences(self) -> list[str]:
        """What was found, in a few sentences."""
        return _lead(self.examination)

    def card(self) -> dict[str, Any]:
        """Everything, for JSON."""
        model, data = self.atlas.model, self.atlas.dataset
        return {"model": model, "dataset": data, **self.examination.card()}

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
    parts = [_layers(found)]
    by_path = {layer.path: layer for layer in found.layers}
    parts += [_part(kind, found.of(kind), by_path, atlas) for kind in KINDS if found.of(kind)]
    alike = _alignment(found)
    parts += [*([alike] if alike else []), _method(found)]
    return Page(
        title=_title(found, _short(atlas)), kicker="convscope · findings", lead=_lead(found),
        facts=_facts(atlas, found), parts=parts, summary=_tallies(found),
        foot=f"Made by `convscope report {atlas.folder}` from an atlas that convscope "
        f"{atlas.manifest['version']} wrote. No model was run for it.",
    )  # fmt: skip


def _title(found: Examination, model: str) -> str:
    defects = [finding for finding in found.findings if not finding.remark]
    channels = sum(concerned(f) for f in defects if f.kind != "redundant layer")
    if channels:
        verb = "deserves" if channels == 1 else "deserve"
        return f"{channels:,} of {found.channels:,} channels of {model} {verb} a look"
    if defects:
        layers = "One layer" if len(defects) == 1 else f"{len(defects)} layers"
        return f"{layers} of {model} could do with fewer channels"
    return f"No fault found in the channels of {model}"


def _short(atlas: Atlas) -> str:
    """The model's name without library, options and weights."""
    name = str(atlas.manifest["model"]["name"]).split(",")[0]
    return name.removeprefix("torchvision:").removeprefix("timm:").removeprefix("keras:")


def _lead(found: Examination) -> list[str]:
    counts = found.counts()
    layers = f"{len(found.layers)} layer{'s' * (len(found.layers) != 1)}"
    first = f"{found.channels:,} channels in {layers} were watched on {found.images:,} images."
    if found.images < FEW_IMAGES:
        first += " That is few: what is off here may be on elsewhere."
    there = [kind for kind in KINDS if counts[kind]]
    faults = _once([_counted(kind, counts[kind]) for kind in there if kind not in REMARKS])
    remarks = _once([_counted(kind, counts[kind]) for kind in there if kind in REMARKS])
    absent, judged = _absent(found), sum(layer.switches for layer in found.layers)
    said = [
        f"{_listed(faults)}." if faults else "",
        f"No channel is {_listed(absent, 'or')}." if absent else "",
        f"Worth knowing, and no defect: {_listed(remarks)}." if remarks else "",
        f"Whether channels are dead or always on can be told in {judged or 'none'} of the {layers}:"
        " elsewhere no ReLU follows directly." if judged < len(found.layers) else "",
    ]  # fmt: skip
    return [first, " ".join(filter(None, said))]


def _once(said: list[str]) -> list[str]:
    """What is counted are channels; that needs no saying twice."""
    return said[:1] + [re.sub(" channels? ", " ", text, count=1) for text in said[1:]]


def _absent(found: Examination) -> list[str]:
    """What was looked for in some layer and not found in any."""
    counts = found.counts()
    switching = any(layer.switches for layer in found.layers)
    compared = any(layer.twins is not None and layer.pooled.shape[1] >= ENOUGH_IMAGES
                   for layer in found.layers)  # fmt: skip
    looked = {
        "dead": switching, "nearly dead": switching, "constant": True,
        "saturated": any(layer.bounds is not None for layer in found.layers),
        "duplicates": compared,
    }  # fmt: skip
    names = {"duplicates": "a duplicate of another"}
    return [names.get(kind, kind) for kind, so in looked.items() if so and not counts[kind]]


def _counted(kind: str, count: int) -> str:
    verb = "channel is" if count == 1 else "channels are"
    one = count == 1
    texts = {
        "duplicates": f"{count:,} {'channel repeats another' if one else 'channels repeat others'}",
        "redundant layer": f"{count:,} {'layer says' if one else 'layers say'} far less than "
        f"{'its' if one else 'their'} number of channels",
        "selective": f"{count:,} {'channel answers' if one else 'channels answer'} to one class",
    }
    return texts.get(kind, f"{count:,} {verb} {kind}")


def _listed(words: list[str], last: str = "and") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def _facts(atlas: Atlas, found: Examination) -> list[tuple[str, str]]:
    model = atlas.manifest["model"]
    size = model.get("size")
    facts = [("Model", f"`{atlas.model}`"), ("Images", _images(atlas))]
    if model.get("preprocess"):
        facts.append(("As the model sees them", str(model["preprocess"])))
    elif size:
        facts.append(("As the model sees them", f"{size[1]}×{size[0]} pixels"))
    facts.append(("Layers", ", ".join(f"`{layer.path}`" for layer in found.layers)
                  if len(found.layers) <= 6 else _ends(found.layers)))  # fmt: skip
    if model.get("untrained"):
        facts.append(("Beware", f"this network looks untrained: {model['untrained']}"))
    return facts


def _images(atlas: Atlas) -> str:
    text = f"{atlas.images:,} of `{atlas.dataset}`"
    if atlas.labelled:
        text += f", in {len(atlas.classes):,} classes"
    if atlas.skipped:
        text += f"; {len(atlas.skipped):,} could not be read and were left out"
    return text


def _ends(layers: Sequence[Evidence]) -> str:
    return f"{len(layers)}, from `{layers[0].path}` to `{layers[-1].path}`"


def _tallies(found: Examination) -> Html:
    shown = [_tally(kind, count) for kind, count in found.counts().items()
             if count or kind not in ("not finite", "constant", "saturated")]  # fmt: skip
    return tag("ul", shown, class_="tallies", aria_label="How many of each kind")


def _tally(kind: str, count: int) -> Html:
    inside = [tag("b", f"{count:,}"), tag("small", KINDS[kind].lower())]
    if not count:
        return tag("li", tag("span", inside, class_="none"))
    return tag("li", tag("a", inside, href=f"#{_anchor(kind)}"))


def _anchor(kind: str) -> str:
    return kind.replace(" ", "-")


def _layers(found: Examination) -> Part:
    shown = [kind for kind in KINDS if kind != "redundant layer" and found.of(kind)]
    shown = list(dict.fromkeys(["dead", *shown]))
    heads = ["layer", "kind", "channels", *(KINDS[kind].lower() for kind in shown),
             "effective rank"]  # fmt: skip
    rows = [_layer_row(layer, found, shown) for layer in found.layers]
    text = paragraphs(
        "Effective rank: from image to image, the peaks of the layer's channels vary like those of "
        "so many independent channels. The bar is its share of what independent channels would "
        "show on as many images. A dash: nothing that could be judged."
    )
    made = table(heads, rows, "Channels of each kind, layer by layer",
                 numeric=range(2, len(heads) - 1))  # fmt: skip
    return Part("layers", "Layer by layer", join([text, made]))


def _layer_row(layer: Evidence, found: Examination, kinds: Sequence[str]) -> list[Any]:
    size = "×".join(map(str, layer.size))
    cells: list[Any] = [tag("code", layer.path), f"{layer.kind} {size}".strip(),
                        f"{layer.channels:,}"]  # fmt: skip
    for kind in kinds:
        count = sum(concerned(one) for one in found.of(kind) if one.layer == layer.path)
        judged = layer.switches or kind not in ("dead", "nearly dead", "always on")
        style = "n some" if count and kind not in REMARKS else "n" if count else "n zero"
        cells.append(tag("td", f"{count:,}" if judged else "–", class_=style))
    rank = ranks(layer)
    if rank is None:
        return [*cells, "–"]
    return [*cells, meter(rank[0] / rank[1], f"{number(rank[0])} of {layer.channels:,}")]


def _part(
    kind: str, findings: Sequence[Finding], layers: dict[str, Evidence], atlas: Atlas
) -> Part:
    cards = [_card(one, layers[one.layer], atlas) for one in findings[:_ILLUSTRATED]]
    rest = findings[_ILLUSTRATED:]
    more = [tag("div", tag("p", rich(one.sentence)), _rows(one), class_="card") for one in rest]
    folded_rest = folded(f"{len(rest)} more layers", *more) if more else None
    advice = tag("p", findings[0].advice, class_="advice")
    intro = paragraphs(MEANINGS[kind], class_="soft")
    return Part(_anchor(kind), KINDS[kind], join([intro, advice, cards, folded_rest]))


def _card(finding: Finding, layer: Evidence, atlas: Atlas) -> Html:
    return tag("article", tag("h3", rich(finding.sentence)),
               exhibits.beside(finding, layer, atlas), _rows(finding), class_="card")  # fmt: skip


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
    return folded(title, table(heads, rows, f"{finding.layer}: {title}", numeric=numeric))


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


def _alignment(found: Examination) -> Part | None:
    table_ = found.alignment
    if table_ is None:
        return None
    names = [layer.path for layer in found.layers]
    chart = charts.heat_map(table_, names, "CKA between all layers")
    shown = figure(
        scrolling(chart, "CKA between all layers"),
        "Linear CKA, debiased: from 0 (dark), unrelated, to 1 (bright), alike but for a rotation. "
        "On means over the map. Hatched: a layer that does not vary.",
    )
    text = paragraphs(
        "Two layers are alike where they tell the same images apart, whatever their channels are "
        "(Kornblith et al., 2019). " + _neighbours(table_, names)
    )
    return Part("likeness", "How alike the layers are", join([text, shown]), "Likeness of layers")


def _neighbours(values: Any, names: Sequence[str]) -> str:
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


def _method(found: Examination) -> Part:
    rows = [[KINDS[kind], MEANINGS[kind]] for kind in KINDS]
    made = table(["kind", "what counts as one"], rows, "Thresholds")
    left = found.unjudged()
    gaps = [tag("h3", "Not judged"), tag("ul", [tag("li", rich(text)) for text in left])]
    sample = found.layers[0].pooled.shape[1]
    text = paragraphs(
        f"Counts and extremes are exact: of every position of all {found.images:,} images. "
        f"Correlations and CKA are of means over the map on "
        f"{'all of them' if sample >= found.images else f'{sample:,} of them, drawn at random'}. "
        "Everything is said of these images; on others it may be otherwise."
    )
    return Part("method", "How this was judged", join([text, made, gaps if left else None]))
