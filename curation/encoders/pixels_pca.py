"""Small images, flattened, through PCA: a weak encoder that needs no weights, for tests, demos and as a floor."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from strata.curation.encoders.pca import Descriptor, PCAEncoder
from strata.curation.errors import ConfigError


@dataclass(frozen=True)
class TinyImage(Descriptor):
    """The image squashed to ``size`` x ``size`` pixels."""

    size: int
    color: Literal["rgb", "gray"]

    def __call__(self, image: Image.Image) -> UInt8[Tensor, "c h w"]:
        """Pixels of the resized image."""
        small = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        if self.color == "gray":
            return torch.from_numpy(np.array(small.convert("L")))[None]
        return torch.from_numpy(np.array(small)).permute(2, 0, 1)

    def describe(self) -> dict[str, Any]:
        """The resolved transform."""
        return {
            "size": [self.size, self.size],
            "interpolation": "bilinear (PIL, antialiased)",
            "crop": None,
            "mean": None,
            "std": None,
            "color": self.color,
        }


class PixelsPCA(PCAEncoder):
    """PCA of tiny images. Embeddings are the same bits for any batch size and number of workers.

    Args:
        size: side in pixels of the tiny image.
        n_components: length of an embedding.
        color: "rgb" (3 size² features) or "gray" (size²).
        whiten, fit_rows, random_state, normalize: see PCAEncoder.
    """

    name = "pixels_pca"

    def __init__(
        self,
        size: int = 16,
        n_components: int = 64,
        color: Literal["rgb", "gray"] = "rgb",
        whiten: bool = False,
        fit_rows: int = 10000,
        random_state: int = 0,
        normalize: bool = False,
    ) -> None:
        if size < 1:
            raise ConfigError("encoder.size", f"{size} pixels", "use 1 or more, e.g. 16")
        if color not in ("rgb", "gray"):
            raise ConfigError("encoder.color", f"{color!r} is unknown", "use rgb or gray")
        self._transform = TinyImage(size, color)
        n_features = size * size * (3 if color == "rgb" else 1)
        super().__init__(n_features, 255, n_components, whiten, fit_rows, random_state, normalize)

    @property
    def transform(self) -> TinyImage:
        """Image -> uint8 pixels."""
        return self._transform
