"""Label-free measures of an embedding from its spectrum: effective rank, decay of its eigenvalues, LiDAR."""

import numpy as np
from jaxtyping import Float, Int

_EPS = 1e-7


def second_moment(z: Float[np.ndarray, "n d"], weights: Float[np.ndarray, " n"] | None = None) -> np.ndarray:
    """``z.T @ diag(weights) @ z`` in float64 [d, d]: all that RankMe and alpha-ReQ need to know."""
    total = np.zeros((z.shape[1], z.shape[1]))
    for start in range(0, len(z), 8192):
        block = np.asarray(z[start : start + 8192], np.float64)
        weighted = block if weights is None else block * weights[start : start + 8192, None]
        total += weighted.T @ block
    return total


def rankme(moment: Float[np.ndarray, "d d"]) -> float:
    """Smooth rank: exp of the entropy of the singular values of Z, each over their sum (plus 1e-7).

    Source: Garrido et al. 2023, RankMe, equation 1 (after Roy and Vetterli 2007). Between 1 and d; Z is not centered.
    """
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(moment), 0, None))
    return _exp_entropy(singular / max(singular.sum(), np.finfo(float).tiny) + _EPS)


def alpha_req(covariance: Float[np.ndarray, "d d"], first: int = 11, last: int = 100) -> float:
    """Exponent alpha of eigenvalue_j ~ j^-alpha, by least squares of the logarithms over the ranks first..last.

    Source: Agrawal et al. 2022, alpha-ReQ, section 3; the range of ranks is Stringer et al.'s way (2019, Nature) to leave
    out the first ones. Ranks above d are left out, as are eigenvalues that are zero to rounding.
    """
    eigenvalues = np.linalg.eigvalsh(covariance)[::-1]
    positive = int((eigenvalues > eigenvalues[0] * len(eigenvalues) * np.finfo(np.float32).eps).sum())
    ranks = np.arange(first if positive > first + 1 else 1, min(last, positive) + 1)
    if len(ranks) < 2:
        return 0.0
    slope = np.polyfit(np.log(ranks), np.log(eigenvalues[ranks - 1]), 1)[0]
    return float(-slope)


def lidar(z: Float[np.ndarray, "n d"], objects: Int[np.ndarray, " n"], delta: float = 1e-4) -> float:
    """Rank of the linear-discriminant matrix whose classes are the views of one image.

    ``exp(entropy of the eigenvalues of S_w^-1/2 S_b S_w^-1/2)``, each over their sum (plus 1e-7); S_b is the covariance of
    the objects' means, S_w the mean covariance within them plus delta on the diagonal.

    Source: Thilak et al. 2024, LiDAR, equations 1 to 4 and delta of appendix.
    """
    _, of = np.unique(objects, return_inverse=True)
    counts = np.bincount(of)
    z = np.asarray(z, np.float64)
    means = np.stack([np.bincount(of, weights=column) for column in z.T], axis=1) / counts[:, None]
    within = z - means[of]
    s_w = within.T @ within / max(len(z) - len(counts), 1) + delta * np.eye(z.shape[1])
    between = means - means.mean(axis=0)
    s_b = between.T @ between / max(len(counts) - 1, 1)
    values, axes = np.linalg.eigh(s_w)
    whitening = axes / np.sqrt(values)
    eigenvalues = np.clip(np.linalg.eigvalsh(whitening.T @ s_b @ whitening), 0, None)
    return _exp_entropy(eigenvalues / max(eigenvalues.sum(), np.finfo(float).tiny) + _EPS)


def _exp_entropy(p: Float[np.ndarray, " d"]) -> float:
    return float(np.exp(-(p * np.log(p)).sum()))
