"""Receptive fields against what really depends on what."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from receptive_dependence import SIZE, as_model, assert_exact, depends_on
from receptive_networks import COMPARED, GATED, Function, Gate, conv, resized
from torch import Tensor, nn

from convscope._models import Input, ReceptiveField
from convscope._models.backend import sample
from convscope._models.keras_files import from_keras
from convscope._models.sources import torch_model
from convscope._models.tracing import COLUMNS, ROWS, tracing


@pytest.mark.parametrize("make", COMPARED + GATED, ids=lambda make: make.__name__)
def test_exact(make: Callable[[], nn.Module]) -> None:
    model = as_model(make)
    fields = model.receptive_fields(SIZE)
    assert_exact(fields, depends_on(model, fields))
    assert not any(field.data_dependent for field in fields.values())


def test_exact_where_weights_are_zero() -> None:
    model = as_model(resized)
    fields = model.receptive_fields(SIZE)
    assert_exact(fields, depends_on(model, fields, by_change=True))


@pytest.mark.parametrize("make", GATED, ids=lambda make: make.__name__)
def test_local_ignores_gates(make: Callable[[], nn.Module]) -> None:
    model = as_model(make)
    fields = model.receptive_fields(SIZE)
    with torch.no_grad():
        model.module(sample(2, *SIZE).double())
    for module in model.module.modules():
        if isinstance(module, Gate):
            module.held = module.last
    outside = {address: f for address, f in fields.items() if not address.startswith("gate")}
    for address, (rows, columns) in depends_on(model, outside).items():
        field = fields[address]
        if not rows.any():  # all of it came through the gate: then that counts
            rows, columns = field.rows, field.columns
        np.testing.assert_array_equal(field.local_rows, rows, f"rows of {address}")
        np.testing.assert_array_equal(field.local_columns, columns, f"columns of {address}")
    assert any(field.gated for field in fields.values())


def published(module: nn.Module, size: tuple[int, int] = (224, 224)) -> dict[str, str]:
    model = torch_model(module.eval(), "network", Input(channels=3))
    return {address: f.describe() for address, f in model.receptive_fields(size).items()}


@pytest.mark.parametrize(
    ("name", "size", "truths"),
    [
        # Sums of (kernel - 1) · stride by hand; ends of networks: Araujo et al., Distill 2019.
        ("alexnet", 224, {"features.0": "11×11, stride 4", "features.12": "195×195, stride 32"}),
        (
            "vgg16",
            224,
            {
                "features.2": "5×5, stride 1",
                "features.21": "92×92, stride 8",
                "features.28": "196×196, stride 16",
                "features.30": "212×212, stride 32",
                "classifier.6": "whole image",
            },
        ),
        (
            "resnet18",
            224,
            {
                "maxpool": "11×11, stride 4",
                "layer4.1/add": "435×435, stride 32",
                "fc": "whole image",
            },
        ),
        (
            "resnet50",
            224,
            {
                "layer1.2/add": "35×35, stride 4",
                "layer4.2/add": "427×427, stride 32",
            },
        ),
        (
            "squeezenet1_0",
            224,
            {
                "features.3/cat": "19×19, stride 4",
                "features.12/cat": "155×155, stride 16",
            },
        ),
        ("inception_v3", 299, {"Mixed_7c": "1311×1311, stride 32 (whole image)"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_published_figures(name: str, size: int, truths: dict[str, str]) -> None:
    models = pytest.importorskip("torchvision.models")
    options = {"init_weights": False} if name == "inception_v3" else {}
    with torch.device("meta"):  # shapes are enough
        module = getattr(models, name)(weights=None, **options)
    described = published(module, (size, size))
    assert {address: described.get(address) for address in truths} == truths


@pytest.mark.filterwarnings("ignore:.*inconsistencies across backends")  # Keras 3.6 says so
def test_keras() -> None:
    """Channels last, padding ``same`` with stride 2 (more on one side), and a published figure."""
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras runs on another backend here")
    layers = keras.layers
    keras.utils.set_random_seed(0)
    image = x = keras.Input((*SIZE, 2), dtype="float64")
    x = layers.Conv2D(4, 3, strides=2, padding="same", dtype="float64")(x)
    x = layers.DepthwiseConv2D(3, padding="same", dtype="float64")(x)
    y = layers.MaxPooling2D(3, strides=2, padding="same", dtype="float64")(x)
    y = layers.UpSampling2D(2, dtype="float64")(layers.ReLU(dtype="float64")(y))
    y = layers.Cropping2D(((0, 0), (1, 0)), dtype="float64")(y)
    y = layers.ZeroPadding2D(((0, 0), (0, 1)), dtype="float64")(y)
    x = layers.Concatenate(dtype="float64")([x, y])
    x = layers.Conv2DTranspose(3, 3, strides=2, padding="same", dtype="float64")(x)
    x = layers.BatchNormalization(dtype="float64")(x)
    x = layers.AveragePooling2D(2, padding="same", dtype="float64")(x)
    x = layers.Dense(3, dtype="float64")(layers.GlobalAveragePooling2D(dtype="float64")(x))
    model = from_keras(keras.Model(image, x), "network", Input(channels=2))
    fields = model.receptive_fields(SIZE)
    assert_exact(fields, depends_on(model, fields))
    assert not any(field.data_dependent for field in fields.values())
    mobile = from_keras(keras.applications.MobileNet(weights=None), "mobile", Input(channels=3))
    assert mobile.receptive_fields((224, 224))["conv_pw_13"].size == (315, 315)


def test_numbers() -> None:
    model = torch_model(nn.Sequential(conv(1, 1, stride=2), conv(1, 1)), "net", Input(channels=1))
    field = model.receptive_fields((8, 20))["1"]
    assert field.rows.tolist() == [[0, 4], [0, 6], [1, 8], [3, 8]]
    assert (field.size, field.stride, field.image) == ((7, 7), (2.0, 2.0), (8, 20))
    assert field.columns.shape == (10, 2)
    assert field.box(1, 5) == field.box(1, 5, local=False) == (0, 7, 6, 14)
    assert not field.gated


def test_a_gate_is_distinguished() -> None:
    fields = as_model(GATED[0]).receptive_fields(SIZE)
    assert fields["gate"].describe() == "whole image"
    assert fields["second"].describe() == "5×5, stride 1, gated by the whole image"
    assert fields["second"].box(9, 6) == (7, 4, 12, 9)
    assert fields["second"].box(9, 6, local=False) == (0, 0, *SIZE)


def traced(forward: Callable[[Tensor], Tensor]) -> ReceptiveField:
    image = sample(2, *SIZE)
    with torch.no_grad(), tracing(image, (ROWS, COLUMNS)) as tracer:
        return tracer.field_of(forward(image))


def told(forward: Callable[[Tensor], Tensor]) -> str:
    return traced(forward).describe()


def test_where_values_decide() -> None:
    ops = pytest.importorskip("torchvision.ops")
    deformed = ops.DeformConv2d(2, 2, 3, padding=1)
    offsets = conv(2, 18, 5)
    assert told(lambda x: deformed(x, offsets(x))) == (
        "5×5, stride 1, gated by the whole image, depends on the data"
    )
    whole = "whole image, depends on the data"
    grid = conv(2, 2)
    assert (
        told(
            lambda x: torch.nn.functional.grid_sample(
                x, grid(x).permute(0, 2, 3, 1), align_corners=False
            )
        )
        == whole
    )
    assert told(lambda x: x[:, :, x[0, 0, :, 0].argsort()]) == whole
    assert told(lambda x: x.gather(2, x.argmax(2, keepdim=True))) == whole
    assert told(lambda x: x[x > 0.5]) == whole
    assert told(lambda x: x.flatten(2).topk(3).values) == whole
    assert told(lambda x: x * float(x.mean())) == "1×1, stride 1, depends on the data"


def test_unknown_operations_are_noted() -> None:
    assert told(lambda x: torch.linalg.inv(x[:, :, :12])) == (
        "taken as the whole image: aten::linalg_inv_ex is not understood"
    )
    field_text = told(lambda x: torch.linalg.inv(x[:, :, :12]) + x[:, :, :12])
    assert "linalg_inv_ex" in field_text
    assert told(lambda x: torch.zeros_like(x) + 1) == "nothing of the image"


def test_layouts_follow_from_the_dependence() -> None:
    first = conv(2, 4, stride=2)
    last = traced(lambda x: first(x).permute(0, 2, 3, 1))
    assert (last.dims, last.describe()) == ((1, 2), "3×3, stride 2")
    assert traced(first).dims == (2, 3)
    assert traced(lambda x: first(x).flatten(2).transpose(1, 2)).dims == (1, 1)
    assert traced(lambda x: first(x).mean((2, 3))).dims is None


def test_nothing_is_changed() -> None:
    network = as_model(COMPARED[0]).module
    image = sample(2, *SIZE).double().requires_grad_()
    plain = network(image)
    with tracing(image, (ROWS, COLUMNS)) as tracer:
        followed = network(image)
    assert torch.equal(plain, followed)
    assert tracer.field_of(followed).describe() == "12×12, stride 2"
    (gradient,) = torch.autograd.grad(followed.sum(), image)
    assert gradient.abs().sum() > 0


def test_a_network_in_inference_mode() -> None:
    with torch.inference_mode():
        assert told(nn.Sequential(conv(2, 2), nn.ReLU(inplace=True), conv(2, 2))) == (
            "5×5, stride 1"
        )


def test_attention_to_tokens_that_are_about_the_whole_is_a_gate() -> None:
    queries, keys = conv(2, 4, 1), nn.Linear(2, 4)

    def forward(x: Tensor) -> Tensor:
        tokens = queries(x).flatten(2).transpose(1, 2)
        pooled = keys(x.mean((2, 3)))[:, None].expand(1, 3, 4)
        y = nn.functional.scaled_dot_product_attention(tokens, pooled, pooled)
        return y.transpose(1, 2).reshape(1, 4, *SIZE)

    assert told(forward) == "1×1, stride 1, gated by the whole image"


def test_a_branch_of_another_image_depends_on_nothing() -> None:
    other = Function(lambda self, x: torch.ones(1, 2, *SIZE).cumsum(2), unused=conv(2, 2))
    assert told(other) == "nothing of the image"
