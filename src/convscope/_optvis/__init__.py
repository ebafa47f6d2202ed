"""Activation maximization, DeepDream and style transfer: images optimized, weights fixed.

objectives, image_objectives, parsing   what to maximize, in Python and as text
params, transforms, relu_gradient_override   what is optimized, augmentation, dead starts
optimizer, evaluation, animation   the loop, what the result achieves, its frames
maximize, optimized_images   ``cs.maximize`` and its results
stylize   ``cs.dream`` and ``cs.style``
"""

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
