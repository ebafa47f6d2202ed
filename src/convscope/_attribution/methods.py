"""The table of attribution methods: names, titles, what each needs, and where it comes from.

The command line's help, the default of ``attribute``, the app and the docs derive from it. Nothing
here imports torch, so help appears at once; the function of each method has the method's name and
stands in ``captum_methods``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from convscope._errors import UsageError, check_name


@dataclass(frozen=True)
class AttributionMethod:
    """One way to attribute a score to positions. All maps are signed: positive raises the score.

    Attributes:
        name: What users type; also the name of its function in ``captum_methods``.
        title: What figures and the app call it.
        source: Author, venue and year of the paper.
        needs_layer: Whether its map is one of a layer's positions, not of pixels.
        needs_gradient: Whether every step from the input to the score must be differentiable.
        uses_baseline: Whether it compares the image with a baseline.
        single_pass: Whether one forward and one backward pass suffice.
    """

    name: str
    title: str
    source: str
    needs_layer: bool = False
    needs_gradient: bool = True
    uses_baseline: bool = False
    single_pass: bool = False


_ALL = (
    AttributionMethod(
        "gradcam",
        "Grad-CAM",
        "Selvaraju et al., ICCV 2017",
        needs_layer=True,
        single_pass=True,
    ),
    AttributionMethod(
        "integrated_gradients",
        "Integrated gradients",
        "Sundararajan et al., ICML 2017",
        uses_baseline=True,
    ),
    AttributionMethod(
        "gradient_x_input",
        "Gradient × input",
        "Shrikumar et al., 2016",
        single_pass=True,
    ),
    AttributionMethod("smoothgrad", "SmoothGrad", "Smilkov et al., 2017"),
    AttributionMethod(
        "occlusion",
        "Occlusion",
        "Zeiler and Fergus, ECCV 2014",
        needs_gradient=False,
        uses_baseline=True,
    ),
)
METHODS: Mapping[str, AttributionMethod] = {method.name: method for method in _ALL}


def select_methods(names: str | Sequence[str]) -> list[AttributionMethod]:
    """Return the methods of these names; raise ``UsageError`` for an unknown one, and for none."""
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise UsageError(f"No method was named. Known: {', '.join(METHODS)}")
    return [METHODS[check_name("method", name, METHODS)] for name in names]
