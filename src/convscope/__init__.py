"""convscope: a microscope for convolutional networks.

Point it at a model and some images, and see what every layer and channel responds to.

    import convscope as cs

    maps = cs.feature_maps("demo", "cat.jpg")
    maps.overview().save("depths.png")

Importing this package loads no framework; each name below loads what it needs when first used.
"""

import sys

import lazy_loader

__version__ = "0.1.0"

# The names stand in __init__.pyi, and nowhere else.
_load, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = sorted([*_names, "__version__"])


def __getattr__(name: str) -> object:
    if name in _names:
        return _load(name)
    message = f"module 'convscope' has no attribute {name!r}"
    raise AttributeError(message, name=name, obj=sys.modules[__name__])
