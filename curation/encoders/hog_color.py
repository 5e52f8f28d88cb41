"""Oriented gradients and color histograms through PCA: the strongest encoder here that needs no weights.

HOG after Dalal and Triggs, "Histograms of oriented gradients for human detection" (CVPR 2005): unsigned gradients, soft
orientation bins, 2 x 2 cells per block, L2-Hys. Color: joint RGB histograms of the image's quadrants, square-rooted
(Hellinger distance). All is computed per image, so results do not depend on how images are batched.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int16, UInt8
from PIL import Image
from torch import Tensor

from strata.curation.encoders.pca import Descriptor, PCAEncoder
from strata.curation.errors import ConfigError

_QUADRANTS = 2  # per side


@dataclass(frozen=True)
class GradientsAndColors(Descriptor):
    """Both histograms of an image of ``size`` x ``size`` pixels, each of unit length, weighted, in units of 1/32767."""

    size: int
    cell: int
    bins: int
    color_bins: int
    color_weight: float

    max_value: ClassVar[int] = 32767

    @property
    def n_features(self) -> int:
        """Length of the descriptor."""
        blocks = self.size // self.cell - 1
        return blocks**2 * 4 * self.bins + _QUADRANTS**2 * self.color_bins**3

    def __call__(self, image: Image.Image) -> Int16[Tensor, " d"]:
        """The descriptor, [HOG, color]."""
        small = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        pixels = np.asarray(small)
        gray = np.sqrt(np.asarray(small.convert("L"), np.float64) / 255)
        hog = oriented_gradients(gray, self.cell, self.bins).ravel() * np.sqrt(1 - self.color_weight)
        color = color_histogram(pixels, self.color_bins).ravel() * np.sqrt(self.color_weight)
        return torch.from_numpy(np.rint(np.concatenate([hog, color]) * self.max_value).astype(np.int16))

    def describe(self) -> dict[str, Any]:
        """The resolved transform."""
        return {
            "size": [self.size, self.size],
            "interpolation": "bilinear (PIL, antialiased)",
            "crop": None,
            "mean": None,
            "std": None,
            "hog": {"cell": self.cell, "bins": self.bins, "block": 2, "norm": "l2-hys 0.2", "gamma": 0.5},
            "color": {"bins": self.color_bins, "grid": _QUADRANTS, "norm": "sqrt", "weight": self.color_weight},
        }


def oriented_gradients(gray: Float[np.ndarray, "s s"], cell: int, bins: int) -> Float[np.ndarray, "b b f"]:
    """HOG of a square image, b = s/cell - 1 blocks per side, f = 4 bins; unit length over the whole image.

    Each pixel shares its gradient's magnitude between the two nearest orientations of its cell.
    """
    padded = np.pad(gray, 1, mode="edge")
    dx, dy = padded[1:-1, 2:] - padded[1:-1, :-2], padded[2:, 1:-1] - padded[:-2, 1:-1]
    magnitude = np.sqrt(dx * dx + dy * dy)
    position = np.arctan2(dy, dx) / np.pi % 1 * bins - 0.5
    lower = np.floor(position).astype(np.int64)
    upper_share = position - lower
    cells = gray.shape[0] // cell
    at = np.arange(cells).repeat(cell)
    start = (at[:, None] * cells + at) * bins
    hits = np.stack([start + lower % bins, start + (lower + 1) % bins])
    shares = np.stack([magnitude * (1 - upper_share), magnitude * upper_share])
    counts = np.bincount(hits.ravel(), shares.ravel(), cells * cells * bins).reshape(cells, cells, bins)
    blocks = np.concatenate([counts[:-1, :-1], counts[:-1, 1:], counts[1:, :-1], counts[1:, 1:]], axis=2)
    clipped = np.minimum(_unit(blocks, 1e-2), 0.2)
    return _unit(clipped, 1e-2) / (cells - 1)


def _unit(blocks: Float[np.ndarray, "b b f"], epsilon: float) -> Float[np.ndarray, "b b f"]:
    normed: np.ndarray = blocks / np.sqrt((blocks * blocks).sum(axis=2, keepdims=True) + epsilon**2)
    return normed


def color_histogram(pixels: UInt8[np.ndarray, "s s 3"], bins: int) -> Float[np.ndarray, "q f"]:
    """Square roots of the joint RGB histogram of each quadrant, q = 4, f = bins³; unit length over the whole image."""
    side = pixels.shape[0]
    levels = pixels.astype(np.int64) * bins // 256
    joint = (levels[..., 0] * bins + levels[..., 1]) * bins + levels[..., 2]
    at = np.arange(side) * _QUADRANTS // side
    quadrant = at[:, None] * _QUADRANTS + at
    counts = np.bincount((quadrant * bins**3 + joint).ravel(), minlength=_QUADRANTS**2 * bins**3)
    histogram: np.ndarray = np.sqrt(counts.reshape(_QUADRANTS**2, bins**3) / side**2)
    return histogram


class HOGColor(PCAEncoder):
    """PCA of gradient and color histograms. Embeddings are the same bits for any batch size and number of workers.

    Args:
        size: side in pixels that images are squashed to, a multiple of ``cell``.
        cell: side of a cell in pixels.
        bins: orientations per cell.
        color_bins: levels per color channel.
        color_weight: share of color in the squared length of the descriptor, 0 to 1.
        n_components: length of an embedding.
        normalize: scale embeddings to unit length, on by default: nearest neighbors share a class more often so.
        whiten, fit_rows, random_state: see PCAEncoder.
    """

    name = "hog_color"

    def __init__(
        self,
        size: int = 64,
        cell: int = 8,
        bins: int = 9,
        color_bins: int = 4,
        color_weight: float = 0.25,
        n_components: int = 128,
        whiten: bool = False,
        fit_rows: int = 10000,
        random_state: int = 0,
        normalize: bool = True,
    ) -> None:
        if cell < 1 or size % cell or size < 2 * cell:
            problem = f"{size} pixels in cells of {cell}"
            raise ConfigError("encoder.size", problem, "use a multiple of encoder.cell, two cells or more")
        for field, value in (("bins", bins), ("color_bins", color_bins)):
            if not 1 <= value <= 256:
                raise ConfigError(f"encoder.{field}", f"{value} bins", "use some, e.g. 9 and 4")
        if not 0 <= color_weight <= 1:
            raise ConfigError("encoder.color_weight", f"{color_weight} is out of range", "use 0 to 1")
        self._transform = GradientsAndColors(size, cell, bins, color_bins, color_weight)
        n_features, top = self._transform.n_features, self._transform.max_value
        super().__init__(n_features, top, n_components, whiten, fit_rows, random_state, normalize)

    @property
    def transform(self) -> GradientsAndColors:
        """Image -> int16 descriptor."""
        return self._transform
