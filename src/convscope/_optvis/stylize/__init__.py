"""Photographs painted over by ascent: dreams, and one picture in the style of another."""

from convscope._optvis.stylize.dream import dream
from convscope._optvis.stylize.style import style
from convscope._optvis.stylize.stylized_image import StylizedImage

__all__ = ["StylizedImage", "dream", "style"]
