"""The replica: equal to an untouched copy, and nothing of the user's network is touched."""

from __future__ import annotations

import copy
import functools
import threading
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations as parametrized
from torch.nn.utils import prune, spectral_norm, weight_norm

import convscope as cs
from convscope._models.replica import Replica

# The deprecated ways to normalize weights are what many networks still use.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")


class Residual(nn.Module):
    """Its input lives on after a module overwrote it: in place, ``x`` becomes ``relu(x)``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.conv(self.relu(x)) + x


class Holder:
    """A plain object that leads to a module, and back to itself."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.owner = module, self


class Hidden(nn.Module):
    """Modules where ``named_modules`` does not see them, and a forward pass that writes."""

    def __init__(self) -> None:
        super().__init__()
        self.listed: list[Any] = [nn.Conv2d(3, 3, 3, padding=1), [nn.ReLU(inplace=True)]]
        self.table = {"a": (nn.Conv2d(3, 3, 1),)}
        self.conv = nn.Conv2d(3, 3, 1)
        self.closure: Callable[[Tensor], Tensor] = lambda x: self.conv(x) * 2
        self.bound = self.conv.forward
        self.partial = functools.partial(self.conv)
        self.method = types.MethodType(lambda own, x: own.conv(x), self)
        self.holder = Holder(self.conv)
        self.register_buffer("calls", torch.zeros(1))
        self.plain = torch.zeros(1)
        self.history: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.listed[1][0](self.listed[0](x))
        x = self.table["a"][0](x)
        self.calls += 1
        self.plain.add_(1)
        self.history.append(1)
        parts = (self.closure, self.bound, self.partial, self.method, self.holder.module)
        return sum((part(x) for part in parts), self.calls)


class Rows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 5, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x.mean(1))[0]


class Patched(nn.Module):
    """A layer whose ``forward`` was replaced on the object."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.conv.forward = functools.partial(  # type: ignore[method-assign]
            lambda own, x: nn.Conv2d.forward(own, x) + 1, self.conv
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def _tied() -> nn.Module:
    first, second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
    second.weight = first.weight
    shared = nn.BatchNorm2d(3)
    return nn.Sequential(first, shared, second, shared)


def _conv(wrap: Callable[[nn.Module], nn.Module]) -> nn.Module:
    return nn.Sequential(wrap(nn.Conv2d(3, 4, 3)), nn.ReLU(inplace=True), nn.Dropout(0.9))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "hidden": Hidden,
    "lstm": Rows,
    "patched": Patched,
    "tied": _tied,
    "weight norm": lambda: _conv(weight_norm),
    "spectral norm": lambda: _conv(spectral_norm),
    "pruned": lambda: _conv(lambda conv: prune.l1_unstructured(conv, "weight", 0.5)),
    "parametrized weight norm": lambda: _conv(parametrized.weight_norm),
    "parametrized spectral norm": lambda: _conv(parametrized.spectral_norm),
    "graph": lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(True))),
    "compiled": lambda: nn.Sequential(torch.compile(nn.Conv2d(3, 4, 3), backend="eager")),
}


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))


def _recording(recorded: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        recorded[name] = output.clone()

    return hook


def _state(network: nn.Module) -> dict[str, Any]:
    """All that a pass may change: numbers, versions, modes, hooks, flags."""
    tensors = {name: (value.clone(), value._version) for name, value in _tensors(network)}
    flags = [
        (module.training, getattr(module, "inplace", None), len(module._forward_hooks))
        for module in network.modules()
    ]
    return {
        "tensors": tensors,
        "flags": flags,
        "grad": [parameter.requires_grad for parameter in network.parameters()],
    }


def _tensors(network: nn.Module) -> list[tuple[str, Tensor]]:
    return [*network.named_parameters(), *network.named_buffers()]


def _assert_untouched(network: nn.Module, before: dict[str, Any]) -> None:
    now = _state(network)
    assert now["flags"] == before["flags"]
    assert now["grad"] == before["grad"]
    assert now["tensors"].keys() == before["tensors"].keys()
    for name, (value, version) in now["tensors"].items():
        torch.testing.assert_close(value, before["tensors"][name][0], rtol=0, atol=0)
        assert version == before["tensors"][name][1], name


@pytest.mark.parametrize("kind", NETWORKS)
def test_logits_are_those_of_an_untouched_copy(kind: str, images: Tensor) -> None:
    torch.manual_seed(0)
    network = NETWORKS[kind]().train()
    before = _state(network)
    model = cs.load(network, input=(3, 8, 6))
    with torch.no_grad():
        observed = [model.logits(images), model.logits(images)]
    _assert_untouched(network, before)
    with torch.no_grad():
        expected = network.eval()(images)  # the user's own, and only now
    for output in observed:
        torch.testing.assert_close(output, expected, rtol=0, atol=0)


def test_what_a_pass_writes_stays_in_the_replica(images: Tensor) -> None:
    network = Hidden()
    model = cs.load(network, input=(3, 8, 6))
    first, second = model.logits(images), model.logits(images)
    assert torch.equal(first, second)  # buffers begin each pass as the user's are
    assert (network.calls.item(), network.plain.item(), network.history) == (0, 0, [])


@pytest.mark.parametrize("grad", [False, True])
def test_an_overwritten_input_lives_on_as_it_does_unobserved(grad: bool, images: Tensor) -> None:
    """Hooks on an untouched copy are the reference; its ReLU stays in place."""
    network = Residual()
    reference, recorded = copy.deepcopy(network), {}
    for name, module in reference.named_children():
        module.register_forward_hook(_recording(recorded, name))
    expected = reference(images)
    model = cs.load(network, input=(3, 8, 6))
    layers = ["stem", "relu", "conv", "/add"]
    maps = model.activations(images, layers, grad=grad)
    for name, values in recorded.items():
        torch.testing.assert_close(maps[name], values, rtol=0, atol=0)
    torch.testing.assert_close(maps["/add"], expected, rtol=0, atol=0)
    assert float(maps["stem"].min().detach()) < 0


def test_gradients_of_an_overwritten_result_are_those_of_autograd(images: Tensor) -> None:
    network = Residual()
    model = cs.load(network, input=(3, 8, 6))
    maps = model.activations(images, ["stem", "/add"], grad=True)
    (gradient,) = torch.autograd.grad(maps["/add"].square().sum(), maps["stem"])
    stem = network.stem(images).detach().requires_grad_()
    rectified = stem.relu()  # what the rest of the network sees of ``x`` too
    (expected,) = torch.autograd.grad((network.conv(rectified) + rectified).square().sum(), stem)
    torch.testing.assert_close(gradient, expected)


def test_training_in_between_is_followed(images: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    model = cs.load(network, input=(3, 8, 6))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    for _ in range(2):
        network.train()(images).square().sum().backward()
        optimizer.step()
        expected = copy.deepcopy(network).eval()(images)
        torch.testing.assert_close(model.logits(images), expected, rtol=0, atol=0)
        assert network.training


def test_another_structure_is_followed(images: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    model = cs.load(network, input=(3, 8, 6))
    before = model.logits(images)
    network[0] = nn.Conv2d(3, 4, 3)
    assert not torch.equal(model.logits(images), before)
    torch.testing.assert_close(model.logits(images), network(images), rtol=0, atol=0)
    network[0].weight = nn.Parameter(torch.zeros(4, 3, 3, 3))
    torch.testing.assert_close(model.logits(images), network(images), rtol=0, atol=0)
    network.double()
    torch.testing.assert_close(model.logits(images).double(), network(images.double()))


@pytest.mark.parametrize("wrap", [weight_norm, spectral_norm, parametrized.weight_norm])
def test_kernels_are_those_of_now(wrap: Callable[[nn.Module], nn.Module], images: Tensor) -> None:
    """Recovered from the layer's own response to unit impulses."""
    network = nn.Sequential(wrap(nn.Conv2d(3, 4, 3)), nn.ReLU())
    model = cs.load(network, input=(3, 8, 6))
    model.weights("0")
    network(images).square().sum().backward()
    torch.optim.SGD(network.parameters(), lr=1.0).step()
    kernel = model.weights("0")
    impulses = torch.eye(27).view(27, 3, 3, 3)
    with torch.no_grad():
        layer = network.eval()[0]
        response = layer(impulses) - layer(torch.zeros(1, 3, 3, 3))
    torch.testing.assert_close(torch.from_numpy(kernel).flatten(1).T, response.flatten(1))
    assert [la.path for la in model.layers] == ["0", "1"]
    assert [la.path for la in model.layers.select("kind=conv")] == ["0"]


def test_other_threads_are_neither_seen_nor_stopped(images: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3)).eval()
    model = cs.load(network, input=(3, 8, 6))
    with torch.no_grad():
        expected, other = network[0](images), torch.full((1, 3, 8, 6), 9.0)
        bare = network(other)
    ended, wrong = threading.Event(), []

    def own_forward() -> None:
        while not ended.is_set():
            try:
                with torch.no_grad():
                    same = torch.equal(network(other), bare)
            except BaseException as error:  # our way to end a pass is one
                wrong.append(error)
            else:
                wrong.extend([] if same else ["another output"])

    thread = threading.Thread(target=own_forward)
    thread.start()
    try:
        for _ in range(200):
            recorded = model.activations(images, "0")["0"]
            torch.testing.assert_close(recorded, expected, rtol=0, atol=0)
    finally:
        ended.set()
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("made_in_inference_mode", [False, True])
def test_inference_mode_does_not_reach_the_gradients(
    made_in_inference_mode: bool, images: Tensor
) -> None:
    with torch.inference_mode(made_in_inference_mode):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    with torch.inference_mode():
        model = cs.load(network, input=(3, 8, 6))
        maps = model.activations(images.clone(), ["0", "1"], grad=True)
    (gradient,) = torch.autograd.grad(maps["1"].sum(), maps["0"])
    torch.testing.assert_close(gradient, (maps["0"] > 0).float())


def test_a_forward_in_inference_mode_is_recorded_before_it_is_overwritten(images: Tensor) -> None:
    class Inferring(nn.Sequential):
        @torch.inference_mode()
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    network = Inferring(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    model = cs.load(network, input=(3, 8, 6))
    values = model.activations(images, ["0"])["0"]
    torch.testing.assert_close(values, network[0](images).detach(), rtol=0, atol=0)


def test_scripted_parts_are_the_users_own(images: Tensor) -> None:
    network = nn.Sequential(torch.jit.script(nn.ReLU()), nn.Conv2d(3, 4, 3)).train()
    replica = Replica(network)
    assert replica.shared == [network[0]]
    model = cs.load(network, input=(3, 8, 6))
    torch.testing.assert_close(model.logits(images), network(images).detach(), rtol=0, atol=0)
    assert network[0].training


class Caching(nn.Module):
    """Keeps in evaluation mode what it computed of its weights, as LeViT does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.scale = nn.Parameter(torch.ones(4))
        self.cache: dict[str, Tensor] = {}
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        if "scale" not in self.cache:
            self.cache["scale"] = self.scale.exp()
        self.last = self.cache["scale"]
        self.calls.append(len(self.calls))
        return self.conv(x) * self.cache["scale"][:, None, None]


def test_what_a_pass_caches_is_forgotten() -> None:
    network = Caching().eval()
    model = cs.load(network, input=(3, 8, 8))
    values = torch.rand(2, 3, 8, 8)
    assert torch.equal(
        model.logits(values), network.conv(values) * torch.ones(4).exp()[:, None, None]
    )
    assert not network.cache
    assert not network.calls
    with torch.no_grad():
        network.scale.add_(1)
    expected = network.conv(values) * (torch.ones(4) + 1).exp()[:, None, None]
    assert torch.equal(model.logits(values), expected)
    assert not hasattr(network, "last")
