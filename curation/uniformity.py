"""How far a distribution is from uniform: a cloud of 2-D points on a square (the paper's Fig. 3), or counts."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from strata.curation.errors import DataError


def density_2d(
    points: ArrayLike, *, bandwidth: float = 0.5, extent: float = 3.0, step: float = 0.02
) -> Float[np.ndarray, "g g"]:
    """Gaussian kernel density of points [n, 2] on a grid of [-extent, extent]^2, renormalized to sum to 1 there.

    Raises:
        DataError: points are not a non-empty, finite [n, 2].
    """
    cloud = np.asarray(points, np.float64)
    if cloud.ndim != 2 or cloud.shape[1] != 2 or len(cloud) == 0 or not np.isfinite(cloud).all():
        raise DataError(f"points of shape {cloud.shape} are no 2-D cloud; give finite values [n, 2]")
    # Cell centers. An isotropic Gaussian is a product over the axes, so the density is one matrix product.
    grid = np.arange(round(2 * extent / step)) * step - extent + step / 2
    kernels = np.exp(-0.5 * ((grid[:, None, None] - cloud) / bandwidth) ** 2)  # [g, n, 2]
    density: Float[np.ndarray, "g g"] = kernels[..., 0] @ kernels[..., 1].T
    return density / density.sum()


def kl_to_uniform_2d(points: ArrayLike, *, bandwidth: float = 0.5, extent: float = 3.0, step: float = 0.02) -> float:
    """KL divergence (nats) from the kernel density of points [n, 2] to the uniform law on [-extent, extent]^2.

    Paper, Fig. 3: bandwidth 0.5, square [-3, 3]^2, grid step 0.02, the density renormalized on the square.
    """
    share = density_2d(points, bandwidth=bandwidth, extent=extent, step=step)
    positive = share[share > 0]
    return float((positive * np.log(positive * share.size)).sum())


def kl_to_uniform(counts: ArrayLike) -> float:
    """KL divergence (nats) from the shares of counts [k] to the uniform law over the k places: log k - entropy.

    Raises:
        DataError: counts are not one row of finite, not negative numbers with a positive sum.
    """
    mass = np.asarray(counts, np.float64)
    if mass.ndim != 1 or not np.isfinite(mass).all() or (mass < 0).any() or not mass.sum() > 0:
        raise DataError(f"counts of shape {mass.shape} have no shares; give numbers [k] of 0 or more, one above 0")
    share = mass[mass > 0] / mass.sum()
    return max(0.0, float((share * np.log(share * len(mass))).sum()))
