"""Attributions of pixels, positions and channels, through captum.

The function of each method has the name that ``methods`` lists it by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope._attribution.methods import METHODS, AttributionMethod
from convscope._attribution.target import AttributionTask
from convscope._errors import ConvscopeError, ModelError, UsageError, import_optional, one_line
from convscope._models import Edit, stack_slices

NOISE_SHARE = 0.15  # SmoothGrad's noise as a share of the range of the values (Smilkov et al.)
_IMAGES_PER_PASS = 16
_OCCLUSION_STRIDES = 16  # per side; the window is two strides wide


@dataclass(frozen=True, eq=False)
class MethodOutput:
    """What one method computes for one image.

    Attributes:
        values: ``(h, w)`` float32, summed over input channels: pixels, or positions of a layer.
        completeness_gap: Of integrated gradients, their sum minus the score change; else ``None``.
        score_change: Score of the image minus score of the baseline; ``None`` as above.
    """

    values: NDArray[np.float32]
    completeness_gap: float | None = None
    score_change: float | None = None


_MethodFunction = Callable[[AttributionTask], MethodOutput]
_FUNCTIONS: dict[str, _MethodFunction] = {}


def _method(function: _MethodFunction) -> _MethodFunction:
    """Register the function of the method of its name."""
    _FUNCTIONS[function.__name__] = function
    return function


@_method
def gradcam(task: AttributionTask) -> MethodOutput:
    """The maps of a layer, weighted by their mean gradients (Selvaraju et al., ICCV 2017).

    Without the paper's ReLU: what lowers the score is shown too.
    """
    module = task.module(task.layer)
    values = _captum().LayerGradCam(module, module.layer).attribute(task.batch.values)
    if values.ndim == 3 and task.model.input.signal:
        values = values.unsqueeze(2)
    if values.ndim == 5:
        values = stack_slices(values, task.model.input.depth)
    if values.ndim != 4:
        raise UsageError(
            f"Grad-CAM needs a layer of maps, and {task.layer!r} has none. "
            "Name a convolution: --layer PATH"
        )
    return MethodOutput(_array(values[0, 0]))


@_method
def integrated_gradients(task: AttributionTask) -> MethodOutput:
    """Gradients averaged from the baseline to the image, times the difference of the two.

    Sundararajan et al., ICML 2017. The sum of the map is the change in score, but for the gap.
    """
    values, gap = (
        _captum()
        .IntegratedGradients(task.module())
        .attribute(
            task.batch.values,
            baselines=task.baseline,
            n_steps=task.steps,
            internal_batch_size=_IMAGES_PER_PASS,
            return_convergence_delta=True,
        )
    )
    change = task.score(task.batch.values) - task.score(task.baseline)
    return MethodOutput(_summed(values), completeness_gap=float(gap), score_change=float(change))


@_method
def gradient_x_input(task: AttributionTask) -> MethodOutput:
    """Each pixel's gradient times its preprocessed value (Shrikumar et al., 2016)."""
    method = _captum().InputXGradient(task.module())
    return MethodOutput(_summed(method.attribute(_leaf(task))))


@_method
def smoothgrad(task: AttributionTask) -> MethodOutput:
    """The mean gradient over noisy copies of the image (Smilkov et al., 2017)."""
    values = task.batch.values
    noise = NOISE_SHARE * float(values.max() - values.min())
    captum = _captum()
    method = captum.NoiseTunnel(captum.Saliency(task.module()))
    with torch.random.fork_rng(devices=[]):  # captum draws from the global stream
        torch.manual_seed(task.seed)
        gradients = method.attribute(
            _leaf(task),
            nt_type="smoothgrad",
            nt_samples=task.samples,
            nt_samples_batch_size=min(8, task.samples),
            stdevs=noise,
            abs=False,
        )
    return MethodOutput(_summed(gradients))


@_method
def occlusion(task: AttributionTask) -> MethodOutput:
    """The score drop while a sliding window shows the baseline (Zeiler and Fergus, ECCV 2014).

    Each pixel gets the mean over the windows that cover it. Needs no gradient.
    """
    channels, size = task.batch.values.shape[1], task.batch.size
    strides = [max(1, math.ceil(side / _OCCLUSION_STRIDES)) for side in size]
    window = tuple(min(2 * stride, side) for stride, side in zip(strides, size, strict=True))
    method = _captum().Occlusion(task.module())
    with torch.no_grad():
        values = method.attribute(
            task.batch.values,
            sliding_window_shapes=(channels, *window),
            strides=(channels, *strides),
            baselines=task.baseline,
            perturbations_per_eval=_IMAGES_PER_PASS,
        )
    return MethodOutput(_array(values[0].mean(0)))


def compute_attribution(method: AttributionMethod, task: AttributionTask) -> MethodOutput:
    """Run one method; a network without a gradient is a ``ModelError`` of one line."""
    try:
        with task.model.eval_frozen():
            return _FUNCTIONS[method.name](task)
    except (ConvscopeError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, AssertionError) as error:
        other = next(one for one in METHODS.values() if not one.needs_gradient)
        raise ModelError(
            f"{task.model.name} has no gradient from {task.target.name} back to "
            f"{'layer ' + task.layer if method.needs_layer else 'the image'}: a step between "
            f"them is not differentiable ({one_line(error, 80)}). {other.title} needs none: "
            f"--method {other.name}"
        ) from error


# Channels


@dataclass(frozen=True, eq=False)
class ChannelAttribution:
    """What one channel of a layer contributes to a score.

    Attributes:
        address: The unit.
        attribution: Gradient × activation, summed over positions: the score to first order.
        score_drop: By how much the score falls when the channel is ablated (set to 0).
        values: Gradient × activation at every position, ``(h, w)`` float32.
    """

    address: str
    attribution: float
    score_drop: float
    values: NDArray[np.float32]


@dataclass(frozen=True)
class ChannelAttributions:
    """The channels of a layer with the largest absolute attribution, largest first.

    Attributes:
        layer: The layer's path.
        channels: The listed channels.
        joint_score_drop: By how much the score falls when all listed channels with a positive
            attribution are ablated together.
        positive_sum: Sum of all positive attributions of the layer, listed or not.
        channel_count: Number of channels of the layer.
    """

    layer: str
    channels: tuple[ChannelAttribution, ...]
    joint_score_drop: float
    positive_sum: float
    channel_count: int

    def sentence(self) -> str:
        """The share of the listed channels, and what ablating them does, in one line."""
        positive = [one for one in self.channels if one.attribution > 0]
        if not positive:
            return f"no listed channel of {self.layer} has a positive attribution"
        named = ", ".join(one.address.rpartition(":")[2] for one in positive[:5])
        share = sum(one.attribution for one in positive) / self.positive_sum
        return (
            f"{len(positive)} of {self.channel_count} channels of {self.layer} carry {share:.0%} "
            f"of the positive attribution (largest: {named}); ablated together they lower the "
            f"score by {self.joint_score_drop:.3g}"
        )


def rank_channels(task: AttributionTask, path: str, limit: int) -> ChannelAttributions:
    """The ``limit`` channels of a layer with the largest attributions, each ablated as a check."""
    maps = gradient_x_activation(task, path)
    sums = maps.sum((1, 2))
    order = np.argsort(-np.abs(sums), kind="stable")[:limit]
    score = float(task.score(task.batch.values))
    drops = [score - _ablated_score(task, path, [int(k)]) for k in order]
    channels = tuple(
        ChannelAttribution(f"{path}:{k}", float(sums[k]), drop, maps[k])
        for k, drop in zip(order, drops, strict=True)
    )
    positive = [int(k) for k in order if sums[k] > 0]
    joint = score - _ablated_score(task, path, positive) if positive else 0.0
    return ChannelAttributions(path, channels, joint, float(sums[sums > 0].sum()), len(sums))


def gradient_x_activation(task: AttributionTask, path: str) -> NDArray[np.float32]:
    """Gradient × activation at every position of every channel of a layer, ``(C, h, w)``."""
    module = task.module(path)
    with task.model.eval_frozen():
        method = _captum().LayerGradientXActivation(module, module.layer)
        values = method.attribute(task.batch.values)[0]
    return _array(values.reshape(len(values), -1, values.shape[-1] if values.ndim > 1 else 1))


def _ablated_score(task: AttributionTask, path: str, channels: Sequence[int]) -> float:
    ablated = task.model.edited({path: _ablation_of(channels)})
    return float(task.with_model(ablated).score(task.batch.values))


def _ablation_of(channels: Sequence[int]) -> Edit:
    def edit(values: Tensor) -> Tensor:
        mask = torch.ones(values.shape[1], dtype=torch.bool, device=values.device)
        mask[list(channels)] = False
        return torch.where(mask.view(1, -1, *[1] * (values.ndim - 2)), values, 0.0)

    return edit


def _captum() -> Any:
    return import_optional("captum.attr", "captum", "Attribution", "captum")


def _leaf(task: AttributionTask) -> Tensor:
    """The image as a leaf that requires a gradient; captum would warn that it makes it one."""
    return task.batch.values.detach().clone().requires_grad_()


def _summed(values: Tensor) -> NDArray[np.float32]:
    """The one image's values, summed over input channels: ``(h, w)``."""
    return _array(values[0].sum(0))


def _array(values: Tensor) -> NDArray[np.float32]:
    return values.detach().cpu().float().numpy()
