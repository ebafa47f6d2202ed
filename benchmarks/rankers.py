"""How other tools find the images that each channel responds to most."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import torch
from peers import reach
from timing import Run
from torch import Tensor, nn

BATCH = 64
Ids = dict[str, Tensor]  # by path: (channels, k), the images, best first


@dataclass(frozen=True)
class Ranker:
    """``prepare(network, images)`` returns a function that returns the ranked ids."""

    name: str
    prepare: Callable[[nn.Module, Tensor], Run]
    remark: str


def convolutions(network: nn.Module) -> dict[str, nn.Module]:
    return {path: one for path, one in network.named_modules() if isinstance(one, nn.Conv2d)}


def sorted_by_hand(network: nn.Module, images: Tensor) -> Run:
    """Keep every activation, then sort: the first thing one writes."""

    def run() -> Ids:
        kept: dict[str, list[Tensor]] = {path: [] for path in convolutions(network)}

        def keep(path: str) -> Callable[..., None]:
            return lambda _m, _i, maps: kept[path].append(maps.clone())

        hooks = [m.register_forward_hook(keep(p)) for p, m in convolutions(network).items()]
        with torch.no_grad():
            for batch in images.split(BATCH):
                network(batch)
        for hook in hooks:
            hook.remove()
        peaks = {path: torch.cat(maps).flatten(2).max(2)[0] for path, maps in kept.items()}
        return {
            path: values.sort(dim=0, descending=True, stable=True).indices[:9].T
            for path, values in peaks.items()
        }

    return run


def semanticlens(network: nn.Module, images: Tensor) -> Run:
    reach("semanticlens")
    from semanticlens.component_visualization import aggregators
    from semanticlens.component_visualization.activation_caching import ActMaxCache

    def run() -> Ids:
        cache = ActMaxCache([*convolutions(network)], aggregators.aggregate_conv_max, 9)
        with cache.hook_context(network), torch.no_grad():
            for batch in images.split(BATCH):
                network(batch)
        return {path: cache[path].sample_ids for path in convolutions(network)}

    return run


def crp(network: nn.Module, images: Tensor) -> Run:
    reach("zennit-crp")
    from crp.attribution import CondAttribution
    from crp.concepts import ChannelConcept
    from crp.helper import load_maximization
    from crp.visualization import FeatureVisualization
    from zennit.composites import EpsilonPlusFlat

    data = [(image, 0) for image in images]
    concepts = {path: ChannelConcept() for path in convolutions(network)}

    def run() -> Ids:
        with tempfile.TemporaryDirectory() as folder, _silent():
            visualization = FeatureVisualization(
                CondAttribution(network),
                data,
                concepts,
                max_target="max",
                abs_norm=False,
                path=folder,
            )
            visualization.run(EpsilonPlusFlat(), 0, len(images), BATCH)
            found = {path: load_maximization(visualization.ActMax.PATH, path) for path in concepts}
        return {path: torch.as_tensor(ids[:9].T) for path, (ids, *_) in found.items()}

    return run


@contextlib.contextmanager
def _silent():  # type: ignore[no-untyped-def]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


RANKERS = {
    "by hand": (
        Ranker(
            "all kept, then argsort", sorted_by_hand, "peaks only; memory grows with the images"
        ),
    ),
    "semanticlens": (
        Ranker("semanticlens ActMaxCache", semanticlens, "peaks only, no positions, no statistics"),
    ),
    "zennit-crp": (Ranker("zennit-crp run", crp, "its own task: relevance too, backward"),),
}
