"""Data sets of the k-means benchmark, made from a seed: nothing is downloaded."""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

PATCH = 12  # pixels


def power_law_mixture(
    n: int, d: int, *, groups: int = 4000, spread: float = 0.5, seed: int = 0
) -> Float[np.ndarray, "n d"]:
    """Gaussians of unit noise with Zipf(1) sizes, means ``spread`` apart per axis. At .5 they overlap: hard to prune."""
    rng = np.random.default_rng(seed)
    mass = 1 / np.arange(1, groups + 1)
    means = (spread * rng.standard_normal((groups, d))).astype(np.float32)
    X = rng.standard_normal((n, d), dtype=np.float32)
    X += means[rng.choice(groups, n, p=mass / mass.sum())]
    return X


def separated_blobs(n: int, d: int, *, groups: int, seed: int = 0) -> Float[np.ndarray, "n d"]:
    """Well-clustered data: as many Gaussians as will be asked for, means 2 apart per axis, Zipf(.5) sizes."""
    rng = np.random.default_rng(seed)
    mass = np.arange(1, groups + 1) ** -0.5
    X = rng.standard_normal((n, d), dtype=np.float32)
    X += (2 * rng.standard_normal((groups, d))).astype(np.float32)[rng.choice(groups, n, p=mass / mass.sum())]
    return X


def patch_embeddings(n: int, d: int, *, seed: int = 0) -> Float[np.ndarray, "n d"]:
    """Like embeddings: random ReLU features of patches of two photographs (scikit-learn's), of unit length.

    Patches have random place, scale and mirroring; flat ones (sky) are as frequent as in the photographs.
    """
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(seed)
    photos = [(np.asarray(photo) / 255 - 0.5).astype(np.float32) for photo in load_sample_images().images]
    weights = (rng.standard_normal((3 * PATCH**2, d)) / PATCH).astype(np.float32)
    X = np.empty((n, d), np.float32)
    for start in range(0, n, 8192):
        stop = min(start + 8192, n)
        patches = _patches(photos, stop - start, rng)
        features = np.maximum(patches @ weights, 0)
        features -= features.mean(1, keepdims=True)
        X[start:stop] = features / np.sqrt(np.square(features).sum(1, keepdims=True) + 1e-6)
    return X


def _patches(photos: list[NDArray[np.float32]], n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    out = np.empty((n, PATCH, PATCH, 3), np.float32)
    zoom = rng.integers(1, 7, n)
    which = rng.integers(0, len(photos), n)
    for index in range(n):
        photo, step = photos[which[index]], zoom[index]
        span = PATCH * step
        top, left = (int(rng.integers(0, side - span + 1)) for side in photo.shape[:2])
        patch = photo[top : top + span : step, left : left + span : step]
        out[index] = patch[:, ::-1] if rng.random() < 0.5 else patch
    out -= 0.5 * out.mean((1, 2), keepdims=True)  # half the brightness stays
    return out.reshape(n, -1)
