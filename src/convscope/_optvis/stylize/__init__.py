"""DeepDream and style transfer.

dream, style   the two public functions
source_image, default_layers   the image to start from, and layers where none are named
tiling   gradients of large images in tiles
style_statistics   style and content losses
stylized_image   the result
"""

from convscope._optvis.stylize.dream import dream
from convscope._optvis.stylize.style import style
from convscope._optvis.stylize.stylized_image import StylizedImage

__all__ = ["StylizedImage", "dream", "style"]
