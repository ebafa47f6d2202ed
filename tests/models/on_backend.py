"""What must hold of Keras on every backend. Run by ``test_backends.py``, a process for each."""

from __future__ import annotations

import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from backend_networks import ORDER, SHAPES, SIZE, by_hand, functional, images, numbers, subclassed
from keras import layers, ops
from torch import Tensor

import convscope as cs
from convscope._errors import ModelError, UnknownLayer

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BACKEND = keras.backend.backend()
bridged = pytest.mark.skipif(BACKEND == "torch", reason="torch needs no bridge")
DIFFERENCES: dict[str, float] = defaultdict(float)


@pytest.fixture(scope="module", autouse=True)
def differences() -> Iterator[None]:
    yield
    if "BACKEND_DIFFERENCES" in os.environ:
        Path(os.environ["BACKEND_DIFFERENCES"]).write_text(json.dumps(DIFFERENCES))


@pytest.fixture(scope="module")
def held() -> Any:
    file = os.environ.get("BACKEND_WEIGHTS")
    return dict(np.load(file)) if file else numbers()


@pytest.fixture(scope="module", params=[functional, subclassed])
def network(request: pytest.FixtureRequest, held: Any) -> Any:
    return request.param(held)


def _last(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).contiguous()


def _paths(model: Any) -> dict[str, str]:
    """Paths here by their names in ``ORDER``; a sum has an address where Keras knows of it."""
    paths = {name: name for name in ORDER if name != "add"}
    return paths | ({"add": "/add"} if "/add" in model.layers else {})


def _close(kind: str, found: Tensor, truth: Tensor, most: float) -> None:
    assert found.shape == truth.shape
    assert found.dtype == torch.float32
    difference = float((found.detach() - truth.detach()).abs().max())
    DIFFERENCES[kind] = max(DIFFERENCES[kind], difference)
    assert difference <= most, kind


# The same network by hand


def test_the_layers_are_listed(network: Any) -> None:
    found = cs.load(network, input=(3, *SIZE)).layers
    expected = [
        "conv1/pre",
        "conv1",
        "up",
        "pool",
        "conv2/pre",
        "conv2",
        "/add",
        "inner",
        "inner.a",
        "inner.norm",
        "inner.relu",
        "pool#2",
        "depth",
        "mean",
        "drop",
        "fc/pre",
        "fc",
    ]
    known = network.name == "functional" or BACKEND == "torch"
    assert [layer.path for layer in found] == [p for p in expected if known or p != "/add"]
    assert found["conv1"].shape == (6, 6, 7)
    assert (found["inner"].container, found["inner.a"].depth) == (True, 1)
    assert (found["conv1"].kind, found["conv1"].parameters) == ("Conv2D", 168)
    assert found["inner.norm"].parameters == 16
    assert [layer.path for layer in found.select("kind=conv")] == list(SHAPES)[:-1]
    assert (found["fc/pre"].function, found["fc/pre"].shape) == (True, (7,))


def test_maps_and_logits(network: Any, held: Any) -> None:
    model, truth = cs.load(network, input=(3, *SIZE)), by_hand(images(), held)
    paths = _paths(model)
    maps = model.activations(_last(images()), list(paths.values()))
    for name, path in paths.items():
        _close("maps", maps[path], truth[name], 1e-5)
        alone = model.activations(_last(images()), path)
        assert list(alone) == [path]
        torch.testing.assert_close(alone[path], maps[path])
    _close("logits", model.logits(_last(images())), truth["fc"], 1e-5)
    assert model.predict(_last(images())[0].numpy(), top=1)[0][0] == (
        f"class {int(truth['fc'][0].argmax())}"
    )


def test_gradients_at_every_layer_and_at_the_images(network: Any, held: Any) -> None:
    """All recorded at once: what leads through a recorded result is not counted twice."""
    model, x = cs.load(network, input=(3, *SIZE)), images().requires_grad_()
    paths, truth = _paths(model), by_hand(x, held)
    pixels = _last(images()).requires_grad_()
    maps = model.activations(pixels, list(paths.values()), grad=True)
    for deep in ("fc", "fc/pre", "inner", "conv2"):
        names = [name for name in ORDER[: ORDER.index(deep)] if name in paths]
        weights = torch.rand(truth[deep].shape, generator=torch.Generator().manual_seed(2))
        wanted = torch.autograd.grad(
            (truth[deep] * weights).sum(), [x, *(truth[n] for n in names)], retain_graph=True
        )
        found = torch.autograd.grad(
            (maps[paths[deep]] * weights).sum(),
            [pixels, *(maps[paths[n]] for n in names)],
            retain_graph=True,
        )
        _close("input gradients", found[0].permute(0, 3, 1, 2), wanted[0], 1e-4)
        assert wanted[0].abs().max() > 1e-4
        for gradient, true in zip(found[1:], wanted[1:], strict=True):
            _close("layer gradients", gradient, true, 1e-4)


@pytest.mark.parametrize("recorded", [["fc"], ["conv1", "fc"], ["pool", "inner.norm", "pool#2"]])
def test_gradients_do_not_depend_on_what_else_is_recorded(
    network: Any, held: Any, recorded: list[str]
) -> None:
    model, x = cs.load(network, input=(3, *SIZE)), images().requires_grad_()
    truth = by_hand(x, held)
    pixels = _last(images()).requires_grad_()
    maps = model.activations(pixels, recorded, grad=True)
    truths, found = ([t[p].pow(2).sum() for p in recorded] for t in (truth, maps))
    (wanted,) = torch.autograd.grad(sum(truths), x)  # several at once: they add up
    (gradient,) = torch.autograd.grad(sum(found), pixels)
    _close("input gradients", gradient.permute(0, 3, 1, 2), wanted, 1e-4)


def test_gradients_of_the_logits(network: Any, held: Any) -> None:
    x, pixels = images().requires_grad_(), _last(images()).requires_grad_()
    (wanted,) = torch.autograd.grad(by_hand(x, held)["fc"][:, 2].sum(), x)
    logits = cs.load(network, input=(3, *SIZE)).logits(pixels, grad=True)
    (gradient,) = torch.autograd.grad(logits[:, 2].sum(), pixels)
    _close("input gradients", gradient.permute(0, 3, 1, 2), wanted, 1e-4)


def test_an_array_without_gradients_still_begins_a_graph(network: Any) -> None:
    model = cs.load(network, input=(3, *SIZE))
    with torch.inference_mode():
        maps = model.activations(_last(images()), ["conv2", "fc/pre"], grad=True)
    (gradient,) = torch.autograd.grad(maps["fc/pre"][:, 1].sum(), maps["conv2"])
    assert gradient.shape == maps["conv2"].shape
    assert not model.activations(_last(images()), "fc")["fc"].requires_grad


def test_kernels_are_those_of_torch_and_copies(network: Any, held: Any) -> None:
    model = cs.load(network, input=(3, *SIZE))
    for path in SHAPES:
        kernel = held[f"{path}.kernel"]
        kernel = kernel.swapaxes(0, 1) if path == "up" else kernel
        np.testing.assert_array_equal(model.weights(path), kernel)
        model.weights(path)[:] = 0
        np.testing.assert_array_equal(model.weights(path), kernel)
    with pytest.raises(UnknownLayer, match=r"MaxPooling2D 'pool' of \w+ has no kernel"):
        model.weights("pool")


# Left as it was found


def _attributes(module: Any) -> list[tuple[str, ...]]:
    parts = [module, *module._flatten_layers(include_self=False)]
    return [tuple(name for name in vars(layer) if "loss_ids" not in name) for layer in parts]


def _values(module: Any) -> list[Any]:
    return [np.array(ops.convert_to_numpy(variable)) for variable in module.variables]


def test_the_network_is_left_as_it_was(network: Any) -> None:
    model = cs.load(network, input=(3, *SIZE))
    attributes, values = _attributes(network), _values(network)
    trainable = [layer.trainable for layer in network._flatten_layers()]
    maps = model.activations(_last(images()), ["conv1/pre", "inner", "fc"], grad=True)
    maps["fc"].sum().backward()
    model.activations(_last(images()), "kind=conv")
    assert _attributes(network) == attributes
    assert [layer.trainable for layer in network._flatten_layers()] == trainable
    for was, now in zip(values, _values(network), strict=True):
        np.testing.assert_array_equal(was, now)
    assert network.losses == []


class Failing(layers.Layer):
    armed = False

    def call(self, x: Any) -> Any:
        if Failing.armed:
            raise ValueError("boom")
        return x


def _small(*more: Any) -> Any:
    keras.utils.set_random_seed(1)
    steps = [layers.Conv2D(2, 3, activation="relu", name="conv"), *more]
    return keras.Sequential([keras.Input((8, 10, 3)), *steps], name="small")


def _batch() -> Tensor:
    return torch.rand(2, 8, 10, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("grad", [False, True])
def test_after_an_exception_nothing_is_left(grad: bool) -> None:
    network = _small(Failing(name="fails"))
    model = cs.load(network)
    assert model.layers
    attributes, activation = _attributes(network), network.get_layer("conv").activation
    Failing.armed = True
    try:
        with pytest.raises(ModelError) as caught:
            model.activations(_batch(), ["conv/pre", "conv", "fails"], grad=grad)
    finally:
        Failing.armed = False
    assert str(caught.value).startswith("small failed on an input of 3×8×10: ValueError: ")
    assert "boom" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert _attributes(network) == attributes
    assert network.get_layer("conv").activation is activation
    assert not keras.src.backend.in_stateless_scope()
    assert model.logits(_batch()).shape == (2, 2, 6, 8)


def test_the_pass_ends_with_the_deepest_requested_layer() -> None:
    model = cs.load(_small(Failing(name="fails")))
    assert model.layers
    Failing.armed = True
    try:
        maps = model.activations(_batch(), ["conv/pre", "conv"], grad=True)
    finally:
        Failing.armed = False
    torch.testing.assert_close(maps["conv"], maps["conv/pre"].relu())


def test_losses_dropout_and_seeds_stay(network: Any) -> None:
    network = _small(
        layers.Conv2D(2, 1, activity_regularizer="l2", name="held"),
        layers.BatchNormalization(name="norm"),
        layers.Dropout(0.9, seed=3, name="drop"),
        layers.GaussianNoise(1.0, name="noise"),
    )
    model, values = cs.load(network), _values(network)
    maps = model.activations(_batch(), ["norm", "noise"], grad=True)
    maps["noise"].sum().backward()
    torch.testing.assert_close(maps["norm"], maps["noise"])
    if BACKEND != "torch":
        assert network.losses == []
    for was, now in zip(values, _values(network), strict=True):
        np.testing.assert_array_equal(was, now)
    assert model.untrained_evidence() == "its batch normalizations have never seen a batch"


# Kinds of networks


def test_half_precision_comes_as_float32() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = _small(layers.Conv2D(3, 3, name="next"))
    finally:
        keras.config.set_dtype_policy("float32")
    model, pixels = cs.load(network), _batch().requires_grad_()
    maps = model.activations(pixels, ["conv", "next"], grad=True)
    assert {tensor.dtype for tensor in maps.values()} == {torch.float32}
    at, at_pixels = torch.autograd.grad(maps["next"].sum(), [maps["conv"], pixels])
    kernel = torch.from_numpy(model.weights("next")).bfloat16().float()
    truth = torch.nn.functional.conv_transpose2d(torch.ones(2, 3, 4, 6), kernel)
    torch.testing.assert_close(at, truth, atol=2e-2, rtol=2e-2)
    assert at_pixels.dtype == torch.float32


def test_layers_that_return_several_results_or_none_of_floats() -> None:
    class Splits(layers.Layer):
        def call(self, x: Any) -> Any:
            return {"counts": ops.cast(x > 0, "int32"), "both": [x * 2, x * 3]}

    class Joins(layers.Layer):
        def call(self, parts: Any) -> Any:
            return parts["both"][0] * parts["both"][1]

    class Counts(layers.Layer):
        def call(self, x: Any) -> Any:
            return ops.cast(x > 0, "int32")

    inputs = keras.Input((8, 10, 3))
    parts = Splits(name="splits")(inputs)
    network = keras.Model(
        inputs, [Joins(name="joins")(parts), Counts(name="counts")(inputs)], name="joint"
    )
    model, pixels = cs.load(network), _batch().requires_grad_()
    assert (model.layers["splits"].shape, model.layers["counts"].shape) == ((3, 8, 10), None)
    maps = model.activations(pixels, ["splits", "joins"], grad=True)
    x = _batch().permute(0, 3, 1, 2)
    torch.testing.assert_close(maps["joins"], 6 * x**2)
    at, at_pixels = torch.autograd.grad(maps["joins"].sum(), [maps["splits"], pixels])
    torch.testing.assert_close(at, 3 * x)
    torch.testing.assert_close(at_pixels, 12 * _batch())
    with pytest.raises(UnknownLayer, match="'counts' of joint was not called"):
        model.activations(_batch(), "counts")


def test_layers_that_pass_their_input_on() -> None:
    model = cs.load(
        _small(layers.Dropout(0.5, name="one"), layers.Activation("linear", name="two"))
    )
    maps = model.activations(_batch(), ["conv", "one", "two"], grad=True)
    at_conv, at_one = torch.autograd.grad(maps["two"].pow(2).sum(), [maps["conv"], maps["one"]])
    torch.testing.assert_close(at_conv, 2 * maps["conv"].detach())
    torch.testing.assert_close(at_one, at_conv)


def test_what_is_done_to_a_result_does_not_reach_the_network() -> None:
    model, pixels = cs.load(_small(layers.ReLU(name="end"))), _batch().requires_grad_()
    maps = model.activations(pixels, ["conv", "end"], grad=True)
    (truth,) = torch.autograd.grad(maps["end"].sum(), pixels, retain_graph=True)
    if BACKEND != "torch":  # there torch itself refuses
        with torch.no_grad():
            maps["end"].zero_()
            maps["conv"].zero_()
    (found,) = torch.autograd.grad(maps["end"].sum(), pixels)
    torch.testing.assert_close(found, truth)


def test_an_own_gradient_counts() -> None:
    @ops.custom_gradient
    def tripled(x: Any) -> Any:
        def backward(*_: Any, upstream: Any = None) -> Any:
            return (_[0] if upstream is None else upstream) * 3

        return x * 1.0, backward

    class Own(layers.Layer):
        def call(self, x: Any) -> Any:
            return tripled(x)

    inputs = keras.Input((8, 10, 3))
    own = Own(name="own")(layers.Rescaling(2.0, name="twice")(inputs))
    model = cs.load(keras.Model(inputs, layers.Rescaling(5.0, name="end")(own)))
    pixels = _batch().requires_grad_()
    maps = model.activations(pixels, ["twice", "own", "end"], grad=True)
    at, at_pixels = torch.autograd.grad(maps["end"].sum(), [maps["twice"], pixels])
    assert bool((at == 15).all())
    assert bool((at_pixels == 30).all())


@bridged
def test_functions_of_a_nested_functional_model_have_addresses() -> None:
    inside = keras.Input((8, 10, 3))
    inner = keras.Model(inside, ops.log_softmax(ops.relu(inside) - 0.5), name="inner")
    inputs = keras.Input((8, 10, 3))
    model = cs.load(keras.Model(inputs, inner(ops.relu(inputs))))
    paths = [layer.path for layer in model.layers]
    assert paths == ["/relu", "inner", "inner/relu", "inner/subtract", "inner/log_softmax"]
    assert model.layers["inner/relu"].depth == 1
    maps = model.activations(_batch(), ["inner/subtract"])
    torch.testing.assert_close(maps["inner/subtract"], (_batch() - 0.5).permute(0, 3, 1, 2))


@bridged
def test_layers_inside_a_loop_are_listed_without_a_shape() -> None:
    class Rows(layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="rows")
            self.fc = layers.Dense(4, name="fc")

        def build(self, shape: Any) -> None:
            self.fc.build(shape[1:])

        def call(self, x: Any) -> Any:
            return ops.vectorized_map(self.fc, x)

    model = cs.load(_small(Rows()))
    assert model.layers["rows"].shape == (4, 6, 8)
    assert model.layers["rows.fc"].shape is None
    with pytest.raises(UnknownLayer, match=r"'rows\.fc' of small was not called, or gave no"):
        model.activations(_batch(), "rows.fc", grad=True)


@bridged
def test_an_operation_without_a_gradient_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any) -> Any:
        raise LookupError("No gradient\ndefined.")

    model: Any = cs.load(_small())
    maps = model.activations(_batch(), ["conv/pre", "conv"], grad=True)
    tape = type(
        model.backend.bridge.tape(
            lambda native, cut=None: [native], model.backend.bridge.array(torch.zeros(1)), 0
        )
    )
    monkeypatch.setattr(tape, "vjp", refuses)
    with pytest.raises(ModelError) as caught:
        torch.autograd.grad(maps["conv"].sum(), maps["conv/pre"])
    name = {"tensorflow": "TensorFlow", "jax": "JAX"}[BACKEND]
    assert str(caught.value) == (
        f"small has no gradient: {name} raised LookupError: No gradient defined. Take a later layer"
    )


# Files and names


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_files(tmp_path: Path, name: str) -> None:
    network = _small(layers.Flatten(name="flat"), layers.Dense(2, name="fc"))
    network.save(tmp_path / name)
    model = cs.load(tmp_path / name)
    assert (model.input.channels, model.input.size) == (3, (8, 10))
    truth = torch.from_numpy(np.array(ops.convert_to_numpy(network(_batch().numpy()))))
    torch.testing.assert_close(model.logits(_batch()), truth, atol=1e-5, rtol=1e-5)


def test_an_application() -> None:
    model = cs.load("keras:MobileNet,weights=none,alpha=.25,input_shape=32x32x3,classes=4")
    assert model.layers["conv1"].shape == (8, 16, 16)
    assert model.input.preprocess.origin.startswith("keras.applications.mobilenet; ")
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    assert len(model.predict(picture, top=2)) == 2
    maps = cs.feature_maps(model, picture, layers=["conv1", "conv_pw_13_relu"])
    assert maps["conv_pw_13_relu"].values.shape == (256, 1, 1)


def test_an_unbuilt_network_is_built_with_the_given_input() -> None:
    def made() -> Any:
        return keras.Sequential([layers.Conv2D(2, 3, name="conv")], name="unbuilt")

    assert cs.load(made(), input=(3, 8, 10)).layers["conv"].shape == (2, 6, 8)
    with pytest.raises(ModelError) as caught:
        cs.load(made()).layers  # noqa: B018
    assert str(caught.value) == (
        "unbuilt has not been built, so it has no layers yet. Call it once on a batch, or give "
        "its input shape: --input C,H,W"
    )


# The bridge itself


@bridged
def test_gradients_are_the_frameworks_own_to_the_last_bit(network: Any) -> None:
    pixels = _last(images()).requires_grad_()
    logits = cs.load(network, input=(3, *SIZE)).logits(pixels, grad=True)
    (found,) = torch.autograd.grad(logits[:, 3].sum(), pixels)
    np.testing.assert_array_equal(found.numpy(), _own_gradient(network, _last(images()).numpy()))


def _own_gradient(network: Any, x: Any) -> Any:
    if BACKEND == "jax":
        import jax

        return jax.grad(lambda x: network(x, training=False)[:, 3].sum())(x)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        at = tf.constant(x)
        tape.watch(at)
        value = tf.reduce_sum(network(at, training=False)[:, 3])
    return tape.gradient(value, at)


@bridged
def test_memory_is_shared_where_it_can_be_and_copied_where_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model: Any = cs.load(_small())
    bridge = model.backend.bridge
    array = bridge.array(torch.arange(6.0))
    assert bridge.tensor(array).data_ptr() == bridge.tensor(array).data_ptr()
    for tensor in (torch.arange(20.0)[1:7], torch.arange(20.0).reshape(4, 5).T, torch.zeros(0, 3)):
        torch.testing.assert_close(bridge.tensor(bridge.array(tensor)), tensor)

    def refuses(_: Any) -> Any:
        raise BufferError("no DLPack")

    truth = model.activations(_batch(), "conv")["conv"]
    monkeypatch.setattr(bridge, "_shared_tensor", refuses)
    monkeypatch.setattr(bridge, "_shared_array", refuses)
    torch.testing.assert_close(model.activations(_batch(), "conv")["conv"], truth)
    assert bridge.tensor(array).data_ptr() != bridge.tensor(array).data_ptr()


# Ascent


def test_a_unit_climbs_and_repeats_itself(network: Any) -> None:
    model = cs.load(network, input=(3, *SIZE), preprocess=cs.Preprocess(size=SIZE))
    first, again = (cs.maximize(model, "conv2:1", steps=12, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.values, again.values)
    assert first.curve[-1] > first.curve[0]
    values = torch.from_numpy(first.values)[None]
    levels = by_hand((values * 255).round() / 255, numbers())["conv2"][0, 1]
    assert first.activation == pytest.approx(float(levels.mean()), rel=1e-4)


def test_a_flat_start_is_left_and_a_dead_unit_noted() -> None:
    """An edge that gray noise does not switch on, and one that no image does."""
    kernel = np.zeros((3, 3, 1, 2), np.float32)
    kernel[:, 0], kernel[:, 2] = -1, 1
    conv = layers.Conv2D(2, 3, activation="relu", name="edges")
    network = keras.Sequential([keras.Input((16, 16, 1)), conv])
    conv.set_weights([kernel, np.array([-1.0, -4.0], np.float32)])
    model = cs.load(network, preprocess=cs.Preprocess(size=(16, 16)))
    still = cs.Transforms(0, 0, 0, 0, 0)
    edge, dead = cs.maximize(model, ["edges:0", "edges:1"], steps=64, transforms=still)
    assert not edge.dead
    assert edge.activation > 0
    assert dead.dead


# Streaming


def test_what_is_streamed_is_what_is_recorded(network: Any) -> None:
    """As each layer has run, in order, and nothing after the deepest."""
    model = cs.load(network, input=(3, *SIZE))
    paths = ["conv1", "pool", "conv2/pre", "inner.norm", "pool#2"]
    expected = model.activations(_last(images()), paths)
    seen: list[str] = []

    def consume(path: str, activation: Tensor) -> None:
        seen.append(path)
        torch.testing.assert_close(activation, expected[path], rtol=0, atol=1e-6)

    model.stream(_last(images()), paths, consume)
    assert seen == [path for path in ORDER if path in paths]


def test_a_scan_is_what_brute_force_finds(network: Any, tmp_path: Path) -> None:
    pictures = [np.random.default_rng(k).integers(0, 255, (*SIZE, 3), np.uint8) for k in range(7)]
    model = cs.load(network, input=(3, *SIZE), preprocess=cs.Preprocess(size=SIZE))
    atlas = cs.scan(model, pictures, tmp_path / "atlas", ["conv2"], top=3, batch=7)
    maps = model.activations(pictures, ["conv2"])["conv2"]
    for channel in range(maps.shape[1]):
        order = torch.sort(maps[:, channel].mean((1, 2)), descending=True, stable=True)
        found = atlas[f"conv2:{channel}"].top("mean")
        assert [one.image for one in found] == order.indices[:3].tolist()
        assert [one.score for one in found] == pytest.approx(order.values[:3].tolist(), rel=1e-4)


# Edits and randomized copies


def test_an_edit_changes_what_comes_after(network: Any, held: Any) -> None:
    model, changed = cs.load(network, input=(3, *SIZE)), dict(held)
    changed["conv1.kernel"], changed["conv1.bias"] = (
        held[name].copy() for name in ("conv1.kernel", "conv1.bias")
    )
    changed["conv1.kernel"][2], changed["conv1.bias"][2] = 0, 0

    def without(values: Tensor) -> Tensor:
        values = values.clone()
        values[:, 2] = 0
        return values

    truth = by_hand(images(), changed)
    for path in ("conv1", "conv1/pre"):
        edited = model.edited({path: without})
        _close("maps", edited.activations(_last(images()), [path])[path], truth[path], 1e-5)
        _close(
            "maps", edited.activations(_last(images()), ["conv2", "fc"])["fc"], truth["fc"], 1e-5
        )
        _close("logits", edited.logits(_last(images())), truth["fc"], 1e-5)
    _close("logits", model.logits(_last(images())), by_hand(images(), held)["fc"], 1e-5)


@bridged
def test_there_is_no_gradient_through_an_edit(network: Any) -> None:
    model = cs.load(network, input=(3, *SIZE)).edited({"conv1": torch.zeros_like})
    for ask in (
        lambda: model.logits(_last(images()), grad=True),
        lambda: model.activations(_last(images()), "fc", grad=True),
    ):
        with pytest.raises(ModelError, match="no gradient through the edit at 'conv1' on"):
            ask()


def test_kernels_are_shuffled_in_a_copy(network: Any, held: Any) -> None:
    model = cs.load(network, input=(3, *SIZE))
    if network.name == "subclassed":  # Keras cannot write down a class that it does not know
        with pytest.raises(ModelError, match="subclassed cannot be copied"):
            model.randomized(["fc"])
        return
    if keras.__version__.startswith("3.6."):  # it cannot copy a network within another one
        with pytest.raises(ModelError, match="functional cannot be copied"):
            model.randomized(["fc"])
        return
    found = model.randomized(["fc", "inner.a"])
    for path in ("fc", "inner.a"):
        mine, theirs = model.weights(path), found.weights(path)
        assert (mine != theirs).any()
        np.testing.assert_array_equal(np.sort(mine.ravel()), np.sort(theirs.ravel()))
    _close("logits", model.logits(_last(images())), by_hand(images(), held)["fc"], 1e-5)


# Attribution


@pytest.mark.filterwarnings("ignore::UserWarning:captum")
def test_attributions_are_captums_on_the_network_by_hand(network: Any, held: Any) -> None:
    captum = pytest.importorskip("captum.attr")
    model = cs.load(network, input=(3, *SIZE))
    found = cs.attribute(
        model,
        _last(images())[:1],
        2,
        layer="inner.norm",
        method=["integrated_gradients", "gradient_x_input", "gradcam", "occlusion"],
    )
    x = images()[:1].requires_grad_()

    def score(x: Tensor) -> Tensor:
        return by_hand(x, held)["fc/pre"][:, 2]

    truth = captum.IntegratedGradients(score).attribute(x, n_steps=64)
    ones = {
        name: torch.from_numpy(found[name].values)
        for name in ("integrated_gradients", "gradient_x_input", "gradcam", "occlusion")
    }
    _close("attributions", ones["integrated_gradients"], truth[0].sum(0).float(), 1e-4)
    truth = captum.InputXGradient(score).attribute(x)
    _close("attributions", ones["gradient_x_input"], truth[0].sum(0), 1e-4)
    windows = {"sliding_window_shapes": (3, 2, 2), "strides": (3, 1, 1)}
    truth = captum.Occlusion(score).attribute(x, **windows)
    _close("attributions", ones["occlusion"], truth[0].mean(0), 1e-4)
    steps = by_hand(x, held)
    (slope,) = torch.autograd.grad(steps["fc/pre"][0, 2], steps["inner.norm"])
    cam = (slope.mean((2, 3), keepdim=True) * steps["inner.norm"]).sum(1)
    _close("attributions", ones["gradcam"], cam[0], 1e-4)


# The owner's own use of the network


def test_passes_of_other_threads_are_neither_seen_nor_stopped(held: Any) -> None:
    network = functional(held)
    model, batch = cs.load(network, input=(3, *SIZE)), images()
    expected = model.activations(_last(batch), ["conv1/pre", "conv1"])
    own = np.random.default_rng(1).random((2, *SIZE, 3)).astype(np.float32)
    truth = ops.convert_to_numpy(network(own))
    wrong, done = list[str](), threading.Event()

    def run() -> None:
        try:
            for _ in range(40):
                np.testing.assert_allclose(ops.convert_to_numpy(network(own)), truth, rtol=1e-5)
        except BaseException as error:
            wrong.append(repr(error))
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    while not done.is_set():
        found = model.activations(_last(batch), list(expected))
        for path, values in expected.items():
            torch.testing.assert_close(found[path], values)
    thread.join()
    assert wrong == []
