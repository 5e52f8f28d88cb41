"""Open a trained backbone with timm."""

import json
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer

from strata.curation.errors import DataError


def load_backbone(folder: str | Path, weights: str = "model") -> tuple[VisionTransformer, dict[str, Any]]:
    """The model in eval mode, and its ``mean``, ``std`` and ``input_size`` (channels, height, width).

    Args:
        folder: written by ``pretrain``.
        weights: "model" (the teacher) or "student".

    Raises:
        DataError: a file is missing.
    """
    folder = Path(folder)
    for file in (folder / "config.json", folder / f"{weights}.safetensors"):
        if not file.is_file():
            raise DataError(f"{file} is missing; run the pretrain stage again")
    config = json.loads((folder / "config.json").read_text())
    model = timm.create_model(config["architecture"], pretrained=False, num_classes=0, **config["model_args"])
    model.load_state_dict(load_file(folder / f"{weights}.safetensors"), strict=True)
    assert isinstance(model, VisionTransformer)
    return model.eval(), {key: config["pretrained_cfg"][key] for key in ("mean", "std", "input_size")}
