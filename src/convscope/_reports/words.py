"""What is said of all findings together: the title, the first sentences, what each kind means."""

from __future__ import annotations

import re

from convscope._atlas import Atlas
from convscope._health import KINDS, REMARKS, Examination
from convscope._health import classes as of_classes
from convscope._health.examination import FEW_IMAGES, concerned
from convscope._health.likeness import CORRELATED, COSINE, ENOUGH_IMAGES, REDUNDANT
from convscope._health.switches import NEARLY, OUTER, SATURATED, images_of

MEANINGS = {
    "not finite": "Channels with a value that is NaN or infinite.",
    "dead": "Channels that are above zero at no position of any image, so that their ReLU gives "
    "nothing but zero.",
    "nearly dead": f"Above zero at one position in {1 / NEARLY:,.0f} or fewer.",
    "constant": "Channels that have one value everywhere.",
    "saturated": f"Channels of a bounded function with {SATURATED:.0%} or more of their positions "
    f"in the outer {'eighth' if OUTER == 1 / 8 else OUTER} of its range.",
    "duplicates": "Channels whose means over the map, and whose peaks behind the ReLU, correlate "
    f"by {CORRELATED} or more across images, and whose filters have a cosine of {COSINE} or more. "
    "Each group is named by the channel that varies most: the one to keep.",
    "redundant layer": "Layers whose peaks have an effective rank (Roy and Vetterli, 2007) of "
    f"{REDUNDANT:.0%} or less of what as many independent channels would show on so many images.",
    "always on": f"Channels that are at or below zero at one position in {1 / NEARLY:,.0f} or "
    "fewer. Common, and no defect.",
    "selective": f"Channels whose mean on one class lies {of_classes.SELECTIVE:g} or more standard "
    "deviations (Hedges' g) above all other images. Expected in the last layers of a classifier.",
}


def title(found: Examination, model: str) -> str:
    """What a reader should take away, for the head of the page."""
    defects = [finding for finding in found.findings if not finding.remark]
    channels = sum(concerned(f) for f in defects if f.kind != "redundant layer")
    if channels:
        verb = "deserves" if channels == 1 else "deserve"
        return f"{channels:,} of {found.channels:,} channels of {model} {verb} a look"
    if defects:
        layers = "One layer" if len(defects) == 1 else f"{len(defects)} layers"
        return f"{layers} of {model} could do with fewer channels"
    return f"No fault found in the channels of {model}"


def short_name(atlas: Atlas) -> str:
    """The model's name without library, options and weights."""
    name = str(atlas.manifest["model"]["name"]).split(",")[0]
    return name.removeprefix("torchvision:").removeprefix("timm:").removeprefix("keras:")


def lead(found: Examination) -> list[str]:
    """What was looked at, and what was found, as two paragraphs."""
    counts = found.counts()
    layers = f"{len(found.layers)} layer{'s' * (len(found.layers) != 1)}"
    first = f"{found.channels:,} channels in {layers} were watched on {images_of(found.images)}."
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
        " elsewhere no ReLU follows directly."
        if judged < len(found.layers)
        else "",
    ]
    return [first, " ".join(filter(None, said))]


def _once(said: list[str]) -> list[str]:
    """What is counted are channels; that needs no saying twice."""
    return said[:1] + [re.sub(" channels? ", " ", text, count=1) for text in said[1:]]


def _absent(found: Examination) -> list[str]:
    """What was looked for in some layer and not found in any."""
    counts = found.counts()
    switching = any(layer.switches for layer in found.layers)
    compared = any(
        layer.twins is not None and layer.pooled.shape[1] >= ENOUGH_IMAGES for layer in found.layers
    )
    looked = {
        "dead": switching,
        "nearly dead": switching,
        "constant": True,
        "saturated": any(layer.bounds is not None for layer in found.layers),
        "duplicates": compared,
    }
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
