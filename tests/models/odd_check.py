"""One network under observation, against plain hooks on another one made alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import plain_reference as plain
import torch
from odd_meaning import Meaning, standard, standards
from odd_networks import Made
from torch import Tensor, nn

import convscope as cs

AT_MOST = 5  # layers that are edited and differentiated
FEW = 1e-5


@dataclass
class Report:
    """Of each layer: ``right``, ``no map`` (marked as such), ``refused``, or what is wrong."""

    layers: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def count(self, word: str) -> int:
        return sum(what == word for what in self.layers.values())


def check(make: Callable[[], Made], images: Tensor) -> Report:
    """Everything that must hold of one network; ``make`` gives it anew each time."""
    report = Report()
    made = make()
    try:
        model = cs.load(made.module, input=(3, *made.size))
        paths = [layer.path for layer in model.layers if layer.shape is not None]
    except cs.ConvscopeError as error:
        report.wrong.append(f"cannot be loaded: {error}")
        return report
    before = plain.state(made.module)
    _Check(make, model, paths, images, report).run()
    report.wrong += [f"changed: {name}" for name in plain.changed(before, plain.state(made.module))]
    return report


def fresh(make: Callable[[], Made]) -> nn.Module:
    return make().module.eval()


class _Check:
    def __init__(
        self,
        make: Callable[[], Made],
        model: cs.Model,
        paths: list[str],
        images: Tensor,
        report: Report,
    ) -> None:
        self.make, self.model, self.images, self.report = make, model, images, report
        self.meanings = make().meanings
        with torch.no_grad():
            self.bare = fresh(make)(images.clone())
            self.modules, self.functions, _ = plain.record(
                fresh(make), images.clone(), [path for path in paths if "/" in path]
            )
        self.paths = paths
        self.drift = self._drift()

    def _drift(self) -> float:
        """How far the network's own results of an image depend on the others of its batch:
        rounding, which a norm over few channels enlarges."""
        drift = 0.0
        with torch.no_grad():
            alone = [plain.record(fresh(self.make), one[None])[0] for one in self.images]
        for path in self.modules.keys() & self.meanings.keys():
            meaning = self.meanings[path]
            apart = torch.cat([standard(results[path], meaning) for results in alone])
            together = standard(self.modules[path], meaning)
            drift = max(drift, float((apart - together).abs().max()))
        assert drift < 1e-2, "the images of a batch are not independent in this network"
        return drift

    def run(self) -> None:
        self._listed()
        logits = self.model.logits(self.images)
        if not torch.equal(torch.as_tensor(logits), self.bare):
            self.wrong("logits", "differ under observation")
        for path in self.paths:
            self._guarded(path, self._layer)
        known = [path for path in self.paths if self.report.layers.get(path) == "right"]
        few = [path for path in known if path in self.meanings][-AT_MOST:]
        for path in few:
            self._guarded(path, self._edit)
            self._guarded(path, self._gradient)

    def wrong(self, path: str, what: str) -> None:
        self.report.layers[path] = what
        self.report.wrong.append(f"{path}: {what}")

    def _guarded(self, path: str, look: Callable[[str], None]) -> None:
        try:
            look(path)
        except cs.ConvscopeError:
            self.report.layers.setdefault(path, "refused")
        except Exception as error:
            self.wrong(path, f"{look.__name__} raises {type(error).__name__}: {error}")

    def _listed(self) -> None:
        """Every result of a module has an address that other images change."""
        with torch.no_grad():
            others, *_ = plain.record(fresh(self.make), self.images.flip(0) * 0.5)
        for path, result in self.modules.items():
            missing = path and "parametrizations" not in path and path not in self.paths
            if missing and not same(result, others[path]):
                self.wrong(path, "is not listed")

    def _layer(self, path: str) -> None:
        raw = self.model.activations(self.images, path, raw=True)[path]
        shown = self.model.activations(self.images, path)[path]
        if path in self.modules:
            if not same(raw, self.modules[path]):
                return self.wrong(path, "raw differs from a plain hook's record")
        elif "/" in path:
            known = self.functions.get(plain.function_key(path), [])
            if not any(same(raw, one) for one in known):
                return self.wrong(path, f"raw is none of {len(known)} results of that function")
        alone = [self.model.activations(one[None], path)[path] for one in self.images]
        if not close(torch.cat(alone), shown, 2 * self.drift):
            return self.wrong(
                path, f"alone {tuple(alone[0].shape)}, together {tuple(shown.shape)}: not the same"
            )
        return self._shown(path, shown)

    def _shown(self, path: str, shown: Tensor) -> None:
        if len(shown) != len(self.images):
            return self.wrong(path, f"{len(shown)} results of {len(self.images)} images")
        meaning = self.meanings.get(path)
        self.report.layers[path] = "right"
        if meaning is None or path not in self.modules:
            return None
        reference = self.modules[path]
        if any(close(shown, one) for one in standards(reference, meaning)):
            return None
        marked = not self.model.layers[path].is_map and shown.ndim < 4
        if marked and mine(shown, reference, meaning):
            self.report.layers[path] = "no map"
            return None
        return self.wrong(path, f"shown as {tuple(shown.shape)}, of {tuple(reference.shape)}")

    def _edit(self, path: str) -> None:
        edited = self.model.edited({path: lambda t: t * 0})
        ours = torch.as_tensor(edited.logits(self.images))

        def zero(address: str, output: object) -> object:
            old = plain.first(output) if address == path else None
            if old is None:
                return None
            return plain.replaced(output, old, zeroed(old, self.meanings[path]))

        module = fresh(self.make)
        with torch.no_grad(), plain.hooked(module, zero):
            theirs = module(self.images.clone())
        if not close(ours, theirs):
            self.wrong(path, "an edit has another effect than a hook's")

    def _gradient(self, path: str) -> None:
        module, entered = fresh(self.make), self.images.clone().requires_grad_()
        try:
            results, _, _ = plain.record(module, entered)
            wanted = results[path]
            shape = self.model.activations(self.images, path)[path]
            expected = next(
                one for one in standards(wanted, self.meanings[path]) if close(one, shape)
            )
            weights = torch.rand(shape.shape, generator=torch.Generator().manual_seed(0))
            (theirs,) = torch.autograd.grad((expected * weights).sum(), entered, allow_unused=True)
        except RuntimeError:
            return  # torch itself cannot: what the backward pass needs was overwritten
        ours_from = self.images.clone().requires_grad_()
        result = self.model.activations(ours_from, [path], grad=True)[path]
        (ours,) = torch.autograd.grad((result * weights).sum(), ours_from, allow_unused=True)
        if (ours is None) != (theirs is None) or (ours is not None and not close(ours, theirs)):
            self.wrong(path, "another gradient than plain autograd's")


def zeroed(tensor: Tensor, meaning: Meaning) -> Tensor:
    """Zero, but for what has no place on the grid."""
    result = tensor * 0
    for at, dim in enumerate(meaning.dims):
        if dim.apart:
            kept = tensor.narrow(at, 0, dim.apart)
            result.narrow(at, 0, dim.apart).copy_(kept)
    return result


def mine(shown: Tensor, reference: Tensor, meaning: Meaning) -> bool:
    """Whether each image has its own numbers, in whatever order."""
    whole = next(standards(reference, meaning))
    for ours, theirs in zip(shown, whole, strict=True):
        known, numbers = theirs.flatten().sort().values, ours.flatten().sort().values
        if len(numbers) < len(known):
            return False
        at = torch.searchsorted(numbers, known).clamp(max=len(numbers) - 1)
        if not torch.equal(numbers[at], known):
            return False
    return True


def same(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and torch.equal(ours, theirs.to(ours.dtype))


def close(ours: Tensor, theirs: Tensor, more: float = 0.0) -> bool:
    if ours.shape != theirs.shape:
        return False
    scale = float(theirs.abs().max()) if theirs.numel() else 0.0
    return torch.allclose(ours, theirs, rtol=0, atol=FEW * max(scale, 1.0) + more)


def problems(reports: Sequence[Report]) -> list[str]:
    return [problem for report in reports for problem in report.wrong]
