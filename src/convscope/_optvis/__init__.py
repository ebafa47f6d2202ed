"""Ascent: pictures that raise what is asked of a network, by gradient, weights fixed."""

from convscope._optvis.climb import Step
from convscope._optvis.expression import parse_objective
from convscope._optvis.objectives import Objective
from convscope._optvis.optimized import Gallery, Optimized
from convscope._optvis.params import Fourier, MaCo, Pixels
from convscope._optvis.repainting import StylizedImage, dream, style
from convscope._optvis.run import maximize
from convscope._optvis.transforms import Transforms
from convscope._optvis.wanted import (
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
    "Optimized",
    "Pixels",
    "Step",
    "StylizedImage",
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
