"""Block masks for iBOT: rectangles of patches, an exact number of patches per image, an exact number of images."""

import math

import numpy as np
from jaxtyping import Bool
from numpy.random import Generator
from numpy.typing import NDArray

_ASPECT = 0.3  # a block's height/width lies in [0.3, 1/0.3], log-uniform
_MIN_BLOCK = 4  # patches
_ATTEMPTS = 10


def block_mask(grid: tuple[int, int], n_masked: int, rng: Generator) -> Bool[np.ndarray, "h w"]:
    """A mask with exactly ``n_masked`` True patches, made of rectangles.

    Draws rectangles of at least 4 patches (as many as still fit the number wanted) until none fits, then tops up
    with single patches drawn at random.

    Source: Bao et al. (BEiT), arXiv:2106.08254, Alg. 1; `dinov2#data/masking.py` with its defaults.
    """
    height, width = grid
    mask = np.zeros(grid, dtype=bool)
    count = 0
    for _ in range(_ATTEMPTS):
        left = n_masked - count
        if left < _MIN_BLOCK:
            break
        area = rng.uniform(_MIN_BLOCK, left)
        aspect = math.exp(rng.uniform(math.log(_ASPECT), -math.log(_ASPECT)))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (0 < h <= height and 0 < w <= width):
            continue
        top, side = rng.integers(height - h + 1), rng.integers(width - w + 1)
        block = mask[top : top + h, side : side + w]
        new = h * w - int(block.sum())
        if 0 < new <= left:
            block[:] = True
            count += new
    if count < n_masked:
        free = np.flatnonzero(~mask)
        mask.ravel()[rng.choice(free, n_masked - count, replace=False)] = True
    return mask


def batch_masks(
    n_images: int, grid: tuple[int, int], probability: float, ratio: tuple[float, float], rng: Generator
) -> NDArray[np.bool_]:
    """Masks of a batch of global crops: bool [n_images, h * w], True = hidden from the student.

    ``round(n_images * probability)`` images are masked, drawn at random. Their shares of hidden patches are spread evenly
    over ``ratio`` (one draw in each of as many equal bins), so that the cost of a step hardly varies.
    Every masked image hides at least one patch.

    Source: `dinov2#data/collate.py`.
    """
    patches = grid[0] * grid[1]
    masks = np.zeros((n_images, patches), dtype=bool)
    n_chosen = round(n_images * probability)
    edges = np.linspace(ratio[0], ratio[1], n_chosen + 1)
    for i, image in enumerate(rng.permutation(n_images)[:n_chosen]):
        share = rng.uniform(edges[i], edges[i + 1])
        masks[image] = block_mask(grid, max(1, int(patches * share)), rng).ravel()
    return masks
