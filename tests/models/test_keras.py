"""Keras models on the torch backend: every way of making one, addresses, ``PATH/pre``."""

from __future__ import annotations

import threading
from copy import deepcopy
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from keras.src.backend.common.global_state import get_global_attribute
from torch import Tensor

import convscope as cs
from convscope._errors import ModelError

# Keras turns torch tensors into arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

SIZE = (3, 8, 10)


@pytest.fixture(autouse=True)
def seeded() -> None:
    keras.utils.set_random_seed(1)


class Subclassed(keras.Model):
    """Layers in attributes and lists, one used twice, a function between, an inner model."""

    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.stem = layers.Conv2D(4, 3, padding="same", name="stem")
        self.pool = layers.MaxPooling2D(2, name="pool")
        self.blocks = [Block(name="block_a"), Block(name="block_b")]
        self.head = keras.Sequential([layers.Dense(3, name="fc")], name="head")

    def call(self, x: Any) -> Any:
        x = self.pool(keras.ops.relu(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(keras.ops.mean(self.pool(x), (1, 2)))


class Block(layers.Layer):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.conv = layers.Conv2D(4, 3, padding="same", name="conv")

    def call(self, x: Any) -> Any:
        return self.conv(x) + x


def _nested() -> Any:
    inner = keras.Sequential(
        [layers.Conv2D(4, 3, padding="same", name="a"), layers.ReLU(name="b")], name="inner"
    )
    inputs = keras.Input((8, 10, 3))
    x = layers.MaxPooling2D(2, name="pool")(inner(inputs))
    x = keras.ops.add(x, 1.0)
    return keras.Model(inputs, layers.GlobalAveragePooling2D(name="mean")(x), name="nested")


def _images() -> Tensor:
    return torch.rand(2, 8, 10, 3, generator=torch.Generator().manual_seed(0))


def test_a_subclassed_model_is_built_with_the_given_input_and_inspected() -> None:
    module = Subclassed()
    model = cs.load(module, input=SIZE)
    assert [layer.path for layer in model.layers] == [
        "stem",
        "/relu",
        "pool",
        "block_a",
        "block_a.conv",
        "block_a/add",
        "block_b",
        "block_b.conv",
        "block_b/add",
        "pool#2",
        "/mean",
        "head",
        "head.fc",
    ]
    maps = model.activations(_images(), ["stem", "block_a/add", "pool#2", "head.fc"], grad=True)
    stem = module.stem(_images())
    torch.testing.assert_close(maps["stem"], stem.permute(0, 3, 1, 2))
    block = module.blocks[0](module.pool(keras.ops.relu(stem)))
    torch.testing.assert_close(maps["block_a/add"], block.permute(0, 3, 1, 2))
    torch.testing.assert_close(maps["head.fc"], module(_images()))
    assert maps["pool#2"].shape == (2, 4, 2, 2)


def test_an_unbuilt_model_without_a_size_gives_advice() -> None:
    model = cs.load(Subclassed())
    with pytest.raises(ModelError) as caught:
        model.layers  # noqa: B018
    assert str(caught.value) == (
        "subclassed has not been built, so it has no layers yet. Call it once on a batch, or give "
        "its input shape: --input C,H,W"
    )
    module = Subclassed()
    module(_images())
    assert "head.fc" in cs.load(module).layers


def test_a_nested_model() -> None:
    module = _nested()
    model = cs.load(module)
    assert (model.input.channels, model.input.size) == (3, (8, 10))
    assert [layer.path for layer in model.layers] == [
        "inner",
        "inner.a",
        "inner.b",
        "pool",
        "/add",
        "mean",
    ]
    assert model.layers["inner"].container
    maps = model.activations(_images(), ["inner.a", "/add"])
    inner = module.get_layer("inner").get_layer("a")(_images())
    torch.testing.assert_close(maps["inner.a"], inner.permute(0, 3, 1, 2))


def test_shared_layers_and_layers_of_one_name_are_distinguished() -> None:
    class Odd(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="odd")
            self.one = layers.Conv2D(2, 1, name="conv")
            self.two = layers.Conv2D(5, 1, name="conv")

        def call(self, x: Any) -> Any:
            return self.two(self.one(self.one(x)[..., :1] + x))

    shapes = {la.path: la.shape for la in cs.load(Odd(), input=SIZE).layers.select("kind=conv")}
    assert shapes == {"conv": (2, 8, 10), "conv#2": (2, 8, 10), "conv_2": (5, 8, 10)}


def test_the_pass_ends_early_and_keras_is_left_in_order() -> None:
    calls = []

    class Counts(layers.Layer):
        def call(self, x: Any) -> Any:
            calls.append(1)
            return x

    inputs = keras.Input((8, 10, 3))
    conv = layers.Conv2D(2, 3, name="conv")(inputs)
    model = cs.load(keras.Model(inputs, Counts(name="counts")(conv)))
    model.activations(_images(), "conv")  # checked once
    calls.clear()
    model.activations(_images(), "conv")
    assert calls == []
    assert get_global_attribute("current_call_ctx") is None
    model.logits(_images())
    assert calls == [1]


def test_after_an_exception_no_hook_is_left() -> None:
    class Fails(layers.Layer):
        armed = False

        def call(self, x: Any) -> Any:
            if Fails.armed:
                raise ValueError("boom")
            return x

    inputs = keras.Input((8, 10, 3))
    x = layers.Conv2D(2, 3, activation="relu", name="conv")(inputs)
    module = keras.Model(inputs, Fails(name="fails")(x))
    model = cs.load(module)
    assert model.layers
    Fails.armed = True
    activation, trainable = module.get_layer("conv").activation, module.trainable
    with pytest.raises(ModelError, match="boom"):
        model.activations(_images(), ["conv/pre", "conv", "fails"], grad=True)
    for layer in [module, *module.layers]:
        assert not layer._forward_hooks
        assert not layer._forward_pre_hooks
    assert module.get_layer("conv").activation is activation
    assert module.trainable is trainable
    assert all(p.requires_grad and p.grad is None for p in module.get_layer("conv").parameters())


def test_dropout_is_off_and_statistics_stay() -> None:
    inputs = keras.Input((8, 10, 3))
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(2, 3, name="conv")(inputs))
    module = keras.Model(inputs, layers.Dropout(0.9, name="drop")(x))
    norm = module.get_layer("norm")
    before = [np.array(keras.ops.convert_to_numpy(v)) for v in norm.variables]
    model = cs.load(module)
    maps = model.activations(_images(), ["norm", "drop"])
    torch.testing.assert_close(maps["norm"], maps["drop"])
    for was, now in zip(before, norm.variables, strict=True):
        np.testing.assert_array_equal(was, keras.ops.convert_to_numpy(now))
    assert model.untrained_evidence() == "its batch normalizations have never seen a batch"


# The owner's own use of the network


def _gradients(module: Any, images: Tensor) -> list[Tensor]:
    """The output of a training step, and the gradient of every kernel and bias."""
    output = module(images, training=True)
    held = [variable.value for variable in module.trainable_variables]
    return [output.detach(), *torch.autograd.grad((output**2).sum(), held)]


def test_the_owner_may_train_it_meanwhile_in_another_thread() -> None:
    module, images, own = _fused(), _images(), torch.rand(2, 8, 10, 3)
    truth, untouched = _gradients(module, own), deepcopy(module)
    model, wanted = cs.load(module), ["conv/pre", "depth", "einsum", "fc/pre"]
    expected = cs.load(untouched).activations(images, wanted)
    failures, done = list[str](), threading.Event()

    def train() -> None:
        try:
            for _ in range(200):
                for found, right in zip(_gradients(module, own), truth, strict=True):
                    torch.testing.assert_close(found, right)
        except BaseException as error:
            failures.append(repr(error))
        done.set()

    thread = threading.Thread(target=train)
    thread.start()
    while not done.is_set():
        for grad in (False, True):
            maps = model.activations(images, wanted, grad=grad)
            for path in wanted:
                torch.testing.assert_close(maps[path].detach(), expected[path])
    thread.join()
    assert failures == []


def test_gradients_reach_no_variable_of_the_owner() -> None:
    module = _fused()
    maps = cs.load(module).activations(_images(), ["conv#2", "fc/pre"], grad=True)
    maps["fc/pre"].sum().backward()
    held = [variable.value for variable in module.variables]
    assert all(value.requires_grad and value.grad is None for value in held)


def test_what_asks_for_its_mode_is_not_trained_and_what_it_writes_is_taken_back() -> None:
    modes = []

    class Asks(layers.Layer):
        def build(self, shape: Any) -> None:
            self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x: Any) -> Any:
            modes.append(self.training)
            self.count.assign(self.count + 1)
            self.add_loss(keras.ops.mean(x))
            return x * (1 + self.count)

    class Holds(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.norm = layers.TorchModuleWrapper(torch.nn.BatchNorm2d(8), name="norm")
            self.asks = Asks(name="asks")

        def call(self, x: Any) -> Any:
            return self.asks(self.norm(x))

    module = Holds()
    module(_images(), training=False)
    module.train()
    asks, norm, wrapped = module.asks, module.norm.module, module.norm
    asks.count.assign(0)
    before = deepcopy(norm.state_dict())
    modes.clear()
    maps = cs.load(module, input=SIZE).activations(_images(), ["norm", "asks"])
    torch.testing.assert_close(maps["asks"], 2 * maps["norm"])
    assert set(modes) == {False}
    assert asks.training
    assert norm.training
    assert wrapped.training
    assert float(asks.count) == 0
    assert asks.losses == []
    assert all(torch.equal(before[name], now) for name, now in norm.state_dict().items())


# Before a fused activation


def _fused() -> Any:
    inputs = keras.Input((8, 10, 3))
    shared = layers.Conv2D(3, 3, padding="same", activation="relu", name="conv")
    x = layers.DepthwiseConv2D(3, activation="tanh", name="depth")(shared(shared(inputs)))
    x = layers.EinsumDense("bhwc,cd->bhwd", (None, None, 4), activation="gelu", name="einsum")(x)
    x = layers.Conv2D(4, 1, name="linear")(x)
    x = layers.Activation("relu", name="act")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax", name="fc")(x), name="fused")


def test_results_before_a_fused_activation_stand_before_their_layer() -> None:
    found = cs.load(_fused()).layers
    assert [layer.path for layer in found] == [
        "conv/pre",
        "conv",
        "conv/pre#2",
        "conv#2",
        "depth/pre",
        "depth",
        "einsum/pre",
        "einsum",
        "linear",
        "act",
        "mean",
        "fc/pre",
        "fc",
    ]
    assert found["conv/pre"].shape == found["conv"].shape == (3, 8, 10)
    assert (found["fc/pre"].function, found["fc/pre"].depth) == (True, 0)
    assert "conv/pre" not in [layer.path for layer in found.select("kind=conv")]


def test_results_before_a_fused_activation_are_true_alone_and_together() -> None:
    module = _fused()
    model, images = cs.load(module), _images()
    conv, fc = module.get_layer("conv"), module.get_layer("fc")
    first = keras.ops.conv(images, conv.kernel, padding="same") + conv.bias
    for wanted in (["conv/pre"], ["conv/pre", "conv", "conv/pre#2", "fc/pre", "fc"]):
        maps = model.activations(images, wanted)
        assert list(maps) == wanted
        torch.testing.assert_close(maps["conv/pre"], first.detach().permute(0, 3, 1, 2))
    assert maps["conv/pre"].min() < 0
    torch.testing.assert_close(maps["conv"], maps["conv/pre"].relu())
    torch.testing.assert_close(maps["fc"], maps["fc/pre"].softmax(1))
    assert fc.activation is keras.activations.softmax
    assert conv.activation is keras.activations.relu


def test_the_gradient_before_a_fused_activation_is_that_of_the_logits() -> None:
    model = cs.load(_fused())
    wanted = ["conv/pre#2", "conv#2", "fc/pre", "fc"]
    maps = model.activations(_images(), wanted, grad=True)
    pre, post, logits = torch.autograd.grad(
        maps["fc"][:, 2].sum(), [maps[path] for path in wanted[:3]]
    )
    torch.testing.assert_close(pre, post * (maps["conv/pre#2"] > 0))
    p = maps["fc"].detach()
    expected = p[:, 2:3] * (torch.nn.functional.one_hot(torch.tensor(2), 5) - p)
    torch.testing.assert_close(logits, expected)


_GIVEN = {
    "name": ("tanh", torch.tanh),
    "function": (keras.activations.relu, torch.relu),
    "lambda": (lambda x: keras.ops.relu(x), torch.relu),
    "leaky": (layers.LeakyReLU(0.1), lambda x: torch.nn.functional.leaky_relu(x, 0.1)),
    "relu": (layers.ReLU(max_value=0.5), lambda x: x.clamp(0, 0.5)),
    "general": (layers.Activation("tanh"), torch.tanh),
    "trained": (layers.PReLU(alpha_initializer="ones"), lambda x: x),
    "nested": (
        keras.Sequential([layers.ReLU(), layers.Activation("tanh")]),
        lambda x: x.relu().tanh(),
    ),
}


@pytest.mark.parametrize("given", _GIVEN)
def test_an_activation_is_part_of_its_layer_however_it_is_given(given: str) -> None:
    held, function = _GIVEN[given]
    inputs, images = keras.Input((8, 10, 3)), _images()
    module = keras.Model(inputs, layers.Conv2D(2, 3, activation=held, name="conv")(inputs))
    conv, model = module.get_layer("conv"), cs.load(module)
    assert [layer.path for layer in model.layers] == ["conv/pre", "conv"]
    assert not model.layers["conv"].container
    kernel, bias = (torch.from_numpy(each) for each in conv.get_weights()[:2])
    expected = torch.nn.functional.conv2d(
        images.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), bias
    )
    activation, tracked = conv.activation, list(conv._layers)
    for grad in (False, True):
        maps = model.activations(images, ["conv/pre", "conv"], grad=grad)
        torch.testing.assert_close(maps["conv/pre"].detach(), expected)
        torch.testing.assert_close(maps["conv"].detach(), function(expected))
    assert conv.activation is activation
    assert conv._layers == tracked
    torch.testing.assert_close(module(images).detach(), function(expected).permute(0, 2, 3, 1))


def test_logits_stand_before_a_softmax_that_is_a_layer() -> None:
    inputs = keras.Input((8, 10, 3))
    x = layers.GlobalAveragePooling2D(name="mean")(inputs)
    module = keras.Model(inputs, layers.Dense(4, activation=layers.Softmax(), name="fc")(x))
    images, (kernel, bias) = _images(), module.get_layer("fc").get_weights()
    pre = cs.load(module).activations(images, "fc/pre")["fc/pre"]
    torch.testing.assert_close(pre.numpy(), images.numpy().mean((1, 2)) @ kernel + bias)


# Kernels and layouts


def test_kernels_in_the_standard_layout() -> None:
    inputs = keras.Input((8, 10, 3))
    x = layers.Conv2DTranspose(4, (3, 2), name="up")(inputs)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depth")(x)
    x = layers.SeparableConv2D(5, 3, name="separable")(x)
    module = keras.Model(inputs, layers.Dense(2, name="fc")(layers.Flatten()(x)))
    model = cs.load(module)
    kernel = np.asarray(keras.ops.convert_to_numpy(module.get_layer("up").kernel))
    np.testing.assert_array_equal(model.weights("up"), kernel.transpose(2, 3, 0, 1))
    assert model.weights("up").shape == (4, 3, 3, 2)
    kernel = keras.ops.convert_to_numpy(module.get_layer("depth").kernel)
    assert model.weights("depth").shape == (8, 1, 3, 3)
    np.testing.assert_array_equal(model.weights("depth")[2 * 1 + 1, 0], kernel[:, :, 1, 1])
    assert model.weights("separable").shape == (8, 1, 3, 3)
    assert model.weights("fc").shape[0] == 2


def test_channels_first_layers_are_not_permuted() -> None:
    inputs = keras.Input((3, 8, 10))
    module = keras.Model(
        inputs, layers.Conv2D(2, 3, data_format="channels_first", name="conv")(inputs)
    )
    model = cs.load(module)
    assert (model.input.channels, model.input.size) == (3, (8, 10))
    assert model.layers["conv"].shape == (2, 6, 8)
    images = torch.rand(1, 3, 8, 10)
    torch.testing.assert_close(model.activations(images, "conv")["conv"], module(images).detach())


def test_another_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "numpy")
    with pytest.raises(
        ModelError, match=r"lives on Keras's numpy backend\. Set KERAS_BACKEND=torch"
    ):
        cs.load(_nested())


def test_an_activation_layer_is_known_by_its_function() -> None:
    live = keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, name="conv"),
            keras.layers.Activation("relu", name="on"),
            keras.layers.Activation("tanh", name="bend"),
            keras.layers.Activation(keras.layers.LeakyReLU(), name="held"),
            keras.layers.ReLU(name="plain"),
        ]
    )
    found = [layer.path for layer in cs.load(live).layers.select("kind=relu")]
    assert [path for path in found if "." not in path] == ["on", "held", "plain"]
