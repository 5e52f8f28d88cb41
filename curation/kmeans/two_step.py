"""Two-step clustering: k-means, then every cluster split on its own. It makes very many clusters affordable.

The paper's level 1 of 743M images (section 4.1, and `ssl-data-curation#scripts/split_clusters.py`): 100,000, each in 100.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from strata.curation.allocation import allocate
from strata.curation.kmeans.checkpoints import RunState
from strata.curation.kmeans.flat import Algorithm, KMeansResult, kmeans
from strata.curation.kmeans.init import InitName
from strata.curation.kmeans.parts import nearest_of_all
from strata.curation.kmeans.points import Points


@dataclass(frozen=True)
class Settings:
    """What every k-means run of a level shares."""

    init: InitName = "k-means++"
    n_iter: int = 50
    tol: float = 0.0
    algorithm: Algorithm = "lloyd"


def cluster(
    points: Points,
    n_clusters: int,
    n_splits: int,
    settings: Settings,
    seed: np.random.SeedSequence,
    on_iteration: Callable[[], object] | None = None,
    state: RunState | None = None,
) -> KMeansResult:
    """``n_clusters * n_splits`` clusters: plain k-means, or for n_splits > 1 k-means and then each cluster split.

    A split is a k-means of the cluster's own points: n_splits parts of each cluster, fewer where it has fewer points
    (the others then get more, so that the total is exact). At the end every point is assigned to its nearest centroid
    among all, which may be a part of another cluster. The inertia returned is that of this last assignment; history
    and number of iterations are those of the first step.
    """
    first = kmeans(
        points,
        n_clusters,
        init=settings.init,
        n_iter=settings.n_iter,
        tol=settings.tol,
        algorithm=settings.algorithm,
        random_state=spawned(seed, 0),
        on_iteration=on_iteration,
        state=state,
        warn=False,
    )
    if n_splits == 1:
        return first
    centroids = _split(points, first.labels, n_clusters, n_splits, settings, seed)
    labels, distances = nearest_of_all(points, centroids, points.share(n_clusters * n_splits))
    return replace(
        first, centroids=centroids, labels=labels, squared_distances=distances, inertia=points.sum(distances)
    )


def _split(
    points: Points,
    labels: Int[np.ndarray, " n"],
    n_clusters: int,
    n_splits: int,
    settings: Settings,
    seed: np.random.SeedSequence,
) -> Float[np.ndarray, "k d"]:
    sizes = points.counts(labels, n_clusters)
    rng = np.random.default_rng(spawned(seed, 1))
    parts = allocate(np.array([n_clusters * n_splits]), sizes, np.zeros(n_clusters, np.int64), rng)
    # Every process splits its share of the clusters by itself.
    centroids = [
        kmeans(
            points.subset(rows),
            int(parts[number]),
            init=settings.init,
            n_iter=settings.n_iter,
            tol=settings.tol,
            algorithm=settings.algorithm,
            random_state=spawned(seed, 2, number),
            warn=False,
        ).centroids
        for number, rows in points.group.deal(labels, points.first, n_clusters).items()
        if parts[number]
    ]
    own = np.concatenate([np.empty((0, points.d), points.numpy_dtype), *centroids])
    if points.shared:
        mine = np.arange(points.group.rank, n_clusters, points.group.size)
        first = (np.cumsum(parts) - parts)[mine]
        within = np.arange(len(own)) - np.repeat(np.cumsum(parts[mine]) - parts[mine], parts[mine])
        return points.share(int(parts.sum())).redistributed(own, np.repeat(first, parts[mine]) + within)
    split = points.group.concatenated(own)
    owner = np.repeat(np.arange(n_clusters), parts)
    order = np.lexsort((owner, owner % points.group.size))  # as the processes have given them
    return split[np.argsort(order)]


def spawned(seed: np.random.SeedSequence, *keys: int) -> np.random.SeedSequence:
    """The child of a seed with these keys: unlike ``seed.spawn`` it does not depend on what was spawned before."""
    return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, *keys))
