"""An inventory with some more rows left out: what every later stage then sees of the pool."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int

from strata.curation.artifact import create_artifact, read_manifest

_COPIED = ("name", "n", "n_unreadable", "fingerprint", "pool", "label_names", "items", "text_length", "image_size")


def leave_out(
    inventory: str | Path,
    rows: Int[np.ndarray, " m"],
    out: str | Path,
    *,
    report: pa.Table | None = None,
    key: str = "",
    inputs: Mapping[str, str] | None = None,
    config: Any = None,
    meta: Mapping[str, Any] | None = None,
) -> Path:
    """Write a "pool" artifact as ``inventory``, without ``rows``; ``readable`` then gives the pool without them.

    Args:
        inventory: a "pool" artifact.
        rows: to leave out, as rows of ``readable(pool, inventory)``.
        out: the folder to make: the inventory's files, ``left_out.npy`` (rows of the whole pool) and ``left_out.parquet``.
        report: why; a column "row" of rows as above becomes rows of the whole pool.
        key, inputs, config: see ``create_artifact``.
        meta: more for the manifest.
    """
    source, manifest = Path(inventory), read_manifest(inventory, "pool")
    bad = [item["row"] for item in json.loads((source / "unreadable.json").read_text())]
    if manifest.get("n_left_out"):
        bad += np.load(source / "left_out.npy", allow_pickle=False).tolist()
    kept = np.delete(np.arange(manifest["n"]), bad)
    gone = np.sort(np.concatenate([np.asarray(kept[rows], np.int64), np.setdiff1d(bad, _unreadable(source))]))
    with create_artifact(out, "pool", key=key, inputs=inputs, config=config) as draft:
        for name in ("items.parquet", "unreadable.json"):
            shutil.copyfile(source / name, draft.path / name)
        np.save(draft.path / "left_out.npy", gone.astype(np.int64))
        if report is not None:
            place = report.column_names.index("row")
            whole = pa.array(kept[report["row"].to_numpy()], pa.int64())
            pq.write_table(report.set_column(place, "row", whole), draft.path / "left_out.parquet")
        draft.meta.update({name: manifest[name] for name in _COPIED if name in manifest})
        draft.meta.update(n_left_out=len(gone), **(meta or {}))
    return Path(out)


def _unreadable(inventory: Path) -> list[int]:
    return [item["row"] for item in json.loads((inventory / "unreadable.json").read_text())]
