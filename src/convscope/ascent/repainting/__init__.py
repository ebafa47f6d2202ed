"""Photographs painted over by ascent: dreams, and one picture in the style of another."""

from convscope.ascent.repainting.dreams import dream
from convscope.ascent.repainting.repainted import Repainted
from convscope.ascent.repainting.styles import style

__all__ = ["Repainted", "dream", "style"]
