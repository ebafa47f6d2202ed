"""Feature maps: the activations of layers for an image, as numbers and figures."""

from convscope._feature_maps.feature_maps import (
    FeatureMaps,
    FeatureMapsBatch,
    feature_maps,
    record_maps,
)
from convscope._feature_maps.layer_maps import LayerMaps

__all__ = ["FeatureMaps", "FeatureMapsBatch", "LayerMaps", "feature_maps", "record_maps"]
