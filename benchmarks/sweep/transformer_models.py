"""Vision models of transformers, with random weights and tiny configurations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import nn

SIDE = 64
_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": SIDE,
    "patch_size": 8,
}
_FOUR: dict[str, Any] = {"depths": [1, 1, 2, 1], "hidden_sizes": [16, 24, 32, 40]}
_RESNET = _FOUR | {"embedding_size": 16}
_SWIN = {
    "image_size": SIDE,
    "patch_size": 2,
    "embed_dim": 16,
    "depths": [2, 2],
    "num_heads": [2, 2],
    "window_size": 4,
}
_SEGFORMER = {
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [16, 16, 32, 32],
    "num_attention_heads": [1, 2, 2, 4],
    "decoder_hidden_size": 16,
}
_DPT = {
    "neck_hidden_sizes": [8, 16, 16, 32],
    "fusion_hidden_size": 16,
    "backbone_out_indices": [0, 1, 2, 3],
    "num_hidden_layers": 4,
    "is_hybrid": False,
}
_LEVIT = {
    "image_size": SIDE,
    "hidden_sizes": [16, 32, 48],
    "num_attention_heads": [1, 2, 3],
    "depths": [1, 1, 1],
    "key_dim": [8, 8, 8],
    "down_ops": [["Subsample", 8, 2, 4, 2, 2], ["Subsample", 8, 4, 4, 2, 2]],
}
_PVT = {
    "image_size": SIDE,
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [16, 16, 32, 32],
    "num_attention_heads": [1, 1, 2, 2],
}
_HIERA = {
    "image_size": [SIDE, SIDE],
    "embed_dim": 16,
    "depths": [1, 1, 2, 1],
    "num_heads": [1, 2, 2, 4],
}
_MOBILEVIT = {
    "image_size": SIDE,
    "hidden_sizes": [16, 24, 32],
    "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32],
    "num_attention_heads": 2,
    "initializer_range": 0.2,  # smaller ones leave nothing of the image at the end
}
_FOCALNET = {"image_size": SIDE, "embed_dim": 16, "depths": [1, 1, 2, 1]}
_CVT = {"embed_dim": [16, 32, 48], "num_heads": [1, 2, 3], "depth": [1, 2, 3]}

# The class of the network, that of its configuration, and what is tiny.
_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "ViTForImageClassification": ("ViTConfig", _VIT),
    "ViTMSNForImageClassification": ("ViTMSNConfig", _VIT),
    "DeiTForImageClassification": ("DeiTConfig", _VIT),
    "BeitForImageClassification": ("BeitConfig", _VIT),
    "Data2VecVisionForImageClassification": ("Data2VecVisionConfig", _VIT),
    "Dinov2ForImageClassification": ("Dinov2Config", _VIT),
    "Dinov2WithRegistersForImageClassification": ("Dinov2WithRegistersConfig", _VIT),
    "DINOv3ViTModel": ("DINOv3ViTConfig", _VIT),
    "IJepaForImageClassification": ("IJepaConfig", _VIT),
    "YolosForObjectDetection": ("YolosConfig", _VIT | {"image_size": [SIDE, SIDE]}),
    "CLIPVisionModel": ("CLIPVisionConfig", _VIT),
    "CLIPVisionModelWithProjection": ("CLIPVisionConfig", _VIT | {"projection_dim": 16}),
    "SiglipVisionModel": ("SiglipVisionConfig", _VIT),
    "BlipVisionModel": ("BlipVisionConfig", _VIT),
    "SwinForImageClassification": ("SwinConfig", _SWIN),
    "Swinv2ForImageClassification": ("Swinv2Config", _SWIN),
    "DonutSwinModel": ("DonutSwinConfig", _SWIN),
    "Swin2SRForImageSuperResolution": ("Swin2SRConfig", _SWIN | {"patch_size": 1}),
    "HieraForImageClassification": ("HieraConfig", _HIERA),
    "ConvNextForImageClassification": ("ConvNextConfig", _FOUR),
    "ConvNextV2ForImageClassification": ("ConvNextV2Config", _FOUR),
    "ResNetForImageClassification": ("ResNetConfig", _RESNET),
    "RegNetForImageClassification": ("RegNetConfig", _RESNET | {"groups_width": 8}),
    "BitForImageClassification": (
        "BitConfig",
        {"embedding_size": 32, "hidden_sizes": [64, 64, 128, 128], "depths": [1, 1, 1, 1]}
        | {"num_groups": 8},
    ),
    "MobileNetV1ForImageClassification": ("MobileNetV1Config", {"depth_multiplier": 0.25}),
    "MobileNetV2ForImageClassification": ("MobileNetV2Config", {"depth_multiplier": 0.35}),
    "MobileNetV2ForSemanticSegmentation": ("MobileNetV2Config", {"depth_multiplier": 0.35}),
    "EfficientNetForImageClassification": (
        "EfficientNetConfig",
        {"width_coefficient": 0.25, "depth_coefficient": 0.5, "hidden_dim": 320},
    ),
    "LevitForImageClassification": ("LevitConfig", _LEVIT),
    "CvtForImageClassification": ("CvtConfig", _CVT),
    "PvtForImageClassification": ("PvtConfig", _PVT),
    "PvtV2ForImageClassification": ("PvtV2Config", _PVT),
    "PoolFormerForImageClassification": ("PoolFormerConfig", _FOUR | {"depths": [1, 1, 1, 1]}),
    "SwiftFormerForImageClassification": (
        "SwiftFormerConfig",
        {"image_size": SIDE, "embed_dims": [16, 24, 32, 40], "depths": [1, 1, 1, 1]},
    ),
    "SegformerForSemanticSegmentation": ("SegformerConfig", _SEGFORMER),
    "SegformerForImageClassification": ("SegformerConfig", _SEGFORMER),
    "GLPNForDepthEstimation": ("GLPNConfig", _SEGFORMER | {"decoder_hidden_size": 16}),
    "DPTForDepthEstimation": ("DPTConfig", _VIT | _DPT),
    "DPTForSemanticSegmentation": ("DPTConfig", _VIT | _DPT),
    "MobileViTForImageClassification": ("MobileViTConfig", _MOBILEVIT),
    "MobileViTForSemanticSegmentation": ("MobileViTConfig", _MOBILEVIT),
    "MobileViTV2ForImageClassification": (
        "MobileViTV2Config",
        {"image_size": SIDE, "width_multiplier": 0.25},
    ),
    "FocalNetForImageClassification": ("FocalNetConfig", _FOCALNET),
    "TextNetForImageClassification": ("TextNetConfig", {}),
    "HGNetV2ForImageClassification": ("HGNetV2Config", {}),
}


def transformer_models() -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    """Each by the name of its class, and how it is made; those that this version has."""
    import transformers

    for name, (configuration, tiny) in _MODELS.items():
        if hasattr(transformers, name) and hasattr(transformers, configuration):
            yield name, partial(_make, name, configuration, tiny)


def _make(name: str, configuration: str, tiny: dict[str, Any]) -> nn.Module:
    import transformers

    module: nn.Module = getattr(transformers, name)(getattr(transformers, configuration)(**tiny))
    return module
