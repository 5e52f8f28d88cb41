"""The tree of clusters: data points below, level 1 their clusters, level 2 clusters of these, up to level L."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray

from strata.curation.allocation import allocate
from strata.curation.arguments import real_number, seed_sequence, whole_array, whole_number
from strata.curation.artifact import Draft, create_artifact, read_manifest
from strata.curation.drawing import Within, draw_within
from strata.curation.errors import ConfigError, DataError
from strata.curation.level import Level, check_level, checked_distances, levels_of
from strata.curation.updating import SelectionUpdate, favoring_quotas

Allocation = Literal["hierarchical", "flat"]


class Hierarchy:
    """Assignments of every level, and balanced sampling from them (paper section 3.3).

    Args:
        levels: level 1 first. Items of level l + 1 are the clusters of level l.

    Raises:
        DataError: the levels do not fit each other.
    """

    def __init__(self, levels: Sequence[Level]) -> None:
        if not levels:
            raise DataError("a hierarchy needs at least one level; give the assignment of level 1")
        self.levels = list(levels)
        for number, level in enumerate(self.levels, 1):
            below = None if number == 1 else self.levels[number - 2].n_clusters
            check_level(level, number, below)

    @classmethod
    def from_assignments(
        cls,
        assignments: Sequence[ArrayLike],
        *,
        distances: Sequence[ArrayLike] | None = None,
        centroids: Sequence[ArrayLike] | None = None,
    ) -> Self:
        """A hierarchy of clusterings made elsewhere.

        Args:
            assignments: level 1 first: cluster of each row [n], then of each cluster of the level below [k_below].
                An empty cluster is one that nothing is assigned to. The top level has max + 1 clusters.
            distances: of each item to its centroid, per level, for ``within="closest"`` and ``"furthest"``.
            centroids: [k, d] per level.

        Raises:
            DataError: not integers, out of range, or the lengths do not fit.
            ConfigError: distances or centroids of another shape, or distances that are not finite.
        """
        return cls(levels_of(assignments, distances, centroids))

    @property
    def n(self) -> int:
        """Number of data rows."""
        return len(self.levels[0].assignment)

    @property
    def n_levels(self) -> int:
        """Number of levels above the data."""
        return len(self.levels)

    @property
    def n_clusters(self) -> tuple[int, ...]:
        """Clusters of each level, level 1 first."""
        return tuple(level.n_clusters for level in self.levels)

    def __repr__(self) -> str:
        return f"Hierarchy(n={self.n}, n_clusters={self.n_clusters})"

    def sizes(self, level: int) -> Int[np.ndarray, " k"]:
        """Data rows below each cluster of a level (1 is the lowest). int64."""
        self._level(level)
        return self._sizes[level - 1]

    @cached_property
    def _sizes(self) -> list[NDArray[np.int64]]:
        sizes: list[NDArray[np.int64]] = []
        for level in self.levels:
            weight = sizes[-1] if sizes else None  # float64 counts are exact up to 2^53
            sizes.append(np.bincount(level.assignment, weight, minlength=level.n_clusters).astype(np.int64))
        return sizes

    def ancestors(self, labels: ArrayLike, level: int) -> Int[np.ndarray, " m"]:
        """Clusters of ``level`` that hold the given level-1 clusters. int64.

        Raises:
            ConfigError: there is no such level, or the labels are not whole numbers of level-1 clusters.
        """
        self._level(level)
        found = whole_array("labels", labels, 0, self.levels[0].n_clusters - 1)
        for above in self.levels[1:level]:
            found = above.assignment[found].astype(np.int64)
        return found

    def labels(self, level: int = 1) -> Int[np.ndarray, " n"]:
        """Cluster of each data row at a level. int64 [n]."""
        return self.ancestors(self.levels[0].assignment, level)

    def members(self, level: int, cluster: int) -> Int[np.ndarray, " s"]:
        """Items of one cluster (rows at level 1, clusters of the level below else), closest to its centroid first."""
        here = self._level(level)
        cluster = whole_number("cluster", cluster, 0, here.n_clusters - 1)
        return here.order[here.offsets[cluster] : here.offsets[cluster + 1]]

    def sample(
        self,
        n: int,
        allocation: Allocation = "hierarchical",
        within: Within = "random",
        max_repeats: int = 1,
        random_state: int | None = 0,
    ) -> Int[np.ndarray, " n"]:
        """Draw ``n`` rows, balanced over the clusters: int64 [n], ascending; a row drawn r times occurs r times.

        Paper section 3.3; Table 3 compares the options.

        Args:
            n: how many. Exactly so many come back.
            allocation: "hierarchical": the budget is shared evenly among the top clusters, then among the children of
                each, down to level 1 (water-filling: a small cluster gives all it has). "flat": evenly among the top
                clusters, then uniformly over the points below each.
            within: which points of a level-1 cluster: "random", "closest" or "furthest" from its centroid.
            max_repeats: most times that one row may be drawn. Its copies differ by at most one inside a cluster.
            random_state: the same seed gives the same rows.

        Raises:
            ConfigError: more rows than n x max_repeats, unknown options, or no distances for "closest"/"furthest".
        """
        self._check_request(n, allocation, within, max_repeats)
        lowest = self.levels[0]
        if allocation == "flat" and within == "random":
            counts = self._flat_counts(n, max_repeats, random_state)
        else:
            quota = self.quotas(n, allocation, max_repeats, random_state)[0]
            counts = draw_within(lowest.assignment, quota, within, _generator(random_state, 2), lowest.distance)
        return np.repeat(np.arange(self.n), counts)

    def quotas(
        self,
        n: int,
        allocation: Allocation = "hierarchical",
        max_repeats: int = 1,
        random_state: int | None = 0,
    ) -> list[Int[np.ndarray, " k"]]:
        """How many of ``n`` rows come from each cluster: per level, level 1 first, int64 [k_l].

        They are those of ``sample`` with the same arguments: the random part (who gets the remainder of an even
        share; "flat": how many of a subtree's points fall in each cluster) depends on ``random_state``.

        Raises:
            ConfigError: as ``sample``.
        """
        self._check_request(n, allocation, "random", max_repeats)
        if allocation == "flat":
            rows = self._flat_counts(n, max_repeats, random_state)
            quotas, items = [], rows
            for level in self.levels:
                items = np.bincount(level.assignment, items, minlength=level.n_clusters).astype(np.int64)
                quotas.append(items)
            return quotas
        rng = _generator(random_state, 1)
        quotas = [self._top_quotas(n, max_repeats, rng)]
        for index in range(self.n_levels - 1, 0, -1):
            capacity = self._capacity(index - 1, n, max_repeats)
            quotas.insert(0, allocate(quotas[0], capacity, self.levels[index].assignment, rng))
        return quotas

    def weights(self, temperature: float = 1.0) -> Float[np.ndarray, " n"]:
        """Probability of each row for train-time sampling: float64 [n], sums to 1.

        Going down the tree, each non-empty child of a node gets a share proportional to size^(1 - temperature):
        0 is proportional to its rows (every row the same in the end), 1 the same for each, in between the normalized
        geometric mean of the two, at each node. Inside a level-1 cluster rows are equal.

        Raises:
            ConfigError: temperature is no number in [0, 1].
        """
        temperature = real_number("sample.temperature", temperature, 0.0, 1.0)  # as is, balanced
        share = np.ones(1)
        for index in range(self.n_levels - 1, -1, -1):
            size = self._sizes[index]
            above = self.levels[index + 1].assignment if index + 1 < self.n_levels else np.zeros(len(size), np.int32)
            part = np.where(size > 0, np.maximum(size, 1) ** (1.0 - temperature), 0.0)
            siblings = np.bincount(above, part, minlength=len(share))[above]
            share = share[above] * np.divide(part, siblings, out=np.zeros(len(part)), where=siblings > 0)
        weights = (share / np.maximum(self._sizes[0], 1))[self.levels[0].assignment]
        return weights / weights.sum()

    def assign(self, X: Any, *, metric: str) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """Level-1 cluster of new rows [m, d] and their distances, by the nearest centroid, for ``extend``.

        Args:
            X: ndarray, memmap, torch.Tensor or EmbeddingStore.
            metric: that of the clustering, "euclidean" or "cosine".

        Returns:
            int32 labels (those of ``HierarchicalKMeans.predict``) and float32 distances (cosine: 1 - cos).

        Raises:
            ConfigError: the hierarchy has no centroids, or X another number of features. DataError: X is not finite.
        """
        from strata.curation.nearest import nearest_centroids  # imports torch

        centroids = self.levels[0].centroids
        if centroids is None:
            raise ConfigError("hierarchy", "level 1 has no centroids", "give labels of the new rows to extend()")
        return nearest_centroids(X, centroids, metric)

    def extend(self, labels: ArrayLike, distances: ArrayLike | None = None) -> Self:
        """The hierarchy with new rows after the old ones; clusters and centroids stay as they are.

        Args:
            labels: level-1 cluster of each new row [m]: of ``assign``, or of ``HierarchicalKMeans.predict``.
            distances: to their centroids [m]; needed if, and only if, the hierarchy has distances.

        Raises:
            ConfigError: labels are no level-1 clusters, or the distances do not fit.
        """
        lowest = self.levels[0]
        added = whole_array("labels", labels, 0, lowest.n_clusters - 1).astype(np.int32)
        if added.ndim != 1:
            raise ConfigError("labels", f"shape {added.shape}", "give one level-1 cluster per new row [m]")
        if (distances is None) != (lowest.distance is None):
            known = "none" if lowest.distance is None else "some"
            fix = "leave them out" if lowest.distance is None else "give those of assign()"
            raise ConfigError("distances", f"the hierarchy has {known}", fix)
        distance = lowest.distance
        if distance is not None and distances is not None:
            distance = np.concatenate([distance, checked_distances(distances, len(added))])
        assignment = np.concatenate([lowest.assignment, added])
        grown = Level(assignment, lowest.n_clusters, lowest.centroids, distance)
        return type(self)([grown, *self.levels[1:]])

    def update(
        self,
        old: ArrayLike,
        n: int,
        allocation: Allocation = "hierarchical",
        within: Within = "random",
        max_repeats: int = 1,
        random_state: int | None = 0,
    ) -> SelectionUpdate:
        """The smallest change of a selection that gives ``n`` rows with the quotas of ``sample``.

        As many old rows are kept as any choice of the remainders of the even shares allows; only surplus is dropped
        and only deficit is drawn. ``within`` says which rows of a cluster are drawn, and which of its old rows stay
        if not all can: old rows that no longer are the closest do stay while the quota has room for them.

        Args:
            old: rows selected before [m], a row r times if it was drawn r times; e.g. by ``sample`` before ``extend``.
            n, allocation, within, max_repeats, random_state: see ``sample``. The seed decides between equals.

        Raises:
            ConfigError: as ``sample``, or ``old`` has other rows than this hierarchy.
        """
        selected = whole_array("old", old, 0, self.n - 1)
        if selected.ndim != 1:
            raise ConfigError("old", f"shape {selected.shape}", "give the selected rows [m]")
        self._check_request(n, allocation, within, max_repeats)
        before = np.bincount(selected, minlength=self.n)
        bottom = self.n_levels - 1 if allocation == "flat" else 0  # flat: the top clusters hold rows directly
        capacities = [self._capacity(index, n, max_repeats) for index in range(bottom, self.n_levels)]
        parents = [level.assignment for level in self.levels[bottom + 1 :]]
        parents.append(np.zeros(self.n_clusters[-1], np.int32))
        labels = self.labels(bottom + 1)
        quota = favoring_quotas(n, capacities, parents, labels, before, _generator(random_state, 1))[0]
        rng, lowest = _generator(random_state, 2), self.levels[0]
        if allocation == "flat" and within != "random":
            counts = draw_within(labels, quota, "random", rng, old=before)
            labels = lowest.assignment
            quota = np.bincount(labels, counts, minlength=lowest.n_clusters).astype(np.int64)
        return SelectionUpdate.of(before, draw_within(labels, quota, within, rng, lowest.distance, before))

    def save(
        self, path: str | Path, *, key: str = "", inputs: Mapping[str, str] | None = None, config: Any = None
    ) -> None:
        """Write an artifact folder of kind "hierarchy"; see ``create_artifact`` for key, inputs and config."""
        with create_artifact(path, "hierarchy", key=key, inputs=inputs, config=config) as draft:
            self.write(draft)

    def write(self, draft: Draft) -> None:
        """Write into an artifact folder of kind "hierarchy" that is being made."""
        write_levels(draft, self.levels)
        draft.meta.update(n=self.n, n_clusters=list(self.n_clusters))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            DataError: not a finished hierarchy, or its files are damaged.
        """
        manifest = read_manifest(path, "hierarchy")
        levels = []
        for number, k in enumerate(manifest["n_clusters"], 1):
            folder = Path(path) / f"level{number}"
            parts = {
                name: _read_array(folder / f"{name}.npy")
                for name in ("assignment", "centroids", "distance")
                if name == "assignment" or (folder / f"{name}.npy").exists()
            }
            levels.append(Level(n_clusters=k, **parts))
        return cls(levels)

    def _level(self, level: int) -> Level:
        level = whole_number("level", level, 1, self.n_levels)
        return self.levels[level - 1]

    def _check_request(self, n: int, allocation: str, within: str, max_repeats: int) -> None:
        if allocation not in get_args(Allocation):
            raise ConfigError("sample.allocation", f"{allocation!r} is unknown", f"use one of {get_args(Allocation)}")
        if within not in get_args(Within):
            raise ConfigError("sample.within", f"{within!r} is unknown", f"use one of {get_args(Within)}")
        if within != "random" and self.levels[0].distance is None:
            problem = f"{within!r} needs distances to centroids"
            raise ConfigError("sample.within", problem, "use random, or give distances")
        most = self.n * whole_number("sample.max_repeats", max_repeats, 1)
        if whole_number("sample.size", n, 0) > most:
            problem = f"{n} rows of {self.n}, each at most {max_repeats} times"
            raise ConfigError("sample.size", problem, f"ask for at most {most} or raise max_repeats")

    def _capacity(self, index: int, n: int, max_repeats: int) -> NDArray[np.int64]:
        """How many of ``n`` rows each cluster of a level can give; no row more than n times, so that nothing overflows."""
        return self._sizes[index] * min(max_repeats, max(n, 1))

    def _top_quotas(self, n: int, max_repeats: int, rng: np.random.Generator) -> NDArray[np.int64]:
        top = self._capacity(self.n_levels - 1, n, max_repeats)
        return allocate(np.array([n]), top, np.zeros(len(top), np.int64), rng)

    def _flat_counts(self, n: int, max_repeats: int, random_state: int | None) -> NDArray[np.int64]:
        rng = _generator(random_state, 1)
        return draw_within(self.labels(self.n_levels), self._top_quotas(n, max_repeats, rng), "random", rng)


def write_levels(draft: Draft, levels: Sequence[Level], first: int = 1) -> None:
    """Write the files of levels ``first``, ``first + 1``, ..."""
    for number, level in enumerate(levels, first):
        folder = draft.path / f"level{number}"
        folder.mkdir(exist_ok=True)
        np.save(folder / "assignment.npy", level.assignment)
        if level.centroids is not None:
            np.save(folder / "centroids.npy", level.centroids)
        if level.distance is not None:
            np.save(folder / "distance.npy", level.distance)


def _generator(random_state: int | None, stream: int) -> np.random.Generator:
    """Independent streams of one seed: 1 for allocation, 2 for drawing inside clusters."""
    return np.random.default_rng(seed_sequence(random_state, stream))


def _read_array(file: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({error}); cluster again") from error
    return array
