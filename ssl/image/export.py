"""A trained backbone as a folder that timm opens without us."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from strata.curation.artifact import write_json
from strata.curation.pools.band_scale import BandScale
from strata.ssl.image.backbone import model_args
from strata.ssl.image.config import ImageSSLConfig


def export_config(vit: VisionTransformer, config: ImageSSLConfig, scale: BandScale | None = None) -> dict[str, Any]:
    """``config.json`` in the layout of timm's hub: architecture, model_args, num_features and pretrained_cfg.

    ``timm.create_model(architecture, **model_args, num_classes=0)`` rebuilds the network. Of a network that reads tiles
    ``bands`` holds the range of each band, which mean and std of the pretrained_cfg are shares of.
    """
    bands = {"bands": {"low": list(scale.low), "high": list(scale.high)}} if scale else {}
    return bands | {
        "architecture": config.backbone,
        "num_classes": 0,
        "num_features": vit.num_features,
        "global_pool": "token",
        "model_args": model_args(config),
        "pretrained_cfg": {
            "input_size": [config.in_chans, config.global_size, config.global_size],
            "fixed_input_size": False,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": list(config.mean),
            "std": list(config.std),
            "num_classes": 0,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }


def export_backbone(
    vit: VisionTransformer,
    states: Mapping[str, dict[str, Tensor]],
    config: ImageSSLConfig,
    folder: Path,
    scale: BandScale | None = None,
) -> None:
    """Write ``config.json`` and, of ``states``, "model" (the teacher) and "student", each as NAME.safetensors."""
    for name, tensors in states.items():
        save_file(tensors, folder / f"{name}.safetensors")
    write_json(folder / "config.json", export_config(vit, config, scale))
