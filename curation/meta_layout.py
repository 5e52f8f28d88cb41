"""Folders of facebookresearch/ssl-data-curation: read a clustering from them, write ours and selections as they do.

Their layout (own words, from their scripts)::

    level{i}/step{j}/centroids.npy            [k, d]
    level{i}/step{j}/cluster_assignment.npy   int64, cluster of each item of the level below
    level{i}/step{j}/sorted_clusters.npy      pickled: for each cluster its items, closest first
    level{i}/centroids.npy, sorted_clusters.npy   links to the last step
    curated_datasets/{levels}{strategy}_mul{m}_{target}_balanced_selection.npy   selected rows

With ``subset_indices_path`` in their config, rows are positions in that subset, not in the whole data.
"""

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike, NDArray

from strata.curation.arguments import whole_array, whole_number
from strata.curation.drawing import Within
from strata.curation.errors import ConfigError, DataError
from strata.curation.hierarchy import Hierarchy
from strata.curation.level import Level

_STRATEGY = {"random": "r", "closest": "c", "furthest": "f"}


def read_meta_layout(path: str | Path, *, embeddings: Any = None, allow_pickle: bool = False) -> Hierarchy:
    """The hierarchy in a folder that their scripts wrote.

    Centroids and assignments are those of the last step of each level. They keep no distances: these are computed from
    the ``embeddings`` (and, higher up, the centroids); without them rows of a cluster can only be drawn at random.

    Args:
        path: their ``exp_dir``, with ``level1``, ``level2``, ...
        embeddings: the rows [n, d] that were clustered: ndarray, memmap, tensor or EmbeddingStore.
        allow_pickle: also read ``sorted_clusters.npy`` where a level has no ``cluster_assignment.npy`` (a level made in
            two steps). It is a pickle: it can run any code when it is read. Only for files that you trust.

    Raises:
        DataError: a file is missing, damaged, or a pickle that is not allowed; the levels do not fit each other.
        ConfigError: the embeddings are of another shape.
    """
    folders = _level_folders(Path(path))
    levels = []
    for folder in folders:
        centroids, assignment = _read_level(folder, allow_pickle)
        if assignment.size == 0 or assignment.min() < 0 or assignment.max() >= len(centroids):
            raise DataError(f"{folder}: assignment does not fit its {len(centroids)} centroids; export the level again")
        levels.append(Level(assignment.astype(np.int32), len(centroids), centroids))
    hierarchy = Hierarchy(levels)  # checks that they fit before anything is computed
    return hierarchy if embeddings is None else _with_distances(hierarchy, embeddings)


def write_meta_layout(hierarchy: Hierarchy, path: str | Path, *, pickled_clusters: bool = False) -> Path:
    """Write a hierarchy as their folders, each level as one step.

    Args:
        hierarchy: with centroids.
        path: folder to make.
        pickled_clusters: also write ``sorted_clusters.npy``, which their sampling script reads. It is a pickle.

    Raises:
        ConfigError: ``path`` exists, or a level has no centroids.
    """
    target = Path(path)
    if target.exists():
        raise ConfigError("path", f"{target} exists", "name a new folder")
    for number, level in enumerate(hierarchy.levels, 1):
        if level.centroids is None:
            raise ConfigError("hierarchy", f"level {number} has no centroids", "their layout needs them on every level")
    draft = target.with_name(target.name + ".partial")
    shutil.rmtree(draft, ignore_errors=True)
    for number, level in enumerate(hierarchy.levels, 1):
        assert level.centroids is not None
        step = draft / f"level{number}" / "step0"
        step.mkdir(parents=True)
        np.save(step / "centroids.npy", level.centroids)
        np.save(step / "cluster_assignment.npy", level.assignment.astype(np.int64))
        _link(step, "centroids.npy")
        if pickled_clusters:
            np.save(step / "sorted_clusters.npy", _object_array(level), allow_pickle=True)
            _link(step, "sorted_clusters.npy")
    draft.rename(target)
    return target


def write_meta_selection(
    rows: ArrayLike, path: str | Path, *, n_levels: int, within: Within = "random", max_repeats: int = 1
) -> Path:
    """Write selected rows [m] as ``path/curated_datasets/...npy`` (int64), named as their sampling script does.

    Raises:
        ConfigError: rows are not whole numbers [m], or the file exists.
    """
    selected = whole_array("rows", rows, 0, np.iinfo(np.int64).max)
    if selected.ndim != 1:
        raise ConfigError("rows", f"shape {selected.shape}", "give the selected rows [m]")
    if within not in _STRATEGY:
        raise ConfigError("sample.within", f"{within!r} is unknown", f"use one of {tuple(_STRATEGY)}")
    levels, repeats = whole_number("n_levels", n_levels, 1), whole_number("sample.max_repeats", max_repeats, 1)
    name = f"{levels}{_STRATEGY[within]}_mul{repeats}_{len(selected)}_balanced_selection.npy"
    file = Path(path) / "curated_datasets" / name
    if file.exists():
        raise ConfigError("path", f"{file} exists", "remove it, or name another folder")
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(file.name + ".tmp")
    with open(draft, "wb") as stream:
        np.save(stream, selected)
    draft.replace(file)
    return file


def read_meta_selection(file: str | Path) -> Int[np.ndarray, " m"]:
    """Rows of a selection file of theirs or ours, int64, in the order of the file.

    Raises:
        DataError: it cannot be read, or holds no rows (with clusters of equal size theirs may be a pickle).
    """
    rows = _read_plain(Path(file))
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or (rows.size and rows.min() < 0):
        raise DataError(f"{file} holds {rows.dtype} {rows.shape}, not rows; sample again")
    return rows.astype(np.int64)


def _level_folders(path: Path) -> list[Path]:
    """level1, level2, ... as far as there are any."""
    folders: list[Path] = []
    while (folder := path / f"level{len(folders) + 1}").is_dir():
        folders.append(folder)
    if not folders:
        raise DataError(f"{path} has no folder level1; give the exp_dir of a clustering")
    return folders


def _read_level(folder: Path, allow_pickle: bool) -> tuple[NDArray[Any], NDArray[np.int64]]:
    steps = [step for step in folder.glob("step*") if step.name[4:].isdecimal() and step.is_dir()]
    last = (
        max(steps, key=lambda step: int(step.name[4:])) if steps else folder
    )  # 2-step levels have no step of their own
    centroids = _read_plain(last / "centroids.npy")
    if centroids.ndim != 2 or centroids.dtype.kind != "f" or not np.isfinite(centroids).all():
        raise DataError(f"{last}/centroids.npy holds {centroids.dtype} {centroids.shape}, no finite [k, d]")
    if (last / "cluster_assignment.npy").is_file():
        assignment = _read_plain(last / "cluster_assignment.npy")
        if assignment.ndim != 1 or assignment.dtype.kind not in "iu":
            raise DataError(f"{last}/cluster_assignment.npy holds {assignment.dtype} {assignment.shape}, no labels [n]")
        return centroids, assignment
    clusters = last / "sorted_clusters.npy"
    if not clusters.is_file():
        raise DataError(f"{last} has no cluster_assignment.npy: is the level finished? Run its clustering to the end")
    if not allow_pickle:
        raise DataError(
            f"{clusters} is a pickle, which can run any code when read, and there is no cluster_assignment.npy beside it; "
            "if you trust the file, pass allow_pickle=True"
        )
    return centroids, _from_pickle(clusters)


def _from_pickle(file: Path) -> NDArray[np.int64]:
    """Assignment from the pickled list of the items of each cluster."""
    warnings.warn(f"reading the pickle {file}: it can run any code", stacklevel=4)
    members = [np.asarray(items) for items in np.load(file, allow_pickle=True)]
    sizes = [len(items) for items in members]
    items = np.concatenate([np.asarray(m, np.int64) for m in members]) if members else np.empty(0, np.int64)
    if not np.array_equal(np.sort(items), np.arange(len(items))):
        raise DataError(f"{file}: not every item is in one cluster; cluster again")
    assignment = np.empty(len(items), np.int64)
    assignment[items] = np.repeat(np.arange(len(members)), sizes)
    return assignment


def _read_plain(file: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file} cannot be read ({' '.join(str(error).split())}); export it again") from error
    return array


def _with_distances(hierarchy: Hierarchy, embeddings: Any) -> Hierarchy:
    from strata.curation.kmeans.points import Points  # imports torch
    from strata.curation.nearest import centroid_distances

    below, levels = embeddings, []
    for level in hierarchy.levels:
        points = Points(below)
        assert level.centroids is not None
        wanted = (len(level.assignment), level.centroids.shape[1])
        if (points.n, points.d) != wanted:
            raise ConfigError("embeddings", f"shape {(points.n, points.d)}", f"give the {wanted} that were clustered")
        distance = centroid_distances(points, level.centroids, level.assignment)
        levels.append(Level(level.assignment, level.n_clusters, level.centroids, distance))
        below = level.centroids
    return Hierarchy(levels)


def _object_array(level: Level) -> NDArray[np.object_]:
    """One array per cluster; made empty first: of equal sizes NumPy would make a matrix."""
    clusters = np.empty(level.n_clusters, object)
    for cluster, members in enumerate(np.split(level.order, level.offsets[1:-1])):
        clusters[cluster] = members
    return clusters


def _link(step: Path, name: str) -> None:
    # Relative, so that the folder can be moved; theirs are absolute and break.
    (step.parent / name).symlink_to(Path(step.name) / name)
