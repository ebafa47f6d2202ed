"""The checks of one network: recording against an independent one, a gradient, nothing changed."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from networks import Network
from torch import Tensor, nn

import convscope as cs
from convscope._errors import ConvscopeError

FEW = 3  # with fewer convolutions than that, other layers are recorded too
AT_ONCE = 100  # layers recorded in one pass
TOLERANCE = 1e-4  # of the largest value


class CheckFailed(Exception):
    """A check that did not hold; the text says which."""


def check_network(network: Network) -> dict[str, Any]:
    """Check one network; raises ``CheckFailed`` or whatever goes wrong."""
    torch.manual_seed(0)
    model = sized(network)
    module: nn.Module = model.module
    disturb(module)
    images = torch.rand(1, model.input.channels, *model.input.size)
    images = images.permute(0, 2, 3, 1) if network.zoo.startswith("keras") else images
    paths, what = layers_to_record(
        model
    )  # a forward pass: some networks make tables in their first
    before = state(module)
    for at in range(0, len(paths), AT_ONCE):
        check_recording(network, model, images, paths[at : at + AT_ONCE])
    check_gradient(model, images, paths)
    if state(module) != before:
        raise CheckFailed(f"was changed: {changed(before, state(module))}")
    return {
        "parameters": sum(p.numel() for p in module.parameters()),
        "layers": len(model.layers),
        "convolutions": len(convolutions(model)),
        "recorded": len(paths),
        "what": what,
        "input": "×".join(map(str, (model.input.channels, *model.input.size))),
    }


def check_recording(
    network: Network, model: cs.Model, images: Tensor, paths: Sequence[str]
) -> None:
    """Raw results, and those in the standard layout, against an independent recording."""
    independent = keras_reference if network.zoo.startswith("keras") else torch_reference
    reference = independent(model.module, images, paths)
    own = model.activations(images, paths, raw=True)
    standard = model.activations(images, paths)
    for path in paths:
        if not close(own[path], reference[path]):
            raise CheckFailed(f"differs from the independent recording at {path}")
        if not same_numbers(reference[path], standard[path]):
            raise CheckFailed(f"in the standard layout, {path} has other values")


def sized(network: Network) -> cs.Model:
    """The network with the small input, or with its own where it takes no other."""
    model = cs.load(network.spec)
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


def convolutions(model: cs.Model) -> list[str]:
    return [layer.path for layer in model.layers if "conv" in layer.families]


def layers_to_record(model: cs.Model) -> tuple[list[str], str]:
    """The layers to record, and their name in the table."""
    paths = convolutions(model)
    if len(paths) >= FEW:
        return paths, "convolutions"
    rest = [la.path for la in model.layers if la.shape and len(la.shape) > 1 and not la.function]
    return list(dict.fromkeys(paths + rest)), "convolutions and every module with maps or tokens"


def torch_reference(module: nn.Module, images: Tensor, paths: Sequence[str]) -> dict[str, Tensor]:
    """Plain hooks with clones, on an untouched copy: nothing is switched."""
    shared: Any = {id(p): p for p in module.parameters()}  # the weights need no second copy
    replica = copy.deepcopy(module, shared).eval()
    chosen = set(paths)
    calls: Counter[str] = Counter()
    results: dict[str, Tensor] = {}

    def hook(path: str) -> Callable[..., None]:
        def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
            calls[path] += 1
            address = path if calls[path] == 1 else f"{path}#{calls[path]}"
            if address in chosen:
                results[address] = first(output).clone()

        return note

    for path, part in replica.named_modules():
        part.register_forward_hook(hook(path))
    with torch.no_grad():
        replica(images.clone())
    return results


def keras_reference(module: Any, images: Tensor, paths: Sequence[str]) -> dict[str, Tensor]:
    """Keras's own sub-models, from the inputs to the outputs of the layers."""
    import keras

    inside: dict[str, list[str]] = {}
    for path in paths:
        inside.setdefault(path.rpartition(".")[0], []).append(path.rpartition(".")[2])
    results: dict[str, Tensor] = {}
    for nested, names in inside.items():
        entered, within = images, module
        if nested:  # a model inside the model: what it is given, then its own sub-model
            within = module.get_layer(nested)
            (given,) = within._inbound_nodes[-1].input_tensors
            entered = keras.Model(module.inputs, given)(images, training=False)
        outputs = [within.get_layer(name).output for name in names]
        with torch.no_grad():
            returned = keras.Model(within.inputs, outputs)(entered, training=False)
        returned = returned if isinstance(returned, (list, tuple)) else [returned]
        for name, result in zip(names, returned, strict=True):
            results[f"{nested}.{name}".strip(".")] = result
    return results


def first(result: Any) -> Tensor:
    """The first tensor of floats in nested results."""
    if isinstance(result, Tensor):
        return result
    parts = result.values() if isinstance(result, dict) else result
    return next(t for t in map(first, parts) if t.is_floating_point())


def same_numbers(other: Tensor, ours: Tensor) -> bool:
    """Whether ``ours`` is ``other`` in the standard layout.

    The same numbers in the order of channels and tokens; of windows put back in their places, and
    of windows that were padded, only that all numbers are among the others (where each one belongs
    is what the tests are about).
    """
    if close(ours, other):
        return True
    mine = ours.flatten(2) if ours.ndim > 2 else ours
    for dim in range(1, other.ndim):
        tokens = other.movedim(dim, -1)
        tokens = tokens.flatten(1, -2) if tokens.ndim > 2 else tokens
        if tokens.ndim == mine.ndim and close(mine, tokens[..., -mine.shape[-1] :]):
            return True
    known = other.flatten().sort().values
    at = torch.searchsorted(known, ours.flatten()).clamp(max=len(known) - 1)
    return ours.numel() <= other.numel() and bool((known[at] == ours.flatten()).all())


def close(ours: Tensor, other: Tensor) -> bool:
    if ours.shape != other.shape:
        return False
    scale = float(other.abs().max()) if other.numel() else 0.0
    return torch.allclose(ours, other.float(), rtol=0, atol=TOLERANCE * max(scale, 1e-6))


def check_gradient(model: cs.Model, images: Tensor, paths: Sequence[str]) -> None:
    """One gradient of the deepest recorded layer to the image: finite, and not zero."""
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
