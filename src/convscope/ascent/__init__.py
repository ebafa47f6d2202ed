"""Ascent: pictures that raise what is asked of a network, by gradient, weights fixed."""

from convscope.ascent.climb import Step
from convscope.ascent.expression import parse_objective
from convscope.ascent.objectives import Objective
from convscope.ascent.optimised import Gallery, Optimised
from convscope.ascent.params import Fourier, MaCo, Pixels
from convscope.ascent.repainting import Repainted, dream, style
from convscope.ascent.run import maximize
from convscope.ascent.transforms import Transforms
from convscope.ascent.wanted import (
    activation_grid,
    between,
    caricature,
    channel,
    direction,
    diversity,
    layer,
    logit,
    neuron,
)

__all__ = [
    "Fourier",
    "Gallery",
    "MaCo",
    "Objective",
    "Optimised",
    "Pixels",
    "Repainted",
    "Step",
    "Transforms",
    "activation_grid",
    "between",
    "caricature",
    "channel",
    "direction",
    "diversity",
    "dream",
    "layer",
    "logit",
    "maximize",
    "neuron",
    "parse_objective",
    "style",
]
