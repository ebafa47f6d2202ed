"""Compiled, parallel, half, quantized, scripted, exported: analyzed, or an error of one line."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convscope as cs
from convscope._errors import ModelError

# What torch says of its own parts, which are on their way to another package.
pytestmark = pytest.mark.filterwarnings("ignore")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 6, 3)).eval()


def compiled_inside() -> nn.Module:
    whole = network()
    whole[2] = torch.compile(whole[2], backend=never)  # type: ignore[assignment]
    return whole


def compiled_itself() -> nn.Module:
    whole = network()
    whole.compile(backend=never)
    return whole


def never(*_: Any) -> Any:
    raise AssertionError("nothing is to be compiled in order to look at it")


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def reset() -> Iterator[None]:
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda: torch.compile(network(), backend=never),
        compiled_inside,
        compiled_itself,
        lambda: nn.DataParallel(network()),
        lambda: torch.compile(nn.DataParallel(network()), backend=never),
        lambda: torch.fx.symbolic_trace(network()),
        lambda: network().double(),
    ],
)
def test_wrappers_around_a_network_are_removed(
    wrap: Callable[[], nn.Module], images: Tensor
) -> None:
    expected = cs.load(network()).activations(images, "kind=conv")
    model = cs.load(wrap(), input=(3, 9, 9))
    found = model.activations(images, "kind=conv")
    assert found.keys() == expected.keys() == {"0", "2"}
    for path, values in found.items():
        assert torch.allclose(values, expected[path], atol=1e-6)
    entered = images.clone().requires_grad_()
    result = model.activations(entered, "2", grad=True)["2"]
    assert torch.autograd.grad(result.sum(), entered)[0].any()


def test_a_wrapped_network_keeps_its_own_name() -> None:
    assert cs.load(nn.DataParallel(network())).name == "Sequential"
    assert cs.load(torch.compile(network())).name == "Sequential"


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_gives_float32(kind: torch.dtype, images: Tensor) -> None:
    expected = cs.load(network()).activations(images, "kind=conv")
    entered = images.clone().requires_grad_()
    found = cs.load(network().to(kind)).activations(entered, "kind=conv", grad=True)
    for path, values in found.items():
        assert values.dtype == torch.float32
        assert torch.allclose(values, expected[path], atol=0.02)
    assert torch.autograd.grad(found["2"].sum(), entered)[0].dtype == torch.float32


def test_half_precision_where_the_processor_lacks_it(images: Tensor) -> None:
    class Lacking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("\"inverse\" not implemented for 'Half'")

    with pytest.raises(ModelError, match=r"give network\.float\(\)$"):
        cs.load(Lacking().half()).logits(images)


def quantized(images: Tensor) -> nn.Module:
    from torch.ao import quantization

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter = quantization.QuantStub()
            self.conv = nn.Conv2d(3, 4, 3)
            self.relu = nn.ReLU()
            self.leave = quantization.DeQuantStub()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.leave(self.relu(self.conv(self.enter(x))))
            return out

    engines = [e for e in torch.backends.quantized.supported_engines if e != "none"]
    if not engines:
        pytest.skip("torch was built without quantized operations")
    torch.manual_seed(0)
    net = Net().eval()
    net.qconfig = quantization.default_qconfig  # type: ignore[assignment]
    quantization.prepare(net, inplace=True)
    net(images)
    reference = net.conv(images).detach()
    quantization.convert(net, inplace=True)
    net.reference = reference  # type: ignore[assignment]
    return net


def test_quantized_networks_have_maps_and_no_gradients(images: Tensor) -> None:
    net = quantized(images)
    model = cs.load(net, input=(3, 9, 9))
    maps = model.activations(images, "kind=conv")["conv"]
    assert torch.allclose(maps, net.reference, atol=0.1)  # type: ignore[arg-type]
    with pytest.raises(ModelError) as caught:
        model.activations(images, "conv", grad=True)
    assert str(caught.value) == (
        "'conv' holds integers, and those have no gradient. Give the network as it was before "
        "quantization"
    )


def test_dynamically_quantized_networks(images: Tensor) -> None:
    whole = nn.Sequential(network(), nn.Flatten(), nn.Linear(150, 2))
    small = torch.ao.quantization.quantize_dynamic(whole, {nn.Linear}, dtype=torch.qint8)
    maps = cs.load(small, input=(3, 9, 9)).activations(images, "kind=conv", grad=True)
    assert torch.allclose(maps["0.2"], network()(images), atol=1e-6)


def scripted() -> Any:
    return torch.jit.script(network())


def traced() -> Any:
    return torch.jit.trace(network(), torch.rand(1, 3, 9, 9))


def exported() -> Any:
    return torch.export.export(network(), (torch.rand(1, 3, 9, 9),))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            scripted,
            "RecursiveScriptModule is a TorchScript program, whose layers cannot be inspected. "
            "Give the nn.Module it was made from",
        ),
        (
            traced,
            "TopLevelTracedModule is a TorchScript program, whose layers cannot be inspected. "
            "Give the nn.Module it was made from",
        ),
        (
            exported,
            "An exported program has no modules left to inspect. Give the nn.Module it "
            "was made from",
        ),
        (
            lambda: network().state_dict(),
            "A dict holds weights at most, not their network. Build "
            "it, and network.load_state_dict(...)",
        ),
        (lambda: lambda x: x, "A function is not a model. Give what it returns"),
        (
            lambda: 7,
            "A int is not a model. Give a name such as 'torchvision:vgg16', a file, an "
            "nn.Module or a keras.Model",
        ),
        (
            lambda: nn.Sequential(nn.LazyConv2d(4, 3)),
            "Sequential has lazy layers without weights. Call it once on a batch first",
        ),
    ],
)
def test_what_cannot_be_inspected_is_an_error_of_one_line(
    make: Callable[[], Any], text: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = make()
    with pytest.raises(ModelError) as caught:
        cs.load(made)
    assert str(caught.value) == text


def test_sharded_weights_get_one_line() -> None:
    class FullyShardedDataParallel(nn.Module):
        pass

    with pytest.raises(ModelError, match=r"over several processes \(FSDP\)\. Load its full state"):
        cs.load(FullyShardedDataParallel())


def test_functions_of_an_exported_graph_are_convolutions(images: Tensor) -> None:
    graph = exported().module()
    maps = cs.load(graph, input=(3, 9, 9)).activations(images[:1], "kind=conv")
    assert list(maps) == ["/conv2d", "/conv2d#2"]
    expected = cs.load(network()).activations(images[:1], "kind=conv")
    assert torch.allclose(maps["/conv2d"], expected["0"], atol=1e-6)


def test_a_lone_layer_is_a_network_of_one() -> None:
    conv = nn.Conv2d(1, 2, 3)
    model = cs.load(conv)
    assert [layer.path for layer in model.layers] == ["conv2d"]
    image = torch.rand(1, 1, 5, 6)
    assert torch.equal(model.activations(image, "kind=conv")["conv2d"], conv(image).detach())
    assert model.weights("conv2d").shape == (2, 1, 3, 3)
    assert not conv._forward_hooks
    assert conv.training


def test_a_convolution_of_ones_own_is_one() -> None:
    class BlurConv(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 3, 2, 2))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(x, self.weight)

    model = cs.load(nn.Sequential(BlurConv()), input=(3, 5, 5))
    assert [layer.path for layer in model.layers.select("kind=conv")] == ["0"]


def test_several_inputs_get_one_line() -> None:
    class Two(nn.Module):
        def forward(self, picture: Tensor, other: Tensor) -> Tensor:
            return picture + other

    with pytest.raises(ModelError) as caught:
        len(cs.load(Two(), input=(3, 4, 4)).layers)
    assert str(caught.value).endswith(
        "missing 1 required positional argument: 'other'. It takes more than one input. Give a "
        "module that takes the image alone, and whose forward calls it with the others"
    )


def test_several_inputs_in_keras_get_the_same_line() -> None:
    import keras

    one, two = keras.Input((4, 4, 3)), keras.Input((4, 4, 3))
    model = cs.load(keras.Model([one, two], keras.layers.Add()([one, two])), input=(3, 4, 4))
    with pytest.raises(ModelError, match=r"It takes more than one input\. Give a module"):
        len(model.layers)


def test_torchscript_inside_is_left_alone(images: Tensor) -> None:
    whole = nn.Sequential(nn.Conv2d(3, 4, 3), torch.jit.script(nn.ReLU()), nn.Conv2d(4, 5, 3))
    model = cs.load(whole.eval(), input=(3, 9, 9))
    maps = model.activations(images, "kind=conv")
    assert list(maps) == ["0", "2"]
    assert torch.allclose(maps["2"], whole(images), atol=1e-6)
