"""The functions of the attribution methods, through captum; each has its method's name."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._attribution.methods import AttributionMethod
from convscope._attribution.question import Question
from convscope._errors import ConvscopeError, MissingDependency, ModelError, UsageError, one_line
from convscope._models import stacked

NOISE_SHARE = 0.15  # SmoothGrad's noise, as a share of the range of the values (Smilkov 2017)
_PER_PASS = 16


@dataclass(frozen=True, eq=False)
class Found:
    """What a method says of one image.

    - ``values``: ``(h, w)`` float32, summed over colors: pixels, or positions of a layer
    - ``gap``: of integrated gradients, what their sum lacks of the change in score; else ``None``
    - ``change``: that change, from the baseline to the image
    """

    values: NDArray[np.float32]
    gap: float | None = None
    change: float | None = None


_Function = Callable[[Question], Found]
_FUNCTIONS: dict[str, _Function] = {}


def _method(function: _Function) -> _Function:
    """Make this the function of the method of its name."""
    _FUNCTIONS[function.__name__] = function
    return function


@_method
def gradcam(question: Question) -> Found:
    """The maps of a layer, weighted by their mean gradients (Selvaraju et al., 2017), signed."""
    module = question.module(question.layer)
    values = _captum().LayerGradCam(module, module.layer).attribute(question.batch.values)
    if values.ndim == 5:
        values = stacked(values, question.model.input.depth)
    if values.ndim != 4:
        raise UsageError(
            f"Grad-CAM needs a layer of maps, and {question.layer!r} has none. "
            "Name a convolution: --layer PATH"
        )
    return Found(_numbers(values[0, 0]))


@_method
def integrated_gradients(question: Question) -> Found:
    """Gradients along the way from the baseline, times that way (Sundararajan et al., 2017)."""
    method = _captum().IntegratedGradients(question.module())
    values, delta = method.attribute(
        question.batch.values,
        baselines=question.baseline,
        n_steps=question.steps,
        internal_batch_size=_PER_PASS,
        return_convergence_delta=True,
    )
    change = question.score(question.batch.values) - question.score(question.baseline)
    return Found(_summed(values), gap=float(delta), change=float(change))


@_method
def gradient_x_input(question: Question) -> Found:
    """Each pixel's gradient times its normalized value (Shrikumar et al., 2016)."""
    return Found(_summed(_captum().InputXGradient(question.module()).attribute(_leaf(question))))


@_method
def smoothgrad(question: Question) -> Found:
    """The mean gradient over noisy copies of the image (Smilkov et al., 2017)."""
    values = question.batch.values
    noise = NOISE_SHARE * float(values.max() - values.min())
    captum = _captum()
    method = captum.NoiseTunnel(captum.Saliency(question.module()))
    with torch.random.fork_rng(devices=[]):  # captum draws from the global stream
        torch.manual_seed(question.seed)
        found = method.attribute(
            _leaf(question),
            nt_type="smoothgrad",
            nt_samples=question.samples,
            nt_samples_batch_size=min(8, question.samples),
            stdevs=noise,
            abs=False,
        )
    return Found(_summed(found))


@_method
def occlusion(question: Question) -> Found:
    """What the score loses while a window of the baseline lies on the image (Zeiler 2014).

    Every pixel gets the mean over the windows that cover it. Needs no gradient.
    """
    channels, size = question.batch.values.shape[1], question.batch.size
    strides = [max(1, math.ceil(side / 16)) for side in size]
    window = tuple(min(2 * stride, side) for stride, side in zip(strides, size, strict=True))
    with torch.no_grad():
        values = (
            _captum()
            .Occlusion(question.module())
            .attribute(
                question.batch.values,
                sliding_window_shapes=(channels, *window),
                strides=(channels, *strides),
                baselines=question.baseline,
                perturbations_per_eval=_PER_PASS,
            )
        )
    return Found(_numbers(values[0].mean(0)))


def asked(method: AttributionMethod, question: Question) -> Found:
    """The answer of one method; a network without a gradient is told of in one line."""
    try:
        with question.model.at_rest():
            return _FUNCTIONS[method.name](question)
    except (ConvscopeError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"{question.model.name} has no gradient from {question.target.name} back to "
            f"{'layer ' + question.layer if method.needs_layer else 'the image'}: a step between "
            f"them is not differentiable ({one_line(error, 80)}). Occlusion needs none: "
            "--method occlusion"
        ) from error


def shares(question: Question, layer: str) -> NDArray[np.float32]:
    """What each position of each channel of ``layer`` brings: gradient × activation, (C, h, w)."""
    module = question.module(layer)
    with question.model.at_rest():
        method = _captum().LayerGradientXActivation(module, module.layer)
        values = method.attribute(question.batch.values)[0]
    return _numbers(values.reshape(len(values), -1, values.shape[-1] if values.ndim > 1 else 1))


def _captum() -> Any:
    try:
        return importlib.import_module("captum.attr")
    except ImportError:
        raise MissingDependency("captum", "Attribution", "captum") from None


def _leaf(question: Question) -> Tensor:
    """The image as the begin of a graph; captum would say aloud that it makes it one."""
    return question.batch.values.detach().clone().requires_grad_()


def _summed(values: Tensor) -> NDArray[np.float32]:
    """Over the colors of the one image."""
    return _numbers(values[0].sum(0))


def _numbers(values: Tensor) -> NDArray[np.float32]:
    return values.detach().cpu().float().numpy()
