"""The climb ascends, repeats itself, leaves the model alone, says in one line what fails."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import convscope as cs
from convscope._errors import ModelError, UnknownLayer, UsageError
from convscope._models import Model
from convscope._optvis import (
    Fourier,
    Objective,
    OptimizationStep,
    OptimizedImages,
    Pixels,
    Transforms,
    between,
    caricature,
    channel,
    direction,
    diversity,
    layer,
    logit,
    maximize,
    neuron,
)

STILL = Transforms(0, 0, 0, 0, 0)
Loader = Callable[..., Model]


def network(channels: int = 3) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
        nn.Softmax(1),
    )


PICTURE = np.random.default_rng(1).integers(0, 255, (24, 24, 3), np.uint8)
OBJECTIVES = {
    "channel": channel("4", 2),
    "linear layer's channel": channel("8", 1),
    "neuron": neuron("4", 2),
    "neuron at a position": neuron("4", 2, (3, 7)),
    "layer": layer("5"),
    "direction": direction("4", np.arange(8) - 3.5),
    "direction, cosine": direction("4", np.arange(8) - 3.5, power=2),
    "logit": logit(3),
    "logit by name": logit("Frog"),
    "sum": 2 * channel("4", 2) + channel("4", 3) / 2,
    "difference": channel("4", 2) - channel("0", 1),
    "negation": -channel("4", 2),
    "between": between(channel("4", 1), channel("4", 2)),
    "diversity": channel("4", 2) + diversity("4"),
    "caricature": caricature(PICTURE, "5"),
}


@pytest.mark.parametrize("param", [Fourier(), Pixels()], ids=["fourier", "pixels"])
@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_everything_ascends(small: Loader, objective: Objective, param: Fourier | Pixels) -> None:
    model = small(network())
    model.set_input(classes=("cat", "dog", "bird", "frog"))
    gallery = maximize(model, objective, steps=16, param=param, transforms=STILL, count=2)
    for one in gallery:
        assert one.curve[-1] > one.curve[0]
        assert one.activation == pytest.approx(float(one.curve[-1]), rel=0.3, abs=0.05)


def test_a_logit_is_taken_before_the_softmax(small: Loader) -> None:
    from convscope._models.layer_roles import output_layer

    assert output_layer(small(network())) == "8"
    assert output_layer(small(network()[:-1])) == "8"


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("size", [(24, 24), (17, 30)])
def test_any_size_and_number_of_channels(
    small: Loader, channels: int, size: tuple[int, int]
) -> None:
    seen = maximize(small(network(channels), channels), "4:2", steps=4, size=size)
    assert seen.values.shape == (channels, *size)
    assert ("decorrelated" in seen.run.param) == (channels == 3)
    assert seen.sheet().image.size


def test_the_same_seed_gives_the_same_bits(small: Loader) -> None:
    first, again, other = (
        maximize(small(network()), ["4:2", "4:3"], steps=12, seed=seed) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first[0].values, again[0].values)
    np.testing.assert_array_equal(first[1].curve, again[1].curve)
    assert (first[0].values != other[0].values).mean() > 0.5


@pytest.mark.parametrize("batch", [1, 3, None])
def test_a_unit_alone_and_in_a_batch_agree(small: Loader, batch: int | None) -> None:
    """To 2 levels of 255; convolutions differ in the last bits between batch sizes."""
    model = small(network())
    alone = maximize(model, "4:2", steps=24)
    among = maximize(model, ["4:5", "4:2", "0:1", "5:7"], steps=24, batch_size=batch)[1]
    np.testing.assert_allclose(among.values, alone.values, atol=2 / 255)


def test_gradients_equal_finite_differences(small: Loader) -> None:
    """Through waves, colors, every move, the normalization and the network, in one go."""
    from convscope._optvis.optimizer import Optimization, OptimizationPlan, RenderTarget
    from convscope._optvis.transforms import Normalizer

    model = small(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Conv2d(4, 3, 3), nn.Tanh()))
    wanted = channel("3", 1) - 0.5 * channel("1", 2)
    plan = OptimizationPlan((12, 10), 4, Fourier(std=1.0), Transforms())
    climb = Optimization(
        Normalizer(model),
        [RenderTarget(wanted, wanted.bind(model), 0, 1)],
        plan,
        torch.device("cpu"),
    )
    plan_noise = climb._noise((1, 3, 12, 10))
    climb._noise = lambda _shape: plan_noise  # type: ignore[method-assign]
    _, gradient = climb._scores_and_gradient(0)
    generator = torch.Generator().manual_seed(1)
    toward = torch.randn(climb._state.shape, generator=generator)
    scores = []
    for sign in (1, -1):
        with torch.no_grad():
            climb._state += sign * 1e-2 * toward
        scores.append(float(climb._scores_and_gradient(0)[0]))
        with torch.no_grad():
            climb._state -= sign * 1e-2 * toward
    measured = (scores[0] - scores[1]) / 2e-2
    assert float((gradient * toward).sum()) == pytest.approx(measured, rel=0.02)


def test_a_coarse_picture_is_the_fine_one_without_its_detail() -> None:
    state = Fourier().random(3, (64, 48), [torch.Generator().manual_seed(0)]) * 20
    state[:, :, 12:-12] = 0
    state[:, :, :, 10:] = 0  # nothing that the coarse picture cannot hold
    fine = Fourier().to_image(state, (64, 48))
    coarse = Fourier().to_image(state, (64, 48), (32, 24))
    torch.testing.assert_close(fine[..., ::2, ::2], coarse, atol=1e-4, rtol=0)


@pytest.mark.parametrize("param", [Fourier(), Pixels(), Fourier(decorrelate=False)])
def test_a_climb_may_start_from_a_picture(small: Loader, param: Fourier | Pixels) -> None:
    inner = PICTURE.clip(20, 230)
    seen = maximize(small(network()), "4:2", steps=1, start=inner, param=param, learning_rate=1e-6)
    np.testing.assert_allclose(seen.values, inner.transpose(2, 0, 1) / 255, atol=1.5 / 255)


class Watched(Exception):
    pass


def state_of(module: nn.Module) -> list[object]:
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules()]
    modes = [(m.training, getattr(m, "inplace", None)) for m in module.modules()]
    weights = [(p.requires_grad, p.grad is None) for p in module.parameters()]
    return [hooks, modes, weights]


@pytest.mark.parametrize("stop", [None, Watched, KeyboardInterrupt])
def test_the_model_is_left_as_found(small: Loader, stop: type[BaseException] | None) -> None:
    module = network().train()
    before, values = state_of(module), {k: v.clone() for k, v in module.state_dict().items()}

    def watch(step: OptimizationStep) -> None:
        if stop and step.done == 3:
            raise stop

    if stop is Watched:
        with pytest.raises(Watched):
            maximize(small(module), "5:1", steps=8, on_step=watch)
    else:
        maximize(small(module), "5:1", steps=8, on_step=watch)
    assert state_of(module) == before
    assert all(torch.equal(v, values[k]) for k, v in module.state_dict().items())


def test_ctrl_c_keeps_what_is_done(small: Loader) -> None:
    def watch(step: OptimizationStep) -> None:
        if step.done == 11:
            raise KeyboardInterrupt

    done = maximize(small(network()), ["4:1", "4:2", "4:3"], steps=8, batch_size=1, on_step=watch)
    assert [len(one.curve) for one in done] == [8, 3]
    assert "interrupted after 3 of 8 steps" in done[1].sheet().description


def test_progress_is_told_and_can_be_looked_at(small: Loader) -> None:
    steps: list[tuple[int, int]] = []
    shapes = set()

    def watch(step: OptimizationStep) -> None:
        steps.append((step.done, step.total))
        shapes.add(tuple(step.images().shape))

    maximize(small(network()), ["4:1", "4:2"], steps=3, batch_size=1, on_step=watch)
    assert steps == [(k, 6) for k in range(1, 7)]
    assert shapes == {(1, 3, 24, 24)}


def test_a_layer_stands_for_all_its_channels(small: Loader) -> None:
    gallery = maximize(small(network()), "4", steps=2)
    assert isinstance(gallery, OptimizedImages)
    assert [one.objective for one in gallery] == [f"4:{k}" for k in range(8)]


def test_activations_are_compared_with_images(small: Loader) -> None:
    model = small(network())
    images = [PICTURE, PICTURE[::-1].copy(), np.zeros_like(PICTURE)]
    seen = maximize(model, "5:6", steps=8, images=images)
    levels = [float(model.activations(i, "5")["5"][0, 6].mean()) for i in images]
    assert seen.highest == pytest.approx(max(levels), rel=1e-5)
    assert seen.run.compared_images == 3
    assert seen.ratio is None or seen.ratio == pytest.approx(seen.activation / max(levels))


def test_the_activation_is_that_of_the_eight_bit_picture(small: Loader) -> None:
    model = small(network())
    seen = maximize(model, "4:2", steps=8)
    value = model.activations(seen.image, "4")["4"][0, 2].mean()
    assert seen.activation == pytest.approx(float(value), rel=1e-5)


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.detach())


def broken() -> nn.Module:
    module = network()
    module[4].weight.data[:] = torch.nan  # type: ignore[union-attr]
    return module


@pytest.mark.parametrize(
    ("module", "what", "options", "kind", "text"),
    [
        (network, "4:8", {}, UnknownLayer, "No channel 8 in '4'"),
        (network, "conv9:1", {}, UnknownLayer, "No layer 'conv9'"),
        (network, "4:1 +", {}, UsageError, "ends where a unit is missing"),
        (network, direction("4", [1.0] * 5), {}, UsageError, "8 numbers, one per channel, not 5"),
        (network, logit("owl"), {}, UsageError, "No class 'owl'"),
        (network, "4:1", {"size": 3}, ModelError, "failed on an input of 3×3×3"),
        (network, "4:1", {"size": 1}, UsageError, "too small"),
        (network, "4:1", {"steps": 0}, UsageError, "Nearest: 1"),
        (network, "4:1", {"param": "fourrier"}, UsageError, "Close: 'fourier'"),
        (broken, "4:1", {}, ModelError, "may hold NaN"),
        (broken, ["0:1", "4:1"], {}, ModelError, "4:1 of"),
        (Detached, "conv:1", {}, ModelError, "No gradient leads from 'conv'"),
    ],
)
def test_what_cannot_be_is_one_line(
    small: Loader,
    module: Callable[[], nn.Module],
    what: object,
    options: dict[str, object],
    kind: type[Exception],
    text: str,
) -> None:
    with pytest.raises(kind) as error:
        maximize(small(module()), what, **{"steps": 2, **options})
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_others_wait_while_a_model_is_at_rest(small: Loader) -> None:
    model = small(network().train())
    order: list[str] = []
    with model.eval_frozen():
        assert model.module.training  # a replica is in evaluation mode, not the user's network
        thread = threading.Thread(target=lambda: (model.logits(PICTURE), order.append("other")))
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]
    assert model.module.training


def test_it_is_public(small: Loader) -> None:
    seen = cs.maximize(small(network()), cs.channel("4", 3) - 0.5 * cs.channel("4", 7), steps=2)
    assert seen.objective == "4:3 - 0.5 * 4:7"
