"""One level of Algorithm 1: k-means of the level's inputs, then resampling-clustering (paper section 3.3)."""

import time
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from strata.curation.kmeans.checkpoints import Checkpoints, RunState
from strata.curation.kmeans.flat import warn_of_empty
from strata.curation.kmeans.parts import nearest_of_all
from strata.curation.kmeans.points import Points
from strata.curation.kmeans.resample import ResampleBy, resampled_rows
from strata.curation.kmeans.two_step import Settings, cluster, spawned
from strata.curation.progress import progress


@dataclass
class LevelFit:
    """The clustering of one level's inputs, and how each of its k-means runs went."""

    centroids: Float[np.ndarray, "k d"]  # this process's part where they are shared out
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
    checkpoints: Checkpoints | None = None,
    state_name: str = "level",
) -> LevelFit:
    """Cluster the inputs of one level into ``n_clusters * n_splits``.

    After the first run, ``n_resamples`` times: keep ``resample_size`` points per cluster, cluster these alone from a
    fresh start, and assign all inputs to the new centroids. The last run counts. With ``checkpoints`` the centroids are
    kept after each run, and inside it, as ``state_name``; what is there is gone on from.
    """
    began = time.perf_counter()
    share = points.share(n_clusters * n_splits)
    total, first, run_name = n_clusters * n_splits, 0, f"{state_name}-run"
    inertias: list[float] = []
    n_iter: list[int] = []
    history: list[list[float]] = []
    with progress(
        (1 + n_resamples) * settings.n_iter, name, "iteration", disable=not verbose or points.group.rank > 0
    ) as bar:
        found = None if checkpoints is None else checkpoints.load(state_name, share)
        if found is not None:
            centroids, past = found
            inertias, n_iter, history, first = past["inertias"], past["n_iter"], past["history"], past["run"] + 1
            labels, distances = nearest_of_all(points, centroids, share)
        for step in range(first, n_resamples + 1):
            bar.update(step * settings.n_iter - bar.n)  # what an early stop has saved
            light, own_seed = points, spawned(seed, 0)
            if step > 0:
                rng = np.random.default_rng(spawned(seed, step, 0))
                rows = resampled_rows(points, labels, distances, total, resample_size, resample_by, total, rng)
                light, own_seed = points.subset(rows, points.group.worth(len(rows))), spawned(seed, step, 1)
            run_share = light.share(n_clusters)
            state = None if checkpoints is None else RunState(checkpoints, f"{run_name}{step}", run_share)
            run = cluster(light, n_clusters, n_splits, settings, own_seed, bar.update, state)
            centroids, labels, distances = share.part_of(run.centroids, run_share), run.labels, run.squared_distances
            if step > 0:
                labels, distances = nearest_of_all(points, centroids, share)
            inertias.append(points.sum(distances))
            n_iter.append(run.n_iter)
            history.append(run.history)
            if checkpoints is not None:
                past = {"run": step, "inertias": inertias, "n_iter": n_iter, "history": history}
                checkpoints.save(state_name, centroids, past, share)
                checkpoints.remove(f"{run_name}{step}")
        bar.update(bar.total - bar.n)
    counts = points.counts(labels, total)
    if points.group.rank == 0:
        warn_of_empty(counts, name)
    seconds = time.perf_counter() - began
    return LevelFit(centroids, labels, distances, inertias[-1], inertias, n_iter, history, seconds)
