"""The diagnosis of a classifier as a page, its most confident errors explained."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from convscope._attribution.attribute import attribute
from convscope._diagnosis import (
    MIN_CLASS_IMAGES,
    MIN_PURITY,
    ChannelDifference,
    Diagnosis,
    FailureGroup,
    diagnose_classifier,
)
from convscope._errors import ConvscopeError
from convscope._loading import ImagesLike, Progress
from convscope._models import ModelLike, load
from convscope._reports import charts
from convscope._reports.markup import (
    Html,
    figure,
    format_text,
    join,
    paragraphs,
    table,
    tag,
    thumbnail_tag,
)
from convscope._reports.page import Page, PageSection

_MAX_ERRORS, _EXPLAINED, _MAX_MEMBERS, _MAX_CONFUSIONS = 24, 6, 18, 12
_MAX_CLASSES = 40  # a larger confusion matrix cannot be read


@dataclass(frozen=True, eq=False)
class DiagnosisReport:
    """A report on where a classifier fails; ``.save("diagnosis.html")`` writes its page.

    Attributes:
        diagnosis: The measures.
        attributions: Grad-CAM maps as images, by row of a wrong prediction.
        attribution_note: Why there are none, or fewer; empty where nothing went wrong.
    """

    diagnosis: Diagnosis
    attributions: dict[int, Image.Image]
    attribution_note: str

    def sentences(self) -> list[str]:
        """Return the main results and suggestions.

        Returns:
            Sentences, in which layers and units stand in backquotes.
        """
        return [*self.diagnosis.sentences(), *self.diagnosis.suggestions()]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the images, for JSON.

        Returns:
            A dictionary of texts, numbers, lists and dictionaries.
        """
        return self.diagnosis.to_dict()

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
        return _page(self)

    def _repr_html_(self) -> str:
        return self.page._repr_html_()


def diagnose(
    model: ModelLike,
    images: ImagesLike,
    layers: str | Iterable[str] | None = None,
    *,
    first: int | None = None,
    size: int | tuple[int, int] | None = None,
    explain: int = _EXPLAINED,
    progress: Progress = lambda done, of: None,
    on_step: Callable[[str], None] = lambda step: None,
) -> DiagnosisReport:
    """Diagnose where a classifier fails: accuracy, calibration, confusions, groups of errors.

    The images are predicted in one pass. Calibration and temperature scaling follow Guo et al.
    (ICML 2017), the groups of errors Domino (Eyuboglu et al., ICLR 2022), and channels are compared
    by Hedges' g (Hedges, 1981) and Welch's t-test.

    Args:
        model: A model, or anything ``load`` takes.
        images: A labeled dataset, or anything ``open_dataset`` takes; where it has a test split,
            that split is used.
        layers: The layers whose channels are compared; by default a few through the depth.
        first: Number of images, spread evenly over the dataset; by default all.
        size: Input size in pixels, where it is not the model's own.
        explain: Number of the most confident errors to explain with Grad-CAM (Selvaraju et al.,
            ICCV 2017). Needs captum; without it they are left out with a note.
        progress: Called with the number of images done and the number in all.
        on_step: Called with the name of each later step.

    Returns:
        The report: ``.diagnosis``, ``.sentences()``, and ``.save("diagnosis.html")`` for its page.

    Raises:
        DatasetError: The data are not labeled, or their classes do not match the model's.
        UsageError: The model is not a classifier.
    """
    loaded = load(model)
    diagnosis = diagnose_classifier(
        loaded, images, layers, first=first, size=size, progress=progress
    )
    attributions: dict[int, Image.Image] = {}
    note = "" if importlib.util.find_spec("captum") else "Attribution maps need captum."
    for row in diagnosis.most_confident_errors(explain) if not note else ():
        on_step("explaining errors")
        try:
            attributions[row] = _gradcam(diagnosis, row, size)
        except ConvscopeError as error:
            note = str(error)
            break
    return DiagnosisReport(diagnosis, attributions, note)


def _gradcam(diagnosis: Diagnosis, row: int, size: Any) -> Image.Image:
    predictions, loader = diagnosis.predictions, diagnosis.loader
    attribution = attribute(
        loader.model,
        loader.dataset.image(int(predictions.indices[row])),
        int(predictions.predicted[row]),
        method="gradcam",
        size=size,
    )
    (_, tile), *_ = [section.tiles for section in attribution.sheet().sections]
    return Image.fromarray(tile.pixels)


def _page(report: DiagnosisReport) -> Page:
    diagnosis = report.diagnosis
    sections = [
        _suggestions(diagnosis),
        _classes(diagnosis),
        _calibration(diagnosis),
        _errors(report),
        *([_groups(diagnosis)] if diagnosis.groups else []),
        *([_channels(diagnosis)] if diagnosis.channel_differences else []),
    ]
    name = diagnosis.loader.model.name.split(",")[0]
    return Page(
        title=f"{name}: {diagnosis.accuracy:.1%} accuracy, {diagnosis.errors:,} errors",
        kicker="convscope · diagnosis",
        lead=diagnosis.sentences(),
        facts=_facts(diagnosis),
        sections=sections,
        footer="Made by `convscope diagnose`, in one pass over the images.",
    )


def _facts(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    model, loader = diagnosis.loader.model, diagnosis.loader
    facts = [
        ("Model", f"`{model.title}`"),
        ("Images", loader.describe()),
        ("Preprocessing", model.input.preprocess.describe()),
        ("Layers compared", ", ".join(f"`{path}`" for path in diagnosis.predictions.pooled)),
    ]
    if loader.damaged:
        facts.append(("Damaged", f"{len(loader.damaged)} could not be read"))
    untrained = model.untrained_note()
    if untrained:
        facts.append(("Warning", untrained))
    return facts


def _suggestions(diagnosis: Diagnosis) -> PageSection:
    texts = diagnosis.suggestions()
    content = tag("ol", [tag("li", format_text(text)) for text in texts])
    if not texts:
        content = paragraphs("Nothing in these results calls for a remedy.")
    return PageSection("suggestions", "Suggestions", content)


def _classes(diagnosis: Diagnosis) -> PageSection:
    used = np.flatnonzero(diagnosis.confusion.sum(1) + diagnosis.confusion.sum(0))
    content: list[Html] = []
    if len(used) <= _MAX_CLASSES:
        counts = diagnosis.confusion[np.ix_(used, used)]
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        names = [diagnosis.classes[k] for k in used]
        chart = charts.heat_map(shares, names, "Confusion matrix", low=0.0, high=1.0)
        caption = "Rows: labels. Columns: predictions. Color: share of the images of the label."
        content.append(figure(chart, caption))
    content += [*_confusions(diagnosis), _class_table(diagnosis, used)]
    return PageSection("classes", "Confusion matrix and classes", join(content), "Classes")


def _confusions(diagnosis: Diagnosis) -> list[Html]:
    rows = [
        (diagnosis.classes[a], diagnosis.classes[b], n, f"{n / diagnosis.errors:.0%}")
        for a, b, n in diagnosis.confusions()[:_MAX_CONFUSIONS]
    ]
    columns = ("label", "predicted as", "images", "of all errors")
    return [table(columns, rows, "Most frequent confusions", numeric=(2, 3))] if rows else []


def _class_table(diagnosis: Diagnosis, used: NDArray[np.int64]) -> Html:
    totals = diagnosis.confusion.sum(1)
    ranked = [int(k) for k in used if totals[k] >= MIN_CLASS_IMAGES]
    if not ranked:
        return paragraphs(f"No class has {MIN_CLASS_IMAGES} images here, so none is ranked.")
    measures = (diagnosis.recall, diagnosis.precision, diagnosis.f1)
    rows = [
        (diagnosis.classes[k], int(totals[k]), *(_percent(values[k]) for values in measures))
        for k in sorted(ranked, key=lambda k: diagnosis.recall[k])[:_MAX_CLASSES]
    ]
    columns = ("class", "images", "recall", "precision", "F1")
    return table(columns, rows, "Classes, those of lowest recall first", numeric=(1, 2, 3, 4))


def _calibration(diagnosis: Diagnosis) -> PageSection:
    found = diagnosis.calibration
    filled = found.counts > 0
    curves: list[tuple[str, ArrayLike, ArrayLike]] = [
        ("accuracy", found.confidence[filled], found.accuracy[filled]),
        ("perfect calibration", [0, 1], [0, 1]),
    ]
    diagram = charts.lines(curves, "Reliability diagram", x="confidence", y="accuracy", low=0.0)
    histogram = charts.histogram(
        found.edges, found.counts, "Confidence histogram", x="confidence", y="images"
    )
    # the temperature maximizes the likelihood: the error over the bins may still rise
    effect = "reduces" if found.scaled_error < found.error else "changes"
    text = paragraphs(
        f"Expected calibration error {found.error:.3f}, over {len(found.counts)} bins of "
        f"confidence. Temperature scaling (Guo et al., 2017) with T = {found.temperature:.2f} "
        f"{effect} it to {found.scaled_error:.3f} on these images."
    )
    figures = tag(
        "div",
        figure(
            diagram,
            "Reliability diagram: accuracy of the predictions in each bin of confidence. Below the "
            "diagonal the model is overconfident.",
        ),
        figure(histogram, "Number of predictions in each bin of confidence."),
    )
    return PageSection("calibration", "Calibration", join([text, figures]))


def _errors(report: DiagnosisReport) -> PageSection:
    diagnosis, title = report.diagnosis, "Most confident errors"
    rows = diagnosis.most_confident_errors(_MAX_ERRORS)
    if not rows:
        return PageSection("errors", title, paragraphs("There are none."), "Errors")
    caption = "The wrong predictions with the highest confidence: label and predicted class."
    content = [_image_row(diagnosis, rows, caption)]
    if report.attributions:
        items = [
            tag(
                "li",
                thumbnail_tag(_image(diagnosis, row), "input image"),
                thumbnail_tag(image, "Grad-CAM"),
                _labels(diagnosis, row),
            )
            for row, image in report.attributions.items()
        ]
        caption = "Grad-CAM for the predicted class: red is evidence for it, blue against it."
        content.append(figure(tag("ul", items, class_="crops"), caption))
    if report.attribution_note:
        content.append(paragraphs(report.attribution_note))
    return PageSection("errors", title, join(content), "Errors")


def _groups(diagnosis: Diagnosis) -> PageSection:
    text = paragraphs(
        "Clusters of errors with similar features (mean activations of "
        f"`{diagnosis.predictions.feature_layer}`), labels and predictions. The error rate is that "
        "of the images of the same class whose features are as near to the center of the cluster; "
        "of all images, where the errors are mixed."
    )
    groups = [_group(diagnosis, k, group) for k, group in enumerate(diagnosis.groups, 1)]
    return PageSection("groups", "Failure groups", join([text, groups]))


def _group(diagnosis: Diagnosis, number: int, group: FailureGroup) -> Html:
    heading = f"Group {number}: {len(group.members)} mixed errors"
    if group.purity > MIN_PURITY:
        heading = (
            f"Group {number}: {diagnosis.classes[group.label]} predicted as "
            f"{diagnosis.classes[group.prediction]} "
            f"({group.purity:.0%} of {len(group.members)} errors)"
        )
    text = f"Error rate {group.error_rate:.0%}; mean confidence {group.confidence:.0%}."
    rows = group.members[:_MAX_MEMBERS].tolist()
    content = [
        tag("h3", heading),
        paragraphs(text),
        _image_row(diagnosis, rows, "The images nearest to the center."),
    ]
    if group.channels:
        caption = "Channels that distinguish the group from all other images"
        content.append(_difference_table(group.channels, caption))
    return join(content)


def _channels(diagnosis: Diagnosis) -> PageSection:
    tables = [
        _difference_table(
            differences,
            f"{diagnosis.classes[label]}: misclassified against correctly classified",
        )
        for label, differences in diagnosis.channel_differences.items()
    ]
    text = paragraphs(
        "Channels whose mean activation differs between the misclassified and the correctly "
        "classified images of a class: effect size (Hedges' g), and p-value (Welch's t-test) "
        "multiplied by the number of comparisons (Bonferroni)."
    )
    title = "Channels associated with errors"
    return PageSection("channels", title, join([text, *tables]), "Channels")


def _difference_table(differences: Sequence[ChannelDifference], caption: str) -> Html:
    rows = [
        (
            tag("code", one.address),
            f"{one.effect_size:+.2f}".replace("-", "−"),
            "< 0.001" if one.p_value < 0.001 else f"{one.p_value:.3f}",
        )
        for one in differences
    ]
    return table(("unit", "effect size", "p-value"), rows, caption, numeric=(1, 2))


def _image(diagnosis: Diagnosis, row: int) -> Image.Image:
    return diagnosis.loader.display_image(int(diagnosis.predictions.indices[row])).convert("RGB")


def _image_row(diagnosis: Diagnosis, rows: Sequence[int], caption: str) -> Html:
    items = []
    for row in rows:
        label, prediction = _names(diagnosis, row)
        text = f"{label}, predicted as {prediction}"
        image = thumbnail_tag(_image(diagnosis, row), text)
        items.append(tag("li", image, _labels(diagnosis, row)))
    return figure(tag("ul", items, class_="crops"), caption)


def _names(diagnosis: Diagnosis, row: int) -> tuple[str, str]:
    """The label, and the predicted class with its confidence."""
    predictions = diagnosis.predictions
    label, predicted = (
        diagnosis.classes[values[row]] for values in (predictions.labels, predictions.predicted)
    )
    return label, f"{predicted} {predictions.confidence[row]:.0%}"


def _labels(diagnosis: Diagnosis, row: int) -> list[Html]:
    """Label and prediction as two short lines."""
    label, prediction = _names(diagnosis, row)
    return [tag("small", label), tag("small", f"→ {prediction}", title=prediction)]


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.0%}"
