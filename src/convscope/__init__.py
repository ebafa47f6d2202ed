"""convscope: a microscope for convolutional networks.

Point it at a model and some images, and see what every layer and channel responds to.

    import convscope as cs

    maps = cs.feature_maps("demo", "cat.jpg")
    maps.overview().save("depths.png")

Importing this package loads no framework; each name below loads what it needs when first used.
"""

import lazy_loader

__version__ = "0.1.0"

# The names stand in __init__.pyi, and nowhere else.
__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = sorted([*_names, "__version__"])
