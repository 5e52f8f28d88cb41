"""A subset of a pool: which rows, how often each, with what weight; written as an artifact of kind "subset"."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from strata.curation.artifact import create_artifact, read_manifest, write_json
from strata.curation.balance import balance
from strata.curation.errors import DataError
from strata.curation.hierarchy import Hierarchy


@dataclass
class Selection:
    """Rows chosen from a pool."""

    rows: Int[np.ndarray, " m"]  # int64, ascending, all different
    repeats: Int[np.ndarray, " m"]  # int32, 1 or more: how often each row is in the subset
    weight: Float[np.ndarray, " m"]  # float64: probability of each row in training, sums to 1
    reports: dict[str, pa.Table] = field(default_factory=dict)  # what was left out, and why: see write_subset

    def __post_init__(self) -> None:
        shapes = {np.shape(self.rows), np.shape(self.repeats), np.shape(self.weight)}
        if len(shapes) > 1 or np.ndim(self.rows) != 1:
            raise DataError(f"rows, repeats and weight have shapes {sorted(shapes)}; give one value per row")
        self.rows = np.asarray(self.rows, np.int64)
        self.repeats = np.asarray(self.repeats, np.int32)
        self.weight = np.asarray(self.weight, np.float64)
        if (np.diff(self.rows) <= 0).any() or (self.rows < 0).any() or (self.repeats < 1).any():
            raise DataError(
                "rows must be ascending, different and not negative, and repeats 1 or more; see Selection.of"
            )

    @classmethod
    def of(cls, drawn: ArrayLike) -> Self:
        """The selection of drawn rows, in any order, a row as often as it was drawn; weights follow the repeats."""
        rows, repeats = np.unique(np.asarray(drawn, np.int64), return_counts=True)
        return cls(rows, repeats.astype(np.int32), repeats / max(1, repeats.sum()))

    @property
    def indices(self) -> Int[np.ndarray, " n"]:
        """Rows with repeats written out, ascending. int64."""
        return np.repeat(self.rows, self.repeats)

    def __len__(self) -> int:
        return int(self.repeats.sum())


def write_subset(
    path: str | Path,
    selection: Selection,
    *,
    ids: Sequence[str],
    labels: Int[np.ndarray, " n"] | None,
    label_names: Sequence[str] | None,
    hierarchy: Hierarchy | None = None,
    key: str = "",
    inputs: Mapping[str, str] | None = None,
    config: Any = None,
) -> None:
    """Write a selection as an artifact of kind "subset".

    Files: ``subset.parquet`` (row, id, label, cluster_l1 ..., n_repeat, weight), ``indices.npy`` (repeats written out),
    ``balance.json``, and each report as ``<name>.parquet``; its columns "row" and "match_row" are rows of the pool, and
    their ids are written beside them.

    Args:
        path: the folder to make.
        selection: what was chosen.
        ids: id of every row of the pool.
        labels: label of every row of the pool, -1 for none, or None.
        label_names: name of each label, also of those without an item.
        hierarchy: clusters of every row of the pool.
        key, inputs, config: see ``create_artifact``.

    Raises:
        DataError: the selection, ids, labels and hierarchy are not of the same pool.
    """
    n = len(ids)
    for name, size in (
        ("labels", n if labels is None else len(labels)),
        ("hierarchy", hierarchy.n if hierarchy else n),
    ):
        if size != n:
            raise DataError(f"{name} has {size} rows and the pool {n} ids; give those of the same pool")
    if len(selection.rows) and selection.rows[-1] >= n:
        raise DataError(f"row {selection.rows[-1]} of a pool of {n}; sample from the same pool")
    rows = selection.rows
    columns: dict[str, Any] = {"row": rows, "id": [str(ids[row]) for row in rows.tolist()]}
    if labels is not None:
        columns["label"] = np.asarray(labels, np.int64)[rows]
    for level in range(1, hierarchy.n_levels + 1 if hierarchy else 1):
        columns[f"cluster_l{level}"] = hierarchy.labels(level)[rows].astype(np.int32) if hierarchy else None
    columns |= {"n_repeat": selection.repeats, "weight": selection.weight}
    with create_artifact(path, "subset", key=key, inputs=inputs, config=config) as draft:
        pq.write_table(pa.table(columns), draft.path / "subset.parquet")
        for name, report in selection.reports.items():
            pq.write_table(_with_ids(report, ids), draft.path / f"{name}.parquet")
        np.save(draft.path / "indices.npy", selection.indices)
        write_json(draft.path / "balance.json", subset_balance(selection, labels, label_names, hierarchy))
        draft.meta.update(n=len(selection), n_distinct=len(rows), pool_size=n)


def _with_ids(report: pa.Table, ids: Sequence[str]) -> pa.Table:
    for name, column in (("row", "id"), ("match_row", "match_id")):
        if name in report.column_names:
            values = [str(ids[row]) for row in report[name].to_pylist()]
            report = report.append_column(column, pa.array(values, pa.string()))
    return report


def subset_balance(
    selection: Selection,
    labels: Int[np.ndarray, " n"] | None,
    label_names: Sequence[str] | None,
    hierarchy: Hierarchy | None,
) -> dict[str, Any]:
    """Balance of the subset and of its pool over labels (null without any) and over the clusters of each level."""

    def both(pool: Int[np.ndarray, " n"], k: int) -> dict[str, Any]:
        chosen = balance(pool[selection.indices], k, pool_labels=pool)
        return {"subset": asdict(chosen), "pool": asdict(balance(pool, k, pool_labels=pool))}

    found: dict[str, Any] = {"labels": None, "clusters": {}}
    if labels is not None:
        n_classes = len(label_names) if label_names else max(1, int(labels.max()) + 1)
        found["labels"] = both(np.asarray(labels, np.int64), n_classes)
    if hierarchy is not None:
        for level, k in enumerate(hierarchy.n_clusters, 1):
            found["clusters"][f"level{level}"] = both(hierarchy.labels(level), k)
    return found


def read_subset(path: str | Path) -> Selection:
    """Read what ``write_subset`` wrote.

    Raises:
        DataError: not a finished subset, or its table is damaged.
    """
    read_manifest(path, "subset")
    try:
        table = pq.read_table(Path(path) / "subset.parquet", columns=["row", "n_repeat", "weight"])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}/subset.parquet cannot be read ({error}); sample again") from error
    return Selection(*(table[name].to_numpy() for name in ("row", "n_repeat", "weight")))
