"""Errors of predicted height maps: per pixel, and of means over blocks."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from strata.curation.errors import ConfigError, DataError


@dataclass(frozen=True)
class HeightErrors:
    """Errors over all valid pixels (blocks) of all maps together, in the maps' unit.

    Attributes:
        mae: mean absolute error.
        rmse: root of the mean squared error.
        bias: mean of prediction less truth.
        r2: 1 - squared error / squared deviation of the truth from its mean.
        block_r2: the same of means over blocks.
        n_pixels: valid pixels.
        n_blocks: blocks with a valid pixel.
    """

    mae: float
    rmse: float
    bias: float
    r2: float
    block_r2: float
    n_pixels: int
    n_blocks: int


def height_errors(
    pairs: Iterable[tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]], *, block: int = 50, crop: int = 3
) -> HeightErrors:
    """Compare predicted with true maps. Pixels whose truth is NaN do not count.

    Block R2 crops every map by ``crop`` pixels on each side, cuts it into whole blocks of ``block`` x ``block`` pixels from
    the upper left corner (what is left over at the right and below is dropped), and compares their means over valid
    pixels. Source: facebookresearch/HighResCanopyHeight, the metric (crop 3, average pooling of 50); that code knows no
    missing pixels.

    Args:
        pairs: (prediction, truth) of each map, read once.
        block: side of a block in pixels.
        crop: pixels cut off at each side before blocks are made.

    Raises:
        ConfigError: a block below 1 or a crop below 0.
        DataError: maps of different shapes, a prediction that is not finite, no valid pixel, or no whole block.
    """
    if block < 1:
        raise ConfigError("protocol.block", f"is {block}", "use 1 or more pixels")
    if crop < 0:
        raise ConfigError("protocol.crop", f"is {crop}", "use 0 or more pixels")
    pixels, blocks = _Moments(), _Moments()
    for predicted, truth in pairs:
        own_pixels, own_blocks = _compared(predicted, truth, block, crop)
        pixels.add(*own_pixels)
        blocks.add(*own_blocks)
    if not pixels.n:
        raise DataError("no pixel of the truth is valid; check its nodata value")
    if not blocks.n:
        raise DataError(f"no map holds a whole block of {block} pixels after a crop of {crop}; lower protocol.block")
    return HeightErrors(
        pixels.absolute / pixels.n,
        float(np.sqrt(pixels.squared / pixels.n)),
        pixels.signed / pixels.n,
        pixels.r2,
        blocks.r2,
        pixels.n,
        blocks.n,
    )


def error_sums(
    predicted: Float[np.ndarray, "h w"], truth: Float[np.ndarray, "h w"], *, block: int = 50, crop: int = 3
) -> dict[str, float]:
    """The sums over one map that every number of ``height_errors`` comes from, so that maps can be drawn anew (bootstrap).

    Names: ``pixels``, ``absolute``, ``squared`` and ``signed`` (errors), ``truth`` and ``truth_squared``; the last three
    again for means over blocks, ``blocks`` and ``block_...``. Arguments and errors: see ``height_errors``, but a map may
    have no valid pixel.
    """
    (p, y), (means, true_means) = _compared(predicted, truth, block, crop)
    return {
        "pixels": float(len(y)),
        "absolute": float(np.abs(p - y).sum()),
        "squared": float(np.square(p - y).sum()),
        "signed": float((p - y).sum()),
        "truth": float(y.sum()),
        "truth_squared": float(np.square(y).sum()),
        "blocks": float(len(true_means)),
        "block_squared": float(np.square(means - true_means).sum()),
        "block_truth": float(true_means.sum()),
        "block_truth_squared": float(np.square(true_means).sum()),
    }


_Pair = tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]  # prediction, truth


def _compared(
    predicted: Float[np.ndarray, "h w"], truth: Float[np.ndarray, "h w"], block: int, crop: int
) -> tuple[_Pair, _Pair]:
    """The valid pixels of one map, and its means over blocks."""
    if predicted.shape != truth.shape:
        raise DataError(f"a prediction is {predicted.shape} and its truth {truth.shape}; resize the prediction")
    predicted, truth = predicted.astype(np.float64), truth.astype(np.float64)
    valid = ~np.isnan(truth)
    if not np.isfinite(predicted[valid]).all():
        raise DataError("a prediction is not finite; train the decoder with a smaller learning rate")
    inner = slice(crop, -crop or None)
    blocks = _block_means(predicted[inner, inner], truth[inner, inner], valid[inner, inner], block)
    return (predicted[valid], truth[valid]), blocks


def _block_means(
    predicted: Float[np.ndarray, "h w"], truth: Float[np.ndarray, "h w"], valid: np.ndarray, block: int
) -> _Pair:
    rows, columns = (side // block for side in truth.shape)

    def sums(values: np.ndarray) -> Float[np.ndarray, " b"]:
        whole = values[: rows * block, : columns * block].reshape(rows, block, columns, block)
        total: np.ndarray = whole.sum(axis=(1, 3)).ravel()
        return total

    count = sums(valid.astype(np.float64))
    held = count > 0
    means = (sums(np.where(valid, values, 0.0))[held] / count[held] for values in (predicted, truth))
    return next(means), next(means)


class _Moments:
    """Sums of errors and, by Chan's update, of the truth's squared deviations from its mean."""

    def __init__(self) -> None:
        self.n, self.absolute, self.squared, self.signed = 0, 0.0, 0.0, 0.0
        self.mean, self.deviations = 0.0, 0.0

    def add(self, predicted: Float[np.ndarray, " m"], truth: Float[np.ndarray, " m"]) -> None:
        if not len(truth):
            return
        error = predicted - truth
        self.absolute += float(np.abs(error).sum())
        self.squared += float(np.square(error).sum())
        self.signed += float(error.sum())
        mean, total = float(truth.mean()), self.n + len(truth)
        step = mean - self.mean
        self.deviations += float(np.square(truth - mean).sum()) + step**2 * self.n * len(truth) / total
        self.mean += step * len(truth) / total
        self.n = total

    @property
    def r2(self) -> float:
        if self.deviations == 0:
            raise DataError("all true heights are equal, so R2 has no meaning; use a test set with relief")
        return 1 - self.squared / self.deviations
