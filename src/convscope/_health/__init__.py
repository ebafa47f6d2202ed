"""Channel health: which channels of a network are dead, duplicate or redundant, from an atlas.

- ``layer_statistics``: the statistics of one layer that every check reads
- ``findings``: the kinds of findings, their thresholds, and one finding
- ``activity``: checks of single channels: dead, constant, saturated, always active, selective
- ``similarity``: checks of channels against each other: duplicate channels, redundant layers
- ``health``: all checks of all layers

No model and no framework is loaded.
"""

from convscope._health.findings import KINDS, Finding, Kind
from convscope._health.health import ChannelHealth, check_health
from convscope._health.layer_statistics import ClassStatistics, LayerStatistics

__all__ = [
    "KINDS",
    "ChannelHealth",
    "ClassStatistics",
    "Finding",
    "Kind",
    "LayerStatistics",
    "check_health",
]
