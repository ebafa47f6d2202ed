"""Feature maps: what the channels of a layer make of one picture."""

from convscope._feature_maps.layer import LayerMaps
from convscope._feature_maps.recorded import FeatureMaps, feature_maps
from convscope._models import InputSummary

__all__ = ["FeatureMaps", "InputSummary", "LayerMaps", "feature_maps"]
