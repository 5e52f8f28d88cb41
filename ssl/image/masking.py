"""Block masks for iBOT: rectangles of patches, an exact number of patches per image, an exact number of images."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from strata.ssl.image.data import mask_rng
from strata.ssl.image.share import Share

_ASPECT = 0.3  # a block's height/width lies in [0.3, 1/0.3], log-uniform
_MIN_BLOCK = 4  # patches
_ATTEMPTS = 10


def block_mask(grid: tuple[int, int], n_masked: int, rng: Generator) -> Bool[np.ndarray, "h w"]:
    """A mask with exactly ``n_masked`` True patches, made of rectangles.

    Draws rectangles of at least 4 patches (as many as still fit the number wanted) until none fits, then tops up
    with single patches drawn at random. dinov2 does not top up: there a mask may be smaller than wanted.

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


def masked_counts(
    n_crops: int, patches: int, probability: float, ratio: tuple[float, float], rng: Generator
) -> NDArray[np.int64]:
    """How many patches each crop of a step hides; 0 for those that are shown whole.

    ``round(n_crops * probability)`` crops are masked, drawn at random. Their shares of hidden patches are spread evenly
    over ``ratio`` (one draw in each of as many equal bins), so that the cost of a step hardly varies.
    Every masked crop hides at least one patch.

    Source: `dinov2#data/collate.py`.
    """
    n_masked = round(n_crops * probability)
    edges = np.linspace(ratio[0], ratio[1], n_masked + 1)
    counts = np.zeros(n_crops, np.int64)
    shares = rng.uniform(edges[:-1], edges[1:])
    counts[rng.permutation(n_crops)[:n_masked]] = np.maximum(1, (patches * shares).astype(np.int64))
    return counts


@dataclass(frozen=True)
class Masks:
    """What is hidden in the global crops of one pass, in the three forms that a step needs; all on the CPU."""

    hidden: Bool[Tensor, "crops patches"]
    places: Int64[Tensor, " m"]  # of the hidden patches in [crops * patches]
    weights: Float[Tensor, " m"]  # 1 / (hidden patches of the crop)

    @classmethod
    def of(cls, hidden: Bool[np.ndarray, "crops patches"]) -> "Masks":
        """Places and weights that follow from the masks."""
        per_crop = hidden.sum(axis=1, keepdims=True)
        weights = np.broadcast_to(1.0 / np.maximum(per_crop, 1), hidden.shape)[hidden]
        places = np.flatnonzero(hidden)
        return cls(torch.from_numpy(hidden), torch.from_numpy(places), torch.from_numpy(weights.astype(np.float32)))


def step_masks(
    grid: tuple[int, int],
    probability: float,
    ratio: tuple[float, float],
    *,
    seed: int,
    step: int,
    share: Share,
    views: int = 2,
) -> Masks:
    """Masks of this pass's global crops, view-major: a part of the step's masks, whatever the number of passes."""
    patches = grid[0] * grid[1]
    counts = masked_counts(views * share.total, patches, probability, ratio, mask_rng(seed, step))
    crops = [view * share.total + image for view in range(views) for image in range(share.first, share.last)]
    hidden = np.zeros((len(crops), patches), dtype=bool)
    for row, crop in enumerate(crops):
        if counts[crop]:
            hidden[row] = block_mask(grid, int(counts[crop]), mask_rng(seed, step, crop)).ravel()
    return Masks.of(hidden)
