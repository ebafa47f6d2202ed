"""Feature maps: what the channels of a layer make of one picture."""

from convscope.maps.layer import LayerMaps
from convscope.maps.recorded import FeatureMaps, feature_maps
from convscope.specimen import Specimen, picture_name

__all__ = ["FeatureMaps", "LayerMaps", "Specimen", "feature_maps", "picture_name"]
