"""Scores on disk: one record per number, with its interval, and the predictions that it can be computed again from."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from strata.curation.artifact import create_artifact, read_manifest, write_json
from strata.curation.errors import DataError

_REQUIRED = ("row", "id")


@dataclass(frozen=True)
class Score:
    """One number.

    Attributes:
        protocol: id, e.g. "knn"; with the version it says how the number was made: a number never moves without it.
        version: of the protocol, from 1.
        benchmark: what it was scored on.
        metric: e.g. "top1". Accuracies are fractions, 0..1.
        value: of the metric.
        n: how many test images (or classes, for a mean over classes) it is the mean of.
        ci_low: lower end of the 95 % interval over test images. It knows nothing of the noise between training seeds.
        ci_high: upper end.
        details: settings that were used or chosen; JSON-able.
        statistic: how the value comes from the columns of ``predictions.parquet`` (``bootstrap.statistic_of``), so that
            two backbones can be compared in pairs; empty where it does not come from there.
    """

    protocol: str
    version: int
    benchmark: str
    metric: str
    value: float
    n: int
    ci_low: float
    ci_high: float
    details: dict[str, Any] = field(default_factory=dict)
    statistic: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all(math.isfinite(number) for number in (self.value, self.ci_low, self.ci_high)):
            raise DataError(f"{self.protocol} on {self.benchmark}: {self.metric} is not finite; check the features")


def write_scores(
    path: str | Path,
    scores: list[Score],
    predictions: Mapping[str, Any],
    *,
    label_names: Sequence[str] = (),
    key: str = "",
    inputs: Mapping[str, str] | None = None,
    config: Any = None,
    meta: Mapping[str, Any] | None = None,
) -> Path:
    """Write a "scores" artifact: ``scores.json`` (list of records), ``predictions.parquet`` and ``per_class.parquet``.

    Args:
        path: the folder to make. Must not exist yet.
        scores: the numbers.
        predictions: columns of equal length, one value (or list) per test image: at least ``row`` and ``id``; of a
            classification also ``label``, ``prediction`` and ``correct`` (of the headline metric).
        label_names: of the classes; with it and the columns of a classification, ``per_class.parquet`` is written.
        key: content key of the stage; ``inputs`` and ``config``: see ``create_artifact``.
        meta: more for the manifest, e.g. which backbone and transform the features came from.

    Raises:
        DataError: a column is missing, or the columns differ in length.
    """
    missing = [name for name in _REQUIRED if name not in predictions]
    if missing:
        raise DataError(f"predictions lack the columns {', '.join(missing)}; add them")
    lengths = {name: len(column) for name, column in predictions.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"the columns of predictions differ in length: {lengths}; give one value per test image")
    table = pa.table({name: _column(column) for name, column in predictions.items()})
    with create_artifact(path, "scores", key=key, inputs=inputs, config=config) as draft:
        write_json(draft.path / "scores.json", [dataclasses.asdict(score) for score in scores])
        pq.write_table(table, draft.path / "predictions.parquet")
        if len(label_names) and {"label", "correct"} <= predictions.keys():
            pq.write_table(per_class(predictions, label_names), draft.path / "per_class.parquet")
        draft.meta.update(meta or {})
    return Path(path)


def per_class(predictions: Mapping[str, Any], label_names: Sequence[str]) -> pa.Table:
    """``split`` (where there are several), ``class``, ``name``, ``n`` test images and the ``accuracy`` on them, null for 0."""
    labels, correct = np.asarray(predictions["label"]), np.asarray(predictions["correct"])
    splits = np.asarray(predictions.get("split", np.zeros(len(labels), np.int64)))
    parts = []
    for split in dict.fromkeys(splits.tolist()):
        rows = splits == split
        n = np.bincount(labels[rows], minlength=len(label_names))
        right = np.bincount(labels[rows], weights=correct[rows], minlength=len(label_names))
        columns = {"class": np.arange(len(n)), "name": list(label_names), "n": n}
        columns["accuracy"] = pa.array(right / np.maximum(n, 1), mask=n == 0)
        parts.append(pa.table(({"split": [split] * len(n)} if "split" in predictions else {}) | columns))
    return pa.concat_tables(parts)


def read_predictions(path: str | Path) -> dict[str, np.ndarray]:
    """The columns of ``predictions.parquet``.

    Raises:
        DataError: not a scores folder, or it has none.
    """
    read_manifest(path, "scores")
    try:
        table = pq.read_table(Path(path) / "predictions.parquet")
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}/predictions.parquet cannot be read ({error}); run the evaluation again") from error
    return {name: table[name].to_numpy() for name in table.column_names}


def _column(values: Any) -> pa.Array:
    array = np.asarray(values) if not _ragged(values) else None
    return pa.array(array) if array is not None and array.ndim == 1 else pa.array([list(row) for row in values])


def _ragged(values: Any) -> bool:
    return len(values) > 0 and isinstance(values[0], list | tuple | np.ndarray)


def read_scores(path: str | Path) -> list[Score]:
    """The scores of a folder that ``write_scores`` made.

    Raises:
        DataError: it is not one.
    """
    read_manifest(path, "scores")
    try:
        return [Score(**record) for record in json.loads((Path(path) / "scores.json").read_text())]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}/scores.json cannot be read ({error}); run the evaluation again") from error
