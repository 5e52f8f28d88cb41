"""A whole ``HierarchicalKMeans.fit`` from its settings: work and memory of every level and phase."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from strata.curation.cost import memory, steps
from strata.curation.cost.work import Rates, Work
from strata.curation.hierarchical_kmeans import HierarchicalKMeans, per_level
from strata.curation.kmeans.accelerated import pays
from strata.curation.kmeans.flat import Algorithm
from strata.curation.kmeans.init import InitName

FLOAT64 = 2.0  # what iterations do beside products, on float64 rows against float32: rounded, decided in float64
WIDE_FEATURES, WIDE_CLUSTERS = 16, 64  # from here on screens are in low precision, see kmeans.distance


@dataclass(frozen=True)
class Phase:
    """One phase of a level. ``memory`` is its peak in bytes; ``wide``: its products may be in low precision."""

    name: str
    work: Work
    memory: float
    wide: bool

    def seconds(self, rates: Rates, threads: int = 1, devices: int = 1) -> float:
        """On ``devices`` machines (or GPUs) that share the rows evenly, were nothing lost between them."""
        return rates.seconds(self.work, threads, self.wide and rates.low_precision) / devices


@dataclass(frozen=True)
class LevelCost:
    """A level: n inputs in ``k * splits`` clusters."""

    n: int
    k: int
    splits: int
    algorithm: str  # "lloyd" or "accelerated"; of the first k-means
    chunks: memory.Chunks
    phases: tuple[Phase, ...]

    @property
    def clusters(self) -> int:
        """Clusters of the level."""
        return self.k * self.splits


@dataclass(frozen=True)
class Job:
    """A k-means as all phases need it."""

    n: float
    d: int
    k: float
    init: InitName
    n_iter: int
    itemsize: int
    threads: int
    algorithm: Algorithm
    worst: bool
    devices: int = 1  # that share the rows; each has all centroids

    @property
    def quick(self) -> bool:
        """Whether the accelerated algorithm runs: asked for, or chosen as ``kmeans.flat`` chooses."""
        return self.algorithm == "accelerated" or (self.algorithm == "auto" and pays(int(self.n), int(self.k)))

    @property
    def seeds(self) -> InitName:
        """The init that "auto" means."""
        return self.init if self.init != "auto" else "scalable" if self.quick else "k-means++"

    @property
    def seen(self) -> float:
        """Rows that the init sees."""
        return steps.seen_first(self.n, self.k) if self.quick else self.n

    @property
    def rows(self) -> float:
        """Rows on one device."""
        return self.n / self.devices

    @property
    def cached(self) -> bool:
        """Whether the centered copy of the points is kept."""
        return memory.is_cached(self.rows, self.d, self.itemsize)

    @property
    def wide(self) -> bool:
        """Whether products may be in low precision."""
        return self.d >= WIDE_FEATURES and self.k >= WIDE_CLUSTERS

    @property
    def held(self) -> float:
        """Bytes of the points."""
        return memory.points(self.rows, self.d, self.itemsize)

    def seeding(self) -> Work:
        """Work of the init."""
        sampled = self.seen < self.n
        read = steps.prepare(self.seen, self.d) if sampled else Work()
        return read + steps.seeding(self.seeds, self.seen, self.d, self.k, self.cached or sampled)

    def iterating(self) -> Work:
        """Work of the iterations."""
        expected, run = (steps.expected_accelerated, steps.accelerated) if self.quick else (steps.expected, steps.lloyd)
        course = (steps.most if self.worst else expected)(self.n, self.k, self.n_iter)
        work = run(self.n, self.d, self.k, course, self.cached)
        return work if self.itemsize < 8 else work + (FLOAT64 - 1) * replace(work, screen=0.0, exact=0.0)

    def seeding_memory(self) -> float:
        """Peak of the init with the points."""
        return self.held + memory.seeding(self.seeds, self.seen / self.devices, self.d, self.k, self.itemsize)

    def iterating_memory(self) -> float:
        """Peak of the iterations with the points."""
        more = memory.candidates(self.rows, self.d, self.k, self.threads) if self.quick else 0.0
        return self.held + memory.iterations(self.rows, self.d, self.k, self.itemsize, self.threads) + more


def cost_of_fit(
    n: int,
    d: int,
    settings: Mapping[str, Any],
    *,
    threads: int = 1,
    devices: int = 1,
    worst: bool = False,
    itemsize: int | None = None,
) -> list[LevelCost]:
    """Every level of a fit of n rows of d features, level 1 first.

    Args:
        n, d: size of the data.
        settings: of ``HierarchicalKMeans``, without "auto" levels (``levels.resolve_levels`` replaces them).
        threads: that multiply matrices.
        devices: that share the rows evenly; memory is that of one.
        worst: all ``n_iter`` iterations of full passes, instead of what measured runs did (see ``steps.expected``).
        itemsize: of the rows' products and centroids; None: 8 with dtype=float64, else 4.

    Raises:
        ConfigError: a setting is wrong or does not fit n rows.
    """
    model = HierarchicalKMeans(**settings)
    model.check(n)
    depth = len(model.n_clusters)
    resamples = per_level("n_resamples", model.n_resamples, depth, 0)
    kept = per_level("resample_size", model.resample_size, depth, 1)
    splits = per_level("n_splits", model.n_splits, depth, 1)
    inits: list[Any] = [model.init] * depth if isinstance(model.init, str) else list(model.init)
    algorithm: Algorithm = model.algorithm
    size = itemsize or (8 if settings.get("dtype") == "float64" else 4)
    levels, inputs, held = [], n, model.fit_fraction
    for number, k in enumerate(model.n_clusters):
        job = Job(inputs * held, d, k, inits[number], model.n_iter, size, threads, algorithm, worst, devices)
        levels.append(_level(inputs, job, splits[number], resamples[number], kept[number]))
        inputs, held = k * splits[number], 1.0
    return levels


def _level(n: int, job: Job, splits: int, resamples: int, resample_size: int) -> LevelCost:
    """A level of n inputs; ``job`` is its first k-means, on those (or the share of them) that it is fitted on."""
    k, sampled = int(job.k), job.n < n
    every = replace(job, n=n, k=k * splits)  # all inputs against all clusters
    read = steps.prepare(n, job.d) + (steps.prepare(job.n, job.d) if sampled else Work())
    phases = [Phase("read", read, every.held, False), *_kmeans(job, splits)]
    if resamples:
        phases.append(_resampling(replace(every, n=job.n), k, splits, resample_size, resamples))
    if sampled:
        phases.append(_assigned("assign all", every))
    chunks = memory.chunks(job.rows, job.d, k, job.itemsize, job.seeds)
    return LevelCost(n, k, splits, "accelerated" if job.quick else "lloyd", chunks, tuple(phases))


def _kmeans(job: Job, splits: int) -> list[Phase]:
    """k-means in one step, or in two with the assignment to all clusters that ends them."""
    phases = [
        Phase("init", job.seeding(), job.seeding_memory(), job.wide),
        Phase("iterations", job.iterating(), job.iterating_memory(), job.wide),
    ]
    if splits > 1:
        part = replace(job, n=job.n / job.k, k=splits)
        work = job.k * (steps.prepare(part.n, job.d) + part.seeding() + part.iterating()) + steps.sort(job.n)
        peak = max(part.seeding_memory(), part.iterating_memory()) + part.rows * job.d * 8
        held = job.held + memory.grouping(job.rows) + job.k * splits * job.d * 2 * job.itemsize
        phases.append(Phase("splits", work, held + peak, part.wide))
        phases.append(_assigned("last assignment", replace(job, k=job.k * splits)))
    return phases


def _assigned(name: str, job: Job) -> Phase:
    work = steps.nearest(job.n, job.d, job.k, job.cached) + steps.distances(job.n, job.d)
    return Phase(name, work, job.iterating_memory(), job.wide)


def _resampling(every: Job, k: int, splits: int, size: int, runs: int) -> Phase:
    """All resampling runs: rows chosen, clustered alone, and all inputs assigned to the new centroids."""
    kept = replace(every, n=min(every.n, every.k * size), k=k)
    own = _kmeans(kept, splits)
    assigned = _assigned("", every)
    once = steps.sort(every.n) + steps.prepare(kept.n, every.d) + assigned.work
    for phase in own:
        once += phase.work
    peak = every.held + memory.grouping(every.rows) + kept.rows * every.d * 8 + max(phase.memory for phase in own)
    return Phase("resampling", runs * once, max(peak, assigned.memory), every.wide)


def cost_of_sampling(levels: list[LevelCost]) -> Phase:
    """``Hierarchy.sample`` of the tree."""
    n, nodes = levels[0].n, sum(level.clusters for level in levels)
    return Phase("sampling", steps.draw(n, len(levels), nodes), n * 32.0 + nodes * 64.0, False)


def total_seconds(levels: list[LevelCost], rates: Rates, threads: int = 1, devices: int = 1) -> float:
    """Of all phases of all levels."""
    phases = itertools.chain.from_iterable(level.phases for level in levels)
    return sum(phase.seconds(rates, threads, devices) for phase in phases)


def peak_memory(levels: list[LevelCost], devices: int = 1) -> float:
    """Largest of all phases, with the labels and distances of the rows and centroids that the tree keeps."""
    tree = levels[0].n * 16.0 / devices
    return tree + memory.FIXED + max(phase.memory for level in levels for phase in level.phases)
