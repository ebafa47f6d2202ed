"""The checks of one network: every layer against a plain recording, a gradient, nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from compare_layers import Layers, close, compare_layers
from networks import Network
from torch import Tensor, nn

import convscope as cs
from convscope._errors import ConvscopeError

FEW = 3  # with fewer convolutions than that, other layers are differentiated too


class CheckFailed(Exception):
    """A check that did not hold; the text says which."""


def check_network(network: Network) -> dict[str, Any]:
    """Check one network; raises ``CheckFailed`` or whatever goes wrong."""
    torch.manual_seed(0)
    model = sized(network)
    module: nn.Module = model.module
    disturb(module)
    images = torch.rand(2, model.input.channels, *model.input.size)
    images = images.permute(0, 2, 3, 1) if network.zoo.startswith("keras") else images
    model.layers  # a forward pass: some networks make tables in their first  # noqa: B018
    before = state(module)
    found = compare_layers(network, model, images)
    report = {
        "parameters": sum(p.numel() for p in module.parameters()),
        "layers": len(model.layers),
        "functions": sum(layer.function for layer in model.layers),
        "input": "×".join(map(str, (model.input.channels, *model.input.size))),
    } | found.report()
    problems = [f"{path} {text}" for path, text in found.wrong.items()]
    problems += problems_of(lambda: check_gradient(model, images[:1], deepest_last(model, found)))
    if state(module) != before:
        problems.append(f"was changed: {changed(before, state(module))}")
    return {"ok": not problems, "why": "; ".join(problems)[:1000]} | report


def problems_of(check: Callable[[], None]) -> list[str]:
    """What a check found, so that the others go on."""
    try:
        check()
    except (CheckFailed, ConvscopeError, RuntimeError) as error:
        return [" ".join(f"{error}".split())[:300]]
    return []


def sized(network: Network) -> cs.Model:
    """The network with the small input, or with its own where it takes no other."""
    model = cs.load(network.make() if network.make else network.spec)
    if network.size:
        small = cs.load(model, input=(model.input.channels, network.size, network.size))
        try:
            len(small.layers)
        except ConvscopeError:
            pass
        else:
            return small
    if model.input.size is None:
        len(model.layers)  # finds one
        size = (network.size or 224,) * 2
        model = cs.load(model, input=(model.input.channels, *size))
    return model


def disturb(module: nn.Module) -> None:
    """A state that is easily lost: training mode, and every third parameter frozen.

    What starts at zero becomes one: the gradient behind such scales would be zero by construction.
    """
    module.train()
    for number, (name, parameter) in enumerate(module.named_parameters()):
        if not parameter.is_floating_point():
            continue
        parameter.requires_grad_(number % 3 != 0)
        if not name.endswith("bias") and not parameter.any():
            parameter.data.fill_(1.0)


def deepest_last(model: cs.Model, found: Layers) -> list[str]:
    """Those of which one is differentiated: convolutions; all modules where these are few."""
    right = set(found.right)
    layers = [layer for layer in model.layers if layer.path in right and not layer.function]
    paths = [layer.path for layer in layers if "conv" in layer.families]
    if len(paths) >= FEW:
        return paths
    return [layer.path for layer in layers if layer.shape and len(layer.shape) > 1] or paths


def check_gradient(model: cs.Model, images: Tensor, paths: Sequence[str]) -> None:
    """One gradient of the deepest recorded layer to the image: finite, and not zero."""
    if not paths:
        raise CheckFailed("has no layer that is right, to take a gradient of")
    for deepest in reversed(paths):  # one that detects anything: a detector's heads may not
        recorded = model.activations(images, [deepest])[deepest]
        if recorded.numel():
            break
    entered = images.clone().requires_grad_()
    result = model.activations(entered, [deepest], grad=True)[deepest]
    if not close(result.detach(), recorded):
        raise CheckFailed(f"{deepest} differs when a gradient is taken")
    direction = torch.randn(result.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((result * direction).sum(), entered)
    if not bool(gradient.isfinite().all()):
        raise CheckFailed(f"the gradient of {deepest} is not finite")
    if not bool(gradient.any()):
        raise CheckFailed(f"the gradient of {deepest} is zero")


def state(module: nn.Module) -> dict[str, Any]:
    """Everything that could be left changed, in values that can be compared."""
    results: dict[str, Any] = {}
    for path, part in module.named_modules():
        hooks = [len(v) for k, v in vars(part).items() if k.endswith("_hooks") and v is not None]
        results[f"{path} (hooks, mode, inplace, attributes)"] = (
            hooks,
            part.training,
            getattr(part, "inplace", None),
            sorted(map(str, vars(part))),
        )
    for path, weight in module.named_parameters():
        results[path] = (id(weight), weight.requires_grad, weight.grad is None, weight._version)
    for path, buffer in module.named_buffers():
        results[path] = (id(buffer), buffer.double().sum().item() if buffer.numel() else 0.0)
    return results


def changed(before: dict[str, Any], after: dict[str, Any]) -> str:
    keys = [key for key in before | after if before.get(key) != after.get(key)]
    return ", ".join(keys[:3])
