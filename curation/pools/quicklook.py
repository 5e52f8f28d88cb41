"""A multi-band tile as a picture to look at."""

import numpy as np
from jaxtyping import Shaped
from PIL import Image


def quicklook(tile: Shaped[np.ndarray, "c h w"]) -> Image.Image:
    """The first three bands as red, green and blue (one or two bands: the first as gray), each from its percentile 2 to 98.

    For the eye only: the stretch differs from tile to tile.
    """
    bands = tile[:3] if len(tile) >= 3 else tile[[0, 0, 0]]
    flat = bands.reshape(3, -1).astype(np.float64)
    low, high = np.percentile(flat, [2, 98], axis=1)
    shares = (flat - low[:, None]) / np.maximum(high - low, 1e-12)[:, None]
    pixels = (np.clip(shares, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels.reshape(3, *tile.shape[1:]).transpose(1, 2, 0)))
