"""A check-up: the diagnosis of a classifier, its errors explained, as a page."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convscope._attribution.attribute import attribute
from convscope._data import Item
from convscope._diagnosis import FEW, MIXED, Diagnosis, Group, Telling, examine
from convscope._errors import ConvscopeError
from convscope._loading import Progress
from convscope._models import load
from convscope._reports import charts
from convscope._reports.markup import (
    Html,
    figure,
    format_text,
    image_tag,
    join,
    paragraphs,
    table,
    tag,
)
from convscope._reports.page import Page, PageSection

_WORST, _EXPLAINED, _MEMBERS, _SIDE = 24, 6, 18, 112
_CLASSES = 40  # a larger confusion matrix cannot be read


@dataclass(frozen=True, eq=False)
class DiagnosisReport:
    """Where a classifier fails: ``diagnosis`` holds the numbers, ``page`` the report.

    - ``explained``: by row of a wrong picture, where the network looked for its answer
    """

    diagnosis: Diagnosis
    explained: dict[int, Image.Image]
    without: str

    def sentences(self) -> list[str]:
        """What was found, in a few sentences."""
        return [*self.diagnosis.sentences(), *self.diagnosis.suggestions()]

    def to_dict(self) -> dict[str, Any]:
        """Everything but pictures, for JSON."""
        return self.diagnosis.to_dict()

    def save(self, path: str | Path) -> Path:
        """Write the page: one HTML file that needs nothing else."""
        return self.page.save(path)

    @cached_property
    def page(self) -> Page:
        """The page."""
        return _page(self)

    def _repr_html_(self) -> str:
        return self.page._repr_html_()


def diagnose(
    model: Any,
    images: Any,
    layers: str | Iterable[str] | None = None,
    *,
    first: int | None = None,
    size: int | tuple[int, int] | None = None,
    explain: int = _EXPLAINED,
    progress: Progress = lambda done, of: None,
    on_step: Callable[[str], None] = lambda what: None,
) -> DiagnosisReport:
    """Where does a classifier fail? Accuracy, calibration, confusions, and groups of errors.

    - ``images``: a labeled dataset, anything ``open_dataset`` takes; of data with a test part,
      that. ``first``: so many pictures, spread evenly over it.
    - ``layers``: whose channels are compared; by default a few through the depth.
    - ``explain``: for so many of the most confidently wrong pictures, where the network looked
      (Grad-CAM, through captum; left out, and said so, where that is not installed).

    One pass over the pictures. Raises ``DatasetError`` for unlabeled data and for classes that do
    not match.
    """
    loaded = load(model)
    found = examine(loaded, images, layers, first=first, size=size, progress=progress)
    explained: dict[int, Image.Image] = {}
    without = "" if importlib.util.find_spec("captum") else "Where it looked needs captum."
    for row in found.worst(explain) if not without else ():
        on_step("explaining errors")
        try:
            explained[row] = _explained(found, row, size)
        except ConvscopeError as error:
            without = str(error)
            break
    return DiagnosisReport(found, explained, without)


def _explained(found: Diagnosis, row: int, size: Any) -> Image.Image:
    one = attribute(
        found.feed.model,
        _item(found, row),
        int(found.seen.answers[row]),
        method="gradcam",
        size=size,
    )
    (_, tile), *_ = [section.tiles for section in one.sheet().sections]
    return Image.fromarray(tile.pixels)


def _item(found: Diagnosis, row: int) -> Item:
    return found.feed.dataset.image(int(found.seen.indices[row]))


def _picture(found: Diagnosis, row: int) -> Image.Image:
    return found.feed.display_image(int(found.seen.indices[row]))


def _page(report: DiagnosisReport) -> Page:
    found = report.diagnosis
    model = found.feed.model
    sections = [_suggestions(found), _classes(found), _calibration(found), _worst(report)]
    sections += [_groups(found)] if found.groups else []
    sections += [_channels(found)] if found.telling else []
    damaged = f"{len(found.feed.damaged)} could not be read" if found.feed.damaged else ""
    untrained = model.untrained_note()
    facts = [
        ("model", f"`{model.title}`"),
        ("pictures", found.feed.describe()),
        ("preprocessing", model.input.preprocess.describe()),
        ("layers compared", ", ".join(f"`{path}`" for path in found.seen.pooled)),
        *([("damaged", damaged)] if damaged else []),
        *([("untrained", untrained)] if untrained else []),
    ]
    errors = int(found.seen.wrong.sum())
    return Page(
        title=f"{found.accuracy:.1%} right, {errors:,} wrong: where {model.name.split(',')[0]} "
        "fails",
        kicker="convscope · diagnosis",
        lead=found.sentences(),
        facts=facts,
        sections=sections,
        footer="Made by `convscope diagnose`, in one pass over the pictures.",
    )


def _suggestions(found: Diagnosis) -> PageSection:
    said = found.suggestions()
    items = tag("ol", [tag("li", format_text(text)) for text in said])
    nothing = paragraphs("Nothing in these figures asks for a remedy of its own.")
    return PageSection("do", "What could be done", items if said else nothing, "What to do")


def _classes(found: Diagnosis) -> PageSection:
    used = np.flatnonzero(found.confusion.sum(1) + found.confusion.sum(0))
    names = [found.classes[k] for k in used]
    shares = found.confusion[np.ix_(used, used)] / np.maximum(
        found.confusion[np.ix_(used, used)].sum(1, keepdims=True), 1
    )
    content: list[Html] = []
    if len(used) <= _CLASSES:
        chart = charts.heat_map(shares, names, "Confusion matrix", low=0.0, high=1.0)
        content.append(
            figure(
                chart,
                "Rows: what pictures are; columns: what they are taken for; "
                "color: the share of the row.",
            )
        )
    content += [*_confusions(found), _ranked(found, used)]
    return PageSection("classes", "Which classes are confused", join(content), "Classes")


def _confusions(found: Diagnosis) -> list[Html]:
    errors = max(int(found.seen.wrong.sum()), 1)
    pairs = [
        (f"{found.classes[a]} → {found.classes[b]}", n, f"{n / errors:.0%}")
        for a, b, n in found.pairs()[:12]
    ]
    heads = ("confusion", "pictures", "of all errors")
    return [table(heads, pairs, "The commonest confusions", numeric=(1, 2))] if pairs else []


def _ranked(found: Diagnosis, used: NDArray[np.int64]) -> Html:
    enough = [int(k) for k in used if found.confusion[k].sum() >= FEW]
    order = sorted(enough, key=lambda k: np.nan_to_num(found.recall[k], nan=2))[:_CLASSES]
    rows = [
        (
            found.classes[k],
            int(found.confusion[k].sum()),
            _percent(found.recall[k]),
            _percent(found.precision[k]),
        )
        for k in order
    ]
    if not rows:
        return paragraphs(f"No class has {FEW} pictures here, so none is ranked.")
    heads = ("class", "pictures", "recognized", "answers that are right")
    return table(heads, rows, "Classes, the worst recognized first", numeric=(1, 2, 3))


def _calibration(found: Diagnosis) -> PageSection:
    of = found.calibration
    full = of.counts > 0
    chart = charts.lines(
        [("accuracy", of.confidence[full], of.accuracy[full]), ("as it should be", [0, 1], [0, 1])],
        "Reliability diagram",
        x="confidence",
        y="accuracy",
        low=0.0,
    )
    counts = charts.histogram(of.edges, of.counts, "How sure it is", x="confidence", y="pictures")
    said = paragraphs(
        f"Expected calibration error {of.error:.3f}, over {len(of.counts)} bins of confidence. "
        f"Dividing the scores by {of.temperature:.2f} would make it {of.after:.3f} on these "
        "pictures."
    )
    both = tag(
        "div",
        figure(
            chart,
            "Of the answers given with some confidence, how many are "
            "right. Below the line it is too sure of itself.",
        ),
        figure(counts, "How many answers are given with which confidence."),
    )
    return PageSection(
        "calibration", "Is it as sure as it should be?", join([said, both]), "Calibration"
    )


def _worst(report: DiagnosisReport) -> PageSection:
    found = report.diagnosis
    rows = found.worst(_WORST)
    if not rows:
        return PageSection(
            "worst", "The most confident errors", paragraphs("There are none."), "Errors"
        )
    content = [
        _pictures(
            found,
            rows,
            "The most confidently wrong, each with what it is and what it is taken for.",
        )
    ]
    if report.explained:
        items = [
            tag(
                "li",
                _image(_picture(found, row), "the picture"),
                _image(image, "where it looked"),
                _below(found, row),
            )
            for row, image in report.explained.items()
        ]
        content.append(
            figure(
                tag("ul", items, class_="crops"),
                "Where it looked for its answer (Grad-CAM): red speaks for what it "
                "is taken for, blue against it.",
            )
        )
    if report.without:
        content.append(paragraphs(report.without))
    return PageSection("worst", "The most confident errors", join(content), "Errors")


def _groups(found: Diagnosis) -> PageSection:
    content = [
        paragraphs(
            "Errors that look alike to the network (in "
            f"`{found.seen.features}`), are called alike and answered alike. The share of errors "
            "is that among the pictures of the same class that lie as near; of any class, where "
            "the errors are of many kinds."
        )
    ]
    for number, group in enumerate(found.groups, 1):
        content.append(_group(found, number, group))
    return PageSection("groups", "What the errors have in common", join(content), "Groups")


def _group(found: Diagnosis, number: int, group: Group) -> Html:
    heading = f"Group {number}: {len(group.members)} errors of many kinds"
    if group.pure > MIXED:
        heading = (
            f"Group {number}: {found.classes[group.label]} taken for "
            f"{found.classes[group.answer]} ({group.pure:.0%} of {len(group.members)} errors)"
        )
    said = f"{group.rate:.0%} of what lies there is wrong; mean confidence {group.confidence:.0%}."
    rows = group.members[:_MEMBERS].tolist()
    parts = [tag("h3", heading), paragraphs(said), _pictures(found, rows, "Nearest to the middle.")]
    if group.channels:
        parts.append(_told(group.channels, "Channels that set the group apart from all others"))
    return join(parts)


def _channels(found: Diagnosis) -> PageSection:
    tables = [
        _told(listed, f"{found.classes[label]}: missed against recognized")
        for label, listed in found.telling.items()
    ]
    said = paragraphs(
        "Channels whose mean activation differs between the pictures of a class that are missed "
        "and those that are recognized: Hedges' g, and the probability of as large a difference by "
        "chance, multiplied by the number of comparisons (Bonferroni)."
    )
    return PageSection(
        "channels", "Which channels go with errors", join([said, *tables]), "Channels"
    )


def _told(listed: Sequence[Telling], caption: str) -> Html:
    rows = [
        (tag("code", one.address), f"{one.effect:+.2f}".replace("-", "−"), _chance(one.chance))
        for one in listed
    ]
    return table(("unit", "effect", "chance"), rows, caption, numeric=(1, 2))


def _chance(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _pictures(found: Diagnosis, rows: Sequence[int], caption: str) -> Html:
    items = [
        tag("li", _image(_picture(found, row), _said(found, row)), _below(found, row))
        for row in rows
    ]
    return figure(tag("ul", items, class_="crops"), caption)


def _said(found: Diagnosis, row: int) -> str:
    label, answer = found.seen.labels[row], found.seen.answers[row]
    return f"{found.classes[label]} → {found.classes[answer]} {found.seen.confidence[row]:.0%}"


def _below(found: Diagnosis, row: int) -> list[Html]:
    """The same in two short lines."""
    label, answer = (found.classes[k[row]] for k in (found.seen.labels, found.seen.answers))
    sure = f"→ {answer} {found.seen.confidence[row]:.0%}"
    return [tag("small", label), tag("small", sure, title=sure)]


def _image(image: Image.Image, words: str) -> Html:
    small = max(image.size) < _SIDE // 2
    shown = image.convert("RGB")
    if not small:
        shown.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return image_tag(shown, words, title=words, class_="pixels" if small else None)


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.0%}"
