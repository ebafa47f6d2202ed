"""Capture: what a layer computed, always; and the model left as it was found."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import Functional, TinyCNN
from torch import Tensor, nn

import convscope as cs
from convscope._errors import ModelError, UnknownLayer
from convscope._models.hooks import function_name
from convscope._models.structure import replaced


def _load(module: nn.Module, *shape: int) -> Any:
    return cs.load(module, input=shape or (3, 10, 14))


def _images(*shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 3, 10, 14)), generator=torch.Generator().manual_seed(5))


class _Lambda(nn.Module):
    """A convolution, and whatever follows it."""

    def __init__(self, then: Callable[[Tensor], Tensor], channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.then = then

    def forward(self, x: Tensor) -> Tensor:
        return self.then(self.conv(x)).mean((2, 3))


def test_a_convolution_before_an_in_place_relu_shows_its_negative_values(tiny: TinyCNN) -> None:
    images = _images()
    maps = _load(tiny).activations(images, ["conv1", "relu1"])
    expected = F.conv2d(images, tiny.conv1.weight, tiny.conv1.bias, padding=1)
    torch.testing.assert_close(maps["conv1"], expected.detach(), atol=1e-6, rtol=0)
    assert maps["conv1"].min() < 0 <= maps["relu1"].min()


def test_an_in_place_module_costs_no_second_pass(tiny: TinyCNN) -> None:
    model, calls = _load(tiny), []
    model.activations(_images(), ["conv1", "relu1", "pool1"])  # checked once
    tiny.conv1.register_forward_hook(lambda *_: calls.append(1))
    model.activations(_images(), ["conv1", "relu1", "pool1"])
    assert calls == [1]


def _relu_(x: Tensor) -> Tensor:
    F.relu_(x)
    return x


def _add_(x: Tensor) -> Tensor:
    x += 1
    return x


def _set(x: Tensor) -> Tensor:
    x[:, 0] = 0
    return x


def _view(x: Tensor) -> Tensor:
    x.view(len(x), -1).mul_(2)
    return x


@pytest.mark.parametrize("then", [_relu_, F.relu_, _add_, _set, _view])
@pytest.mark.parametrize("grad", [False, True])
def test_what_code_writes_into_a_recorded_result_does_not_show(
    then: Callable[[Tensor], Tensor], grad: bool
) -> None:
    module = _Lambda(then)
    model, images = _load(module), _images()
    for _ in range(2):  # found out the first time, known the second
        maps = model.activations(images, ["conv", "/mean"], grad=grad)
        expected = module.conv(images)
        torch.testing.assert_close(maps["conv"], expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(maps["/mean"], module(images), atol=1e-6, rtol=0)
    if grad:
        (found,) = torch.autograd.grad(maps["/mean"].pow(2).sum(), maps["conv"])
        conv = module.conv(images).detach().requires_grad_()
        (truth,) = torch.autograd.grad(then(conv.clone()).mean((2, 3)).pow(2).sum(), conv)
        torch.testing.assert_close(found, truth, atol=1e-5, rtol=0)


def test_what_cannot_be_kept_apart_is_refused_in_one_line() -> None:
    def twice(x: Tensor) -> Tensor:
        F.relu_(x)  # its result is not used, x is
        x += 1
        return x

    model = _load(_Lambda(twice))
    assert model.activations(_images(), ["/relu", "/mean"])["/relu"].min() == 0
    with pytest.raises(ModelError, match="writes into the result of '/relu' where it cannot be"):
        model.activations(_images(), ["/relu", "/mean"], grad=True)


def test_the_network_may_write_into_its_input() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x.mul_(2)).relu_()

    images = _images()
    before, module = images.clone(), Writes()
    model = _load(module)
    maps = model.activations(images, ["conv", "/relu"])
    torch.testing.assert_close(images, before)
    torch.testing.assert_close(maps["conv"], module.conv(before * 2).detach())
    pixels = images.clone().requires_grad_()
    maps = model.activations(pixels, "conv", grad=True)
    (gradient,) = torch.autograd.grad(maps["conv"].sum(), pixels)
    expected = 2 * module.conv.weight.sum((0, 2, 3)).view(1, 3, 1, 1).expand_as(images)
    torch.testing.assert_close(gradient, expected)


# Addresses


def test_functions_and_second_calls_have_addresses_in_execution_order() -> None:
    layers = _load(Functional(), 2, 12, 16).layers
    assert [layer.path for layer in layers] == [
        "stem",
        "/relu",
        "pool",
        "block",
        "block.0",
        "block.0.conv",
        "block.0/relu",
        "block.0/add",
        "block.1",
        "block.1.conv",
        "block.1/relu",
        "block.1/add",
        "pool#2",
        "leaf",
        "/sub",
        "/relu#2",
        "/adaptive_avg_pool2d",
        "/flatten",
        "head",
    ]
    assert layers["pool"].shape == (4, 6, 8)
    assert layers["pool#2"].shape == (4, 3, 4)
    assert (layers["block.0/add"].kind, layers["block.0/add"].function) == ("add", True)
    assert (layers["block.0/add"].depth, layers["block.0.conv"].depth, layers["/relu"].depth) == (
        2,
        2,
        0,
    )
    assert [la.path for la in layers if la.container] == ["block", "block.0", "block.1"]
    assert [la.path for la in layers.select("kind=conv")] == [
        "stem",
        "block.0.conv",
        "block.1.conv",
    ]


def test_addresses_give_what_a_pass_by_hand_gives() -> None:
    module, images = Functional(), _images(2, 2, 12, 16)
    model = _load(module, 2, 12, 16)
    wanted = ["/relu", "block.0/add", "block.1/relu", "pool#2", "/relu#2", "leaf"]
    with torch.no_grad():
        stem = F.relu(module.stem(images))
        pooled = F.max_pool2d(stem, 2)
        add0 = F.relu(module.block[0].conv(pooled)) + pooled
        relu1 = F.relu(module.block[1].conv(add0))
        pool2 = F.max_pool2d(relu1 + add0, 2)
        leaf = torch.tanh(pool2) * 2
    truth = dict(zip(wanted, [stem, add0, relu1, pool2, F.relu(1 - leaf), leaf], strict=True))
    for grad in (False, True):
        maps = model.activations(images, wanted, grad=grad)
        for path, expected in truth.items():
            torch.testing.assert_close(maps[path], expected, atol=1e-6, rtol=0)
    alone = model.activations(images, "pool#2")
    torch.testing.assert_close(alone["pool#2"], pool2)


def test_names_of_functions() -> None:
    named = {
        Tensor.add_: "add",
        Tensor.__radd__: "add",
        Tensor.__iadd__: "add",
        F.relu_: "relu",
        Tensor.__rsub__: "sub",
        Tensor.__truediv__: "div",
        torch.cat: "cat",
    }
    assert [function_name(function) for function in named] == list(named.values())


def test_functional_max_pooling_has_its_name() -> None:
    layers = _load(_Lambda(lambda x: F.max_pool2d(F.dropout(x, training=False), 2))).layers
    assert [layer.path for layer in layers] == ["conv", "/dropout", "/max_pool2d", "/mean"]


def test_an_unknown_layer_names_the_near_one_and_the_table(tiny: TinyCNN) -> None:
    with pytest.raises(UnknownLayer) as caught:
        _load(tiny).activations(_images(), "conv3")
    text = str(caught.value)
    assert text.startswith("No layer 'conv3' in TinyCNN. Close: 'conv1', 'conv2'.")
    assert "model.layers" in text
    assert "\n" not in text


def test_a_layer_that_this_input_does_not_reach_is_named() -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.tall = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.wide(x) if x.shape[3] >= x.shape[2] else self.tall(x)

    model = _load(Branch())
    assert "tall" not in model.layers
    with pytest.raises(UnknownLayer, match="Layer 'wide' of Branch was not called, or gave no"):
        model.activations(_images(1, 3, 14, 10), "wide")


# The pass ends at the deepest layer


class _Fails(nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.first, self.error = nn.Conv2d(3, 4, 1), error
        self.act, self.norm = nn.ReLU(inplace=True), nn.BatchNorm2d(4)
        self.armed = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.act(self.first(x)))
        if self.armed:
            raise self.error
        return F.relu(x)


def test_nothing_past_the_deepest_layer_is_computed() -> None:
    module = _Fails(RuntimeError("reached"))
    model = _load(module)
    assert len(model.layers) == 4
    module.armed = True
    assert set(model.activations(_images(), ["first", "norm"])) == {"first", "norm"}
    with pytest.raises(
        ModelError, match="Fails failed on an input of 3×10×14: RuntimeError: reach"
    ):
        model.logits(_images())


# The model is left as it was found


def _state(module: nn.Module) -> Any:
    hooks = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_forward_hooks_always_called",
    )
    return (
        [(part.training, getattr(part, "inplace", None)) for part in module.modules()],
        [(p.requires_grad, p.grad is None, p._version) for p in module.parameters()],
        {name: buffer.clone() for name, buffer in module.named_buffers()},
        [len(getattr(part, hook)) for part in module.modules() for hook in hooks],
    )


def _assert_same(before: Any, after: Any) -> None:
    assert before[:2] == after[:2]
    assert before[3] == after[3]
    assert all(torch.equal(before[2][name], after[2][name]) for name in before[2])


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("call", ["activations", "gradients", "functions", "logits", "layers"])
def test_after_an_exception_the_model_is_as_before(error: BaseException, call: str) -> None:
    module = _Fails(error).train()
    module.first.bias.requires_grad_(False)
    model = _load(module)
    if call != "layers":
        assert model.layers
    before, module.armed = _state(module), True
    calls: dict[str, Callable[[], Any]] = {
        "activations": lambda: model.activations(_images(), "/relu"),
        "gradients": lambda: model.activations(_images(), ["first", "/relu"], grad=True),
        "functions": lambda: model.activations(_images(), "kind=relu"),
        "logits": lambda: model.logits(_images()),
        "layers": lambda: model.layers,
    }
    expected = ModelError if isinstance(error, Exception) else type(error)
    with pytest.raises(expected):
        calls[call]()
    _assert_same(before, _state(module))
    assert torch.is_grad_enabled()
    module.armed = False
    assert model.activations(_images(), "first")["first"].min() < 0


def test_after_success_the_model_is_as_before_and_its_parameters_have_no_gradient(
    tiny: TinyCNN,
) -> None:
    tiny.train()
    tiny.conv2.weight.requires_grad_(False)
    before = _state(tiny)
    model = _load(tiny)
    maps = model.activations(_images(), ["conv1", "norm2", "fc"], grad=True)
    maps["fc"].sum().backward()
    model.predict(_images())
    assert all(parameter.grad is None for parameter in tiny.parameters())
    _assert_same(before, _state(tiny))
    assert tiny.training
    assert tiny.relu1.inplace


def test_batch_normalization_is_in_evaluation_mode(tiny: TinyCNN) -> None:
    expected = copy.deepcopy(tiny).eval()(_images())
    torch.testing.assert_close(_load(tiny.train()).logits(_images()), expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_gradient_mode_does_not_matter(tiny: TinyCNN, mode: Any) -> None:
    model = _load(tiny)
    with mode():
        images = _images().requires_grad_() if mode is torch.no_grad else _images()
        maps = model.activations(images, ["conv1", "fc"], grad=True)
    assert maps["fc"].requires_grad
    (gradient,) = torch.autograd.grad(maps["fc"].sum(), maps["conv1"])
    assert gradient.abs().sum() > 0


def test_a_users_own_hooks_stay_and_are_effective(tiny: TinyCNN) -> None:
    handle = tiny.conv1.register_forward_hook(lambda _m, _i, output: output + 100)
    maps = _load(tiny).activations(_images(), "conv1")
    assert maps["conv1"].min() > 50
    assert len(tiny.conv1._forward_hooks) == 1
    handle.remove()


def test_two_threads_on_one_model_get_right_results(tiny: TinyCNN) -> None:
    model = _load(tiny.train())
    assert model.layers
    batches = [_images(1, 3, 10, 14) * (k + 1) for k in range(8)]
    with torch.no_grad():
        truth = [F.conv2d(b, tiny.conv1.weight, tiny.conv1.bias, padding=1) for b in batches]
    found: dict[int, Tensor] = {}
    go = threading.Barrier(8)

    def work(k: int) -> None:
        go.wait()
        for _ in range(5):
            path = ["conv1", "norm2"] if k % 2 else ["conv1", "/mean"]
            found[k] = model.activations(batches[k], path, grad=k % 3 == 0)["conv1"].detach()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(8):
        torch.testing.assert_close(found[k], truth[k], atol=1e-6, rtol=0)
    assert tiny.training


# Gradients


def test_the_gradient_at_a_layer_is_that_of_what_follows_it_only() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.same = nn.Conv2d(3, 4, 1), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return x * 2 + self.same(x)

    maps = _load(Skip()).activations(_images(), ["conv", "same", "/add"], grad=True)
    conv, same = torch.autograd.grad(maps["/add"].sum(), [maps["conv"], maps["same"]])
    torch.testing.assert_close(conv, torch.full_like(conv, 3.0))
    torch.testing.assert_close(same, torch.ones_like(same))


def test_gradients_reach_the_layers_of_a_half_precision_model(tiny: TinyCNN) -> None:
    model = _load(tiny.to(torch.bfloat16))
    maps = model.activations(_images(), ["conv1", "fc"], grad=True)
    assert {t.dtype for t in maps.values()} == {torch.float32}
    (gradient,) = torch.autograd.grad(maps["fc"].sum(), maps["conv1"])
    assert gradient.abs().sum() > 0


def test_tuples_and_dicts_keep_their_structure() -> None:
    old, new = torch.zeros(1), torch.ones(1)
    assert replaced((old, {"a": [old, 3]}), old, new) == (new, {"a": [new, 3]})

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> dict[str, Any]:
            return {"label": 3, "maps": self.conv(x), "other": x}

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()

        def forward(self, x: Tensor) -> Tensor:
            result = self.pair(x)
            assert result["label"] == 3
            return result["maps"].sum((2, 3))

    maps = _load(Outer()).activations(_images(), ["pair", "/sum"], grad=True)
    (gradient,) = torch.autograd.grad(maps["/sum"].sum(), maps["pair"])
    torch.testing.assert_close(gradient, torch.ones_like(gradient))


# Random graphs against a recording made another way

_STEPS = st.lists(
    st.sampled_from(["conv", "relu", "relu in place", "F.relu_", "pool", "add", "+="]),
    min_size=1,
    max_size=7,
)


class _Graph(nn.Module):
    def __init__(self, steps: list[str], seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.steps = steps
        makers: dict[str, Callable[[], nn.Module]] = {
            "conv": lambda: nn.Conv2d(3, 3, 3, padding=1),
            "relu": nn.ReLU,
            "relu in place": lambda: nn.ReLU(inplace=True),
            "pool": lambda: nn.AvgPool2d(3, 1, 1),
        }
        self.parts = nn.ModuleList(makers[s]() if s in makers else nn.Identity() for s in steps)
        self.pure = False

    def forward(self, x: Tensor) -> Tensor:
        past = [x := x * 1]
        for step, part in zip(self.steps, self.parts, strict=True):
            x = part(x)
            if step == "F.relu_":
                x = torch.relu(x) if self.pure else F.relu_(x)
            elif step == "add":
                x = x + past[len(past) // 2]
            elif step == "+=":
                x = x + 1 if self.pure else x.add_(1)
            # A sum with what was overwritten would be another network.
            past.append(x.clone())
        return x


@given(steps=_STEPS, seed=st.integers(0, 99), grad=st.booleans())
@settings(max_examples=40, deadline=None)
def test_random_graphs_agree_with_an_independent_recording(
    steps: list[str], seed: int, grad: bool
) -> None:
    module = _Graph(steps, seed)
    tiny = copy.deepcopy(module)
    tiny.pure = True
    truth: dict[str, Tensor] = {}
    for path, part in tiny.named_modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False
        if path.startswith("parts."):
            part.register_forward_hook(
                lambda _m, _i, output, path=path: truth.update({path: output.clone()})
            )
    images = _images(1, 3, 5, 6)
    with torch.no_grad():
        logits = tiny(images)
    model = _load(module, 3, 5, 6)
    maps = model.activations(images, "parts.*", grad=grad)
    assert maps.keys() == truth.keys()
    for path, expected in truth.items():
        torch.testing.assert_close(maps[path].detach(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.logits(images), logits, atol=1e-5, rtol=0)
