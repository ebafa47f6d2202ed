"""Photographs painted over by ascent: dreams, and one picture in the style of another."""

from convscope._optvis.repainting.dreams import dream
from convscope._optvis.repainting.repainted import StylizedImage
from convscope._optvis.repainting.styles import style

__all__ = ["StylizedImage", "dream", "style"]
