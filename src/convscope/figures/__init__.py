"""Arrays → pictures. Knows no model and no framework: numpy and Pillow (matplotlib for SVG/PDF)."""

from convscope.figures.colours import TABLES, THEMES, Theme, palette, table
from convscope.figures.overlay import overlay
from convscope.figures.quantise import Quantised, Range, State, quantise
from convscope.figures.sheet import Sheet, map_sheet
from convscope.figures.tiles import (
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
    "Quantised",
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
    "quantise",
    "rgb_filter_tiles",
    "table",
]
