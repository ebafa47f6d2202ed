"""Figures from arrays. Knows no model and no framework: numpy and Pillow (matplotlib for SVG/PDF).

colors, quantize   which color a value has (colors.json is read by the app too)
tiles, overlay, curves   single maps, kernels, images, curves
grid, layout, legend, text   where everything goes, and what the colors mean
draw, output   pixels and files
sheet   the figure itself
"""

from convscope._plot.colors import TABLES, THEMES, Theme, palette, table
from convscope._plot.overlay import overlay
from convscope._plot.quantize import Quantized, Range, State, quantize
from convscope._plot.sheet import Sheet, map_sheet
from convscope._plot.tiles import (
    RGB_FILTERS,
    Frame,
    Section,
    Tile,
    image_tile,
    kernel_tiles,
    map_tiles,
    overlay_tile,
    rgb_filter_tiles,
)

__all__ = [
    "RGB_FILTERS",
    "TABLES",
    "THEMES",
    "Frame",
    "Quantized",
    "Range",
    "Section",
    "Sheet",
    "State",
    "Theme",
    "Tile",
    "image_tile",
    "kernel_tiles",
    "map_sheet",
    "map_tiles",
    "overlay",
    "overlay_tile",
    "palette",
    "quantize",
    "rgb_filter_tiles",
    "table",
]
