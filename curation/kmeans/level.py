"""One level of Algorithm 1: k-means of the level's inputs, then resampling-clustering (paper section 3.3)."""

import time
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from strata.curation.kmeans.distance import assign, squared_distances
from strata.curation.kmeans.flat import warn_of_empty
from strata.curation.kmeans.points import Points
from strata.curation.kmeans.resample import ResampleBy, resampled_rows
from strata.curation.kmeans.two_step import Settings, cluster, spawned
from strata.curation.progress import progress


@dataclass
class LevelFit:
    """The clustering of one level's inputs, and how each of its k-means runs went."""

    centroids: Float[np.ndarray, "k d"]
    labels: Int[np.ndarray, " n"]  # int32, nearest centroid of each input
    squared_distances: Float[np.ndarray, " n"]
    inertia: float  # of all inputs to the centroids returned
    inertias: list[float]  # the same after each k-means run: 1 + n_resamples values
    n_iter: list[int]  # updates of each run
    history: list[list[float]]  # per run: inertia of the points it ran on, after the first assignment and each update
    seconds: float


def fit_level(
    points: Points,
    n_clusters: int,
    *,
    n_splits: int,
    n_resamples: int,
    resample_size: int,
    resample_by: ResampleBy,
    settings: Settings,
    seed: np.random.SeedSequence,
    name: str = "k-means",
    verbose: bool = False,
) -> LevelFit:
    """Cluster the inputs of one level into ``n_clusters * n_splits``.

    After the first run, ``n_resamples`` times: keep ``resample_size`` points per cluster, cluster these alone from a
    fresh start, and assign all inputs to the new centroids. The last run counts.
    """
    began = time.perf_counter()
    total = n_clusters * n_splits
    with progress((1 + n_resamples) * settings.n_iter, name, "iteration", disable=not verbose) as bar:
        run = cluster(points, n_clusters, n_splits, settings, spawned(seed, 0), bar.update)
        centroids, labels, distances = run.centroids, run.labels, run.squared_distances
        inertias, n_iter, history = [run.inertia], [run.n_iter], [run.history]
        for step in range(1, n_resamples + 1):
            bar.update(step * settings.n_iter - bar.n)  # what an early stop has saved
            rng = np.random.default_rng(spawned(seed, step, 0))
            rows = resampled_rows(labels, distances, total, resample_size, resample_by, total, rng)
            run = cluster(points.subset(rows), n_clusters, n_splits, settings, spawned(seed, step, 1), bar.update)
            centroids = run.centroids
            labels = assign(points, centroids)
            distances = squared_distances(points, centroids, labels)
            inertias.append(float(distances.sum()))
            n_iter.append(run.n_iter)
            history.append(run.history)
        bar.update(bar.total - bar.n)
    warn_of_empty(labels, total, name)
    seconds = time.perf_counter() - began
    return LevelFit(centroids, labels, distances, inertias[-1], inertias, n_iter, history, seconds)
