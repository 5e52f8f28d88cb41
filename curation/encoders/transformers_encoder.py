"""Any vision model of transformers with safetensors weights: by hub id or from a local folder."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from strata.curation.encoders.network import NetworkEncoder, Precision
from strata.curation.encoders.pretrained import open_pretrained
from strata.curation.errors import ConfigError


class TransformersEncoder(NetworkEncoder):
    """A vision model (or the vision half of CLIP, SigLIP and their like) with its own image processor.

    Args:
        model: hub id ("facebook/dinov2-small") or a folder with ``config.json``, ``preprocessor_config.json`` and
            ``model.safetensors``.
        revision: branch, tag or commit on the hub: pin it, so that the same name stays the same weights.
        local_files_only: never connect; take what the cache has.
        pooling: "cls" (first token), "mean" (patches only) or "pooler" (the model's ``pooler_output``).
        normalize: scale embeddings to unit length.
        precision: see NetworkEncoder.

    Raises:
        ConfigError: it cannot be found or downloaded, lacks weights or an image processor, or has no such pooling.
    """

    name = "transformers"

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        local_files_only: bool = False,
        pooling: Literal["cls", "mean", "pooler"] = "cls",
        normalize: bool = False,
        precision: Precision = "float32",
    ) -> None:
        if pooling not in ("cls", "mean", "pooler"):
            raise ConfigError("encoder.pooling", f"{pooling!r} is unknown", "use cls, mean or pooler")
        self.model, self.revision = model, revision
        network, processor = open_pretrained(
            model, revision, local_files_only or Path(model).is_dir(), "AutoImageProcessor",
            fix="check the name and the connection, or give a local folder saved with save_pretrained",
            needs_pooler=pooling == "pooler",
        )  # fmt: skip
        network = getattr(network, "vision_model", network)
        self.commit: str | None = getattr(network.config, "_commit_hash", None)
        self._transform = Processed(processor)
        blank = self._transform(Image.new("RGB", (64, 64)))
        super().__init__(network, tuple(blank.shape), pooling, normalize, precision)

    @property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """Image -> normalized float32 [c, h, w]."""
        return self._transform

    def pooled(self, batch: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """See NetworkEncoder."""
        output = self.module(pixel_values=batch)
        if self.pooling == "pooler":
            pooled: Tensor | None = getattr(output, "pooler_output", None)
            if pooled is None:
                raise ConfigError("encoder.pooling", "this model has no pooler", "use cls or mean")
            return pooled.flatten(1)
        tokens: Tensor = output.last_hidden_state
        if tokens.ndim == 4:  # a convolutional network: a map of [b, d, h, w]
            tokens = tokens.flatten(2).transpose(1, 2)
        n_prefix = tokens.shape[1] - _n_patches(self.module, batch, tokens.shape[1])
        if self.pooling == "mean":
            return tokens[:, n_prefix:].mean(dim=1)
        if n_prefix == 0:
            raise ConfigError("encoder.pooling", "'cls' but this model has no class token", "use mean or pooler")
        return tokens[:, 0]

    def identity(self) -> dict[str, Any]:
        """See NetworkEncoder."""
        return {
            "model": self.model,
            "revision": self.revision,
            "commit": self.commit,
            "transform": self._transform.describe(),
        }


@dataclass(frozen=True)
class Processed:
    """A transformers image processor as a transform of one image."""

    processor: Any

    def __call__(self, image: Image.Image) -> Float[Tensor, "c h w"]:
        """Resize, crop and normalize as the processor says."""
        pixels: Tensor = self.processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
        return pixels

    def describe(self) -> dict[str, Any]:
        """The resolved transform; ``processor`` is all that the image processor says."""
        settings = json.loads(self.processor.to_json_string())
        cropped = settings.get("do_center_crop")
        resample = settings.get("resample")
        return {
            "size": list(self(Image.new("RGB", (64, 64))).shape[1:]),
            "interpolation": None if resample is None else Image.Resampling(resample).name.lower(),
            "crop": {"mode": "center", "size": settings.get("crop_size")} if cropped else None,
            "mean": settings.get("image_mean") if settings.get("do_normalize") else None,
            "std": settings.get("image_std") if settings.get("do_normalize") else None,
            "processor": settings,
        }


def _n_patches(module: nn.Module, batch: Tensor, n_tokens: int) -> int:
    """Tokens that are patches: those of the patch grid where the model has one, else all."""
    side = getattr(module.config, "patch_size", None)
    if not isinstance(side, int | list | tuple):
        return n_tokens
    height, width = (side, side) if isinstance(side, int) else side
    grid = (batch.shape[2] // height) * (batch.shape[3] // width)
    return grid if grid <= n_tokens else n_tokens  # models that merge patches (Swin) have fewer tokens and no prefix
