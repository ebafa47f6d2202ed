"""Attribution: what in the picture, and which channels, an answer rests on."""

from convscope.attribution.result import Attribution, AttributionMap
from convscope.attribution.run import attribute, channel_shares

__all__ = ["Attribution", "AttributionMap", "attribute", "channel_shares"]
