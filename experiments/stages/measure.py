"""Stage ``measure``: numbers of a clustering or a subset that need no training."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from strata.curation import EmbeddingStore, Hierarchy
from strata.curation.artifact import create_artifact, read_manifest, write_json
from strata.curation.codebooks.base import Codebook
from strata.curation.errors import DataError
from strata.curation.measures.base import Measured
from strata.curation.subset import read_subset
from strata.experiments.settings.build import build
from strata.experiments.stage import Task

VERSION = 1


def run(task: Task, on_metrics: Any = None) -> None:
    """Write ``measures.json`` and ``columns.parquet`` of ``inputs.points`` (or of the whole pool without it)."""
    measure = build(task.config["measure"], "measure")
    store = EmbeddingStore.open(task.inputs["embeddings"])
    data = np.empty((len(store), 0)) if measure.needs_tree else np.asarray(store, np.float64)
    tree = Hierarchy.load(task.inputs["points"]) if measure.needs_tree else None
    points, labels, n_draws = read_points(task.inputs.get("points"), data)
    others = EmbeddingStore.open(task.inputs["reference"]) if measure.needs_reference else None
    labelled = (None, None) if others is None else (np.asarray(others, np.float64), others.labels)
    rows = read_rows(task.inputs.get("points"), len(data))
    classes = store.labels
    names = read_manifest(task.inputs["embeddings"], "embeddings")["label_names"]
    n_classes = 0 if classes is None else max(len(names or ()), int(classes.max()) + 1)
    found = [
        measure(Measured(drawn, labels, data, classes, n_classes, task.config["seed"], rows, tree, *labelled))
        for drawn in np.split(points, n_draws)
    ]
    values = {name: float(np.mean([each.values[name] for each in found])) for name in found[0].values}
    with create_artifact(task.out, "measures", key=task.key, inputs=task.input_keys, config=task.config) as draft:
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        write_json(draft.path / "measures.json", finite)
        pq.write_table(pa.table(found[0].columns), draft.path / "columns.parquet")
        draft.meta.update(n_points=len(points) // n_draws, n_draws=n_draws)


def read_points(folder: Path | None, data: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Points [m, d] (float64) of an artifact, the point of each row [n] (int64, -1 for none), and how many
    independent draws the points are.

    A hierarchy gives the centroids of its top level, a codebook its points, a subset its rows (a repeated one as often
    as it is drawn), and no folder all rows.

    Raises:
        DataError: an artifact of another kind, or without centroids.
    """
    if folder is None:
        return data, np.arange(len(data)), 1
    kind = read_manifest(folder)["kind"]
    if kind == "codebook":
        book = Codebook.load(folder)
        return np.asarray(book.points, np.float64), book.labels.astype(np.int64), book.n_draws
    if kind == "subset":
        rows = read_subset(folder).indices
        labels = np.full(len(data), -1, np.int64)
        labels[rows] = np.arange(len(rows))
        return data[rows], labels, 1
    if kind != "hierarchy":
        raise DataError(f"{folder} is of kind {kind!r}; measure a hierarchy, a codebook or a subset")
    hierarchy = Hierarchy.load(folder)
    centroids = hierarchy.levels[-1].centroids
    if centroids is None:
        raise DataError(f"{folder} has no centroids; cluster again")
    return np.asarray(centroids, np.float64), hierarchy.labels(hierarchy.n_levels), 1


def read_rows(folder: Path | None, n: int) -> np.ndarray | None:
    """The rows of a pool of ``n`` that an artifact's points are, [m] (a repeated one as often as it is drawn): those of
    a subset, all rows without a folder, None for centroids and codebooks."""
    if folder is None:
        return np.arange(n)
    return read_subset(folder).indices if read_manifest(folder)["kind"] == "subset" else None
