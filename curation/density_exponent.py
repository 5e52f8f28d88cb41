"""How the density of centroids on a line follows that of the data: the exponent behind the paper's Fig. 2.

Optimal quantizers for the distortion |x - c|^s in d dimensions have centroids of density p^(d / (d + s)) (Zador 1982;
paper section 3.2): on a line 1/3 for k-means. Each further level of k-means takes that power again.
"""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from strata.curation.clusters_per_class import fit_line
from strata.curation.errors import DataError


def density_exponent(centroids: ArrayLike, data: ArrayLike, *, groups: int = 50) -> float:
    """Slope of log(centroid density) against log(data density), both counted between every m-th centroid.

    Args:
        centroids: [k] or [k, 1]; sorted here and cut into ``groups`` runs of about as many.
        data: [n] or [n, 1]. A run without data has no density and is left out.
        groups: runs, at most k - 1.

    Raises:
        DataError: not on a line, fewer than three distinct runs, or not finite.
    """
    ends, q = run_density(centroids, groups)
    x = np.sort(_line("data", data))
    counts = np.diff(np.searchsorted(x, ends))
    p = counts / (len(x) * np.diff(ends))
    used = counts > 0
    if used.sum() < 3:
        raise DataError(f"only {used.sum()} runs of centroids have data between them; use fewer groups")
    return fit_line(np.log(p[used]), np.log(q[used])).slope


def run_density(centroids: ArrayLike, groups: int) -> tuple[Float[np.ndarray, " g1"], Float[np.ndarray, " g"]]:
    """Ends of the runs and the density of centroids in each (it integrates to 1)."""
    sites = np.unique(_line("centroids", centroids))
    if groups < 2 or len(sites) <= groups:
        raise DataError(f"{len(sites)} distinct centroids in {groups} groups; use fewer groups, 2 or more")
    at = np.linspace(0, len(sites) - 1, groups + 1).round().astype(np.int64)
    ends = sites[at]
    return ends, np.diff(at) / ((len(sites) - 1) * np.diff(ends))


def _line(name: str, values: ArrayLike) -> Float[np.ndarray, " n"]:
    array = np.asarray(values, np.float64)
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise DataError(f"{name} of shape {np.shape(values)} do not lie on a line; give finite values [n]")
    return array
