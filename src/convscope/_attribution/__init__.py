"""Attribution: what in the picture, and which channels, an answer rests on."""

from convscope._attribution.result import Attribution, AttributionMap
from convscope._attribution.run import attribute, channel_shares

__all__ = ["Attribution", "AttributionMap", "attribute", "channel_shares"]
