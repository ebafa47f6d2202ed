"""convscope: a microscope for convolutional networks.

Point it at a model and some images, and see what every layer and channel responds to.

    import convscope as cs

    maps = cs.feature_maps("demo", "cat.jpg")
    maps.overview().save("depths.png")

Importing this package loads no framework; each name below loads what it needs when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convscope.ablation import ablate as ablate
    from convscope.ascent import Fourier as Fourier
    from convscope.ascent import MaCo as MaCo
    from convscope.ascent import Pixels as Pixels
    from convscope.ascent import Transforms as Transforms
    from convscope.ascent import activation_grid as activation_grid
    from convscope.ascent import between as between
    from convscope.ascent import caricature as caricature
    from convscope.ascent import channel as channel
    from convscope.ascent import direction as direction
    from convscope.ascent import diversity as diversity
    from convscope.ascent import dream as dream
    from convscope.ascent import layer as layer
    from convscope.ascent import logit as logit
    from convscope.ascent import maximize as maximize
    from convscope.ascent import neuron as neuron
    from convscope.ascent import style as style
    from convscope.atlas import Atlas as Atlas
    from convscope.atlas import open_atlas as open_atlas
    from convscope.attribution import attribute as attribute
    from convscope.checkup import diagnose as diagnose
    from convscope.comparison import checkpoints as checkpoints
    from convscope.comparison import compare as compare
    from convscope.data import open_dataset as open_dataset
    from convscope.errors import ConvscopeError as ConvscopeError
    from convscope.kernels import filters as filters
    from convscope.maps import feature_maps as feature_maps
    from convscope.models import Model as Model
    from convscope.models import load as load
    from convscope.preprocess import Preprocess as Preprocess
    from convscope.reports import report as report
    from convscope.scanning import scan as scan
    from convscope.training import Recipe as Recipe
    from convscope.training import train as train
    from convscope.tuning import sensitivity as sensitivity
    from convscope.watching import Frames as Frames
    from convscope.watching import TensorBoard as TensorBoard
    from convscope.watching import watch as watch
    from convscope.web import export as export
    from convscope.web import serve as serve
    from convscope.web import show as show

__version__ = "0.1.0"

_WHERE = {
    "Atlas": "atlas",
    "ConvscopeError": "errors",
    "Fourier": "ascent",
    "Frames": "watching",
    "MaCo": "ascent",
    "Model": "models",
    "Pixels": "ascent",
    "Preprocess": "preprocess",
    "Recipe": "training",
    "TensorBoard": "watching",
    "Transforms": "ascent",
    "ablate": "ablation",
    "activation_grid": "ascent",
    "attribute": "attribution",
    "between": "ascent",
    "caricature": "ascent",
    "channel": "ascent",
    "checkpoints": "comparison",
    "compare": "comparison",
    "diagnose": "checkup",
    "direction": "ascent",
    "diversity": "ascent",
    "dream": "ascent",
    "export": "web",
    "feature_maps": "maps",
    "filters": "kernels",
    "layer": "ascent",
    "load": "models",
    "logit": "ascent",
    "maximize": "ascent",
    "neuron": "ascent",
    "open_atlas": "atlas",
    "open_dataset": "data",
    "report": "reports",
    "scan": "scanning",
    "sensitivity": "tuning",
    "serve": "web",
    "show": "web",
    "style": "ascent",
    "train": "training",
    "watch": "watching",
}

__all__ = [
    "Atlas",
    "ConvscopeError",
    "Fourier",
    "Frames",
    "MaCo",
    "Model",
    "Pixels",
    "Preprocess",
    "Recipe",
    "TensorBoard",
    "Transforms",
    "__version__",
    "ablate",
    "activation_grid",
    "attribute",
    "between",
    "caricature",
    "channel",
    "checkpoints",
    "compare",
    "diagnose",
    "direction",
    "diversity",
    "dream",
    "export",
    "feature_maps",
    "filters",
    "layer",
    "load",
    "logit",
    "maximize",
    "neuron",
    "open_atlas",
    "open_dataset",
    "report",
    "scan",
    "sensitivity",
    "serve",
    "show",
    "style",
    "train",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'convscope' has no attribute {name!r}")
    value = getattr(import_module(f"convscope.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
