"""Arrays → pictures. Knows no model and no framework: numpy and Pillow (matplotlib for SVG/PDF)."""

from convscope._plot.colors import TABLES, THEMES, Theme, palette, table
from convscope._plot.overlay import overlay
from convscope._plot.quantize import Quantized, Range, State, quantize
from convscope._plot.sheet import Sheet, map_sheet
from convscope._plot.tiles import (
    RGB_FILTERS,
    Frame,
    Section,
    Tile,
    kernel_tiles,
    map_tiles,
    overlay_tile,
    picture_tile,
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
    "kernel_tiles",
    "map_sheet",
    "map_tiles",
    "overlay",
    "overlay_tile",
    "palette",
    "picture_tile",
    "quantize",
    "rgb_filter_tiles",
    "table",
]
