"""Attribution: what in the picture, and which channels, an answer rests on."""

from convscope.attribution.result import Attribution, AttributionMap
from convscope.attribution.run import attribute

__all__ = ["Attribution", "AttributionMap", "attribute"]
