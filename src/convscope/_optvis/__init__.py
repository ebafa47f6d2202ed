"""Ascent: pictures that raise what is asked of a network, by gradient, weights fixed."""

from convscope._optvis.image_objectives import activation_grid, caricature
from convscope._optvis.maximize import maximize
from convscope._optvis.objectives import (
    Objective,
    between,
    channel,
    direction,
    diversity,
    layer,
    logit,
    neuron,
)
from convscope._optvis.optimized_images import OptimizedImage, OptimizedImages
from convscope._optvis.optimizer import OptimizationStep
from convscope._optvis.params import Fourier, MaCo, Pixels
from convscope._optvis.parsing import parse_objective
from convscope._optvis.stylize import StylizedImage, dream, style
from convscope._optvis.transforms import Transforms

__all__ = [
    "Fourier",
    "MaCo",
    "Objective",
    "OptimizationStep",
    "OptimizedImage",
    "OptimizedImages",
    "Pixels",
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
