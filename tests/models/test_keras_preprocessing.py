"""The preprocessing that Keras networks hold themselves; run on TensorFlow and JAX as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import convscope as cs
from convscope._models.inputs import UNKNOWN_PREPROCESS

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIDE = 16
PIXELS = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
Tail = Callable[[Any], Any]


@pytest.fixture(autouse=True)
def seeded() -> None:
    keras.utils.set_random_seed(0)


def _tail(x: Any) -> Any:
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    return layers.Dense(3, name="fc")(layers.GlobalAveragePooling2D()(x))


def _after(front: Callable[[Any], Any]) -> Any:
    inputs = keras.Input((SIDE, SIDE, 3))
    return keras.Model(inputs, _tail(front(inputs)))


def _steps(*steps: Any) -> Any:
    return keras.Sequential([keras.Input((SIDE, SIDE, 3)), *steps])


class Divides(layers.Layer):
    def call(self, x: Any) -> Any:
        return x / 255.0


class Statistics(layers.Layer):
    """Mean and deviation as variables that are not trained."""

    def build(self, shape: Any) -> None:
        constant = keras.initializers.Constant
        self.mean = self.add_weight(shape=(3,), initializer=constant(120), trainable=False)
        self.std = self.add_weight(shape=(3,), initializer=constant(60), trainable=False)

    def call(self, x: Any) -> Any:
        return (x - self.mean) / self.std


class Whole(keras.Model):
    """Scales in its own code, and owns a variable itself, as vision transformers do."""

    def __init__(self) -> None:
        super().__init__(name="whole")
        self.token = self.add_weight(shape=(4,), name="token")
        self.conv = layers.Conv2D(4, 3, name="conv")
        self.head = layers.Dense(3, name="fc")

    def call(self, x: Any) -> Any:
        return self.head(ops.mean(self.conv(x / 127.5 - 1) + self.token, (1, 2)))


def _whole() -> Any:
    network = Whole()
    network(np.zeros((1, SIDE, SIDE, 3), np.float32))
    return network


def _backbone() -> Any:
    """A frozen network with its own scaling, nested, and augmented in front."""
    inner = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 255)(inner)
    x = layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.05, 0.05, 0.05])(x)
    body = keras.Model(inner, layers.Conv2D(4, 3, strides=2, name="stem")(x), name="body")
    body.trainable = False
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1)])(inputs)
    return keras.Model(inputs, _tail(body(layers.RandomContrast(0.2)(x), training=False)))


def _adapted() -> Any:
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(1).integers(0, 256, (9, 4, 4, 3)).astype("float32"))
    return _after(normalization)


def _trained_norm(scale: float) -> Any:
    network = _after(layers.BatchNormalization(name="norm"))
    norm = network.get_layer("norm")
    norm.moving_mean.assign(np.full(3, 0.45 * scale))
    norm.moving_variance.assign(np.full(3, (0.25 * scale) ** 2))
    return network


def _leaky_front() -> Any:
    return _after(
        lambda x: layers.Conv2D(2, 1, activation=layers.LeakyReLU(), name="first")(x / 255.0)
    )


BYTES: dict[str, tuple[Callable[[], Any], str]] = {
    "rescaling": (lambda: _after(layers.Rescaling(1 / 255)), "its own Rescaling"),
    "offset": (lambda: _after(layers.Rescaling(1 / 127.5, offset=-1)), "its own Rescaling"),
    "list": (lambda: _after(layers.Rescaling([1 / 255] * 3)), "its own Rescaling"),
    "numpy": (lambda: _after(layers.Rescaling(np.float32(1 / 255))), "its own Rescaling"),
    "augmented": (
        lambda: _after(
            keras.Sequential(
                [
                    layers.RandomFlip(),
                    layers.RandomRotation(0.1),
                    layers.RandomZoom(0.1),
                    layers.RandomContrast(0.1),
                    layers.Resizing(SIDE, SIDE),
                    layers.Rescaling(1 / 255),
                ]
            )
        ),
        "its own Rescaling",
    ),
    "backbone": (_backbone, "its own Rescaling"),
    "normalization": (
        lambda: _after(layers.Normalization(mean=[127.0] * 3, variance=[60.0**2] * 3)),
        "its own Normalization",
    ),
    "adapted": (_adapted, "its own Normalization"),
    "tf": (lambda: _after(keras.applications.mobilenet_v2.preprocess_input), "-1…1 of it"),
    "torch": (lambda: _after(keras.applications.densenet.preprocess_input), "of it reaches"),
    "caffe": (lambda: _after(keras.applications.resnet50.preprocess_input), "of it reaches"),
    "padded": (lambda: _after(lambda x: layers.ZeroPadding2D(3)(x / 255.0)), "0…1 of it"),
    "divided": (lambda: _after(lambda x: ops.divide(x, 255)), "0…1 of it reaches the first wei"),
    "own layer": (lambda: _after(Divides()), "0…1 of it"),
    "statistics": (lambda: _after(Statistics()), "-2…2.25 of it"),
    "inverted": (lambda: _after(lambda x: 1 - x / 255), "0…1 of it"),
    "activation that is a layer": (_leaky_front, "0…1 of it reaches the first weights (first)"),
    "subclassed": (_whole, "-1…1 of it reaches the first weights (conv)"),
    "batch norm of bytes": (lambda: _trained_norm(255.0), "its own BatchNormalization"),
    "whole numbers": (
        lambda: keras.Model(
            inputs := keras.Input((SIDE, SIDE, 3), dtype="uint8"),
            _tail(layers.Rescaling(1 / 255)(inputs)),
        ),
        "the network takes whole numbers",
    ),
}


@pytest.mark.parametrize("name", BYTES)
def test_a_network_that_takes_bytes_is_given_them(name: str) -> None:
    make, said = BYTES[name]
    network = make()
    model = cs.load(network)
    expected = network.predict(PIXELS[None].astype(np.float32), verbose=0)
    np.testing.assert_allclose(model.logits(PIXELS).numpy(), expected, rtol=1e-3, atol=1e-5)
    described = model.input.preprocess.describe()
    assert "(0…255: " in described
    assert said in described


UNKNOWN: dict[str, Callable[[], Any]] = {
    "convolution": lambda: _after(lambda x: x),
    "padding": lambda: _after(layers.ZeroPadding2D(1)),
    "augmentation": lambda: _after(layers.RandomFlip()),
    "fresh batch norm": lambda: _after(layers.BatchNormalization()),
    "layer norm": lambda: _after(layers.LayerNormalization()),
    "dense": lambda: _steps(layers.Flatten(), layers.Dense(3)),
    "small weights": lambda: _steps(
        layers.Conv2D(3, 1, kernel_initializer=keras.initializers.Constant(1e-3)),
        layers.Conv2D(3, 3),
    ),
    "pooling": lambda: _after(layers.AveragePooling2D(2)),
    "scaled little": lambda: _after(layers.Rescaling(1 / 16)),
    "sixteen bits": lambda: _after(layers.Rescaling(1 / 65535)),
    "clipped": lambda: _after(lambda x: ops.clip(x, 0, 1)),
    "per image": lambda: _after(lambda x: x - ops.mean(x, (1, 2, 3), keepdims=True)),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_without_clear_evidence_the_preprocessing_stays_an_assumption(name: str) -> None:
    preprocess = cs.load(UNKNOWN[name]()).input.preprocess
    assert preprocess.origin == UNKNOWN_PREPROCESS.origin
    assert preprocess == UNKNOWN_PREPROCESS.at((SIDE, SIDE))


@pytest.mark.parametrize(
    "make",
    [
        lambda: _after(layers.Normalization(mean=[0.45] * 3, variance=[0.06] * 3)),
        lambda: _after(layers.Rescaling(2.0, offset=-1.0)),
        lambda: _trained_norm(1.0),
    ],
)
def test_a_network_that_normalizes_0_to_1_is_given_that(make: Callable[[], Any]) -> None:
    network = make()
    model = cs.load(network)
    expected = network.predict(PIXELS[None] / np.float32(255), verbose=0)
    np.testing.assert_allclose(model.logits(PIXELS).numpy(), expected, rtol=1e-3, atol=1e-5)
    assert "(0…1: the network begins with its own " in model.input.preprocess.describe()


def test_weights_of_a_block_before_the_first_layer_are_no_preprocessing() -> None:
    class Scaled(layers.Layer):
        def build(self, shape: Any) -> None:
            self.factor = self.add_weight(initializer=keras.initializers.Constant(1 / 255))
            self.conv = layers.Conv2D(4, 3)
            self.conv.build(shape)

        def call(self, x: Any) -> Any:
            return self.conv(x * self.factor)

    assert cs.load(_steps(Scaled())).input.preprocess.origin == UNKNOWN_PREPROCESS.origin


def test_a_network_without_variables_is_measured_once_its_input_is_given() -> None:
    network = Whole()
    assert cs.load(network).input.preprocess.origin == UNKNOWN_PREPROCESS.origin
    assert not network.built
    model = cs.load(network, input=(3, SIDE, SIDE))
    expected = network.predict(PIXELS[None].astype(np.float32), verbose=0)
    np.testing.assert_allclose(model.logits(PIXELS).numpy(), expected, rtol=1e-3, atol=1e-5)
    given = cs.load(network, input=(3, SIDE, SIDE), preprocess="unit")
    assert given.input.preprocess.origin == "--preprocess unit"


def test_measuring_leaves_the_network_as_it_was() -> None:
    network = _backbone()
    held = [vars(layer).copy() for layer in network._flatten_layers()]
    before = [np.array(ops.convert_to_numpy(v)) for v in network.variables]
    cs.load(network)
    for layer, attributes in zip(network._flatten_layers(), held, strict=True):
        assert vars(layer).keys() == attributes.keys()
    for variable, values in zip(network.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), values)
