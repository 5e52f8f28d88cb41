"""The pool artifact: every item decoded once, so that later stages know what is there and what cannot be read."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from strata.curation.artifact import create_artifact, read_manifest, write_json
from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.base import Pool, UnreadableItem
from strata.curation.pools.content import kind_of
from strata.curation.pools.subset import SubsetPool
from strata.curation.progress import progress

SHOWN = 10  # unreadable items named on stderr
CHUNK = 64  # items that a worker probes at a time


class Probe(NamedTuple):
    """What came of decoding one item: its size (pixels, or characters of a text), or why it could not be read."""

    row: int
    width: int
    height: int
    why: str | None


def take_inventory(
    pool: Pool,
    path: str | Path,
    *,
    key: str = "",
    config: Any = None,
    on_error: str = "fatal",
    num_workers: int = 0,
) -> Path:
    """Decode every item once and write a "pool" artifact.

    ``items.parquet``: row int64, id string, label int64 (-1 = none), for all items. ``unreadable.json``: a list of
    {row, id, why}. Manifest: name, n, n_unreadable, fingerprint, pool (``describe()``), label_names, items ("images",
    "text", "vectors" or "tiles"), and image_size {width: [min, max], height: [min, max]} in pixels, or text_length [min, max]
    in characters.

    Args:
        pool: any pool.
        path: folder to make.
        key: content key of the stage.
        config: resolved config for the manifest.
        on_error: "fatal", or "skip": tell unreadable items on stderr, record them and go on.
        num_workers: processes that decode (started by spawn); 0 = this one.

    Raises:
        ConfigError: an empty pool or an unknown ``on_error``.
        DataError: unreadable items with "fatal" (all are counted first); no readable item at all; ids that repeat.
    """
    if on_error not in ("fatal", "skip"):
        raise ConfigError("on_error", f"is {on_error!r}", "choose fatal or skip")
    if not len(pool):
        raise ConfigError("pool", f"{pool.name!r} is empty", "give a pool with at least one item")
    ids = list(pool.ids)
    if len(ids) != len(pool) or len(set(ids)) < len(ids):
        raise DataError(f"pool {pool.name!r} has {len(pool)} items but {len(set(ids))} different ids; make them unique")
    with create_artifact(path, "pool", key=key, config=config) as draft:
        extent, bad = _scan(pool, num_workers)
        unreadable = [{"row": probe.row, "id": ids[probe.row], "why": probe.why} for probe in bad]
        if unreadable:
            _report(pool.name, unreadable, len(pool), on_error)
        labels = pool.labels if pool.labels is not None else np.full(len(pool), -1, dtype=np.int64)
        table = pa.table(
            {"row": np.arange(len(pool), dtype=np.int64), "id": pa.array(ids, pa.string()), "label": labels}
        )
        pq.write_table(table, draft.path / "items.parquet")
        write_json(draft.path / "unreadable.json", unreadable)
        draft.meta.update(
            name=pool.name,
            n=len(pool),
            n_unreadable=len(unreadable),
            fingerprint=pool.fingerprint,
            pool=pool.describe(),
            label_names=pool.label_names,
            items=kind_of(pool),
            **extent,
        )
    return Path(path)


def readable(pool: Pool, path: str | Path) -> Pool:
    """The pool without the items that the inventory at ``path`` found unreadable (the pool itself if there are none).

    Nor with those that a later stage left out of it: ``left_out.npy``, see ``leave_out``.

    Raises:
        DataError: the inventory is of other data than the pool now holds.
    """
    manifest = read_manifest(path, "pool")
    if manifest["fingerprint"] != pool.fingerprint or manifest["n"] != len(pool):
        raise DataError(
            f"{path} is the inventory of {manifest['n']} items with fingerprint {manifest['fingerprint'][:12]}, but "
            f"pool {pool.name!r} has {len(pool)} with {pool.fingerprint[:12]}; run the pool stage again"
        )
    bad = [item["row"] for item in json.loads((Path(path) / "unreadable.json").read_text())]
    if manifest.get("n_left_out"):
        bad += np.load(Path(path) / "left_out.npy", allow_pickle=False).tolist()
    if not bad:
        return pool
    return SubsetPool(pool, np.delete(np.arange(len(pool)), bad), name=pool.name)


def _scan(pool: Pool, num_workers: int) -> tuple[dict[str, Any], list[Probe]]:
    """What the manifest says of the items' sizes, and the unreadable items in row order."""
    fast = getattr(pool, "unreadable", None)
    if fast is not None:
        return {}, [Probe(row, 0, 0, why) for row, why in fast()]
    widths, heights, bad = _Range(), _Range(), []
    kind = kind_of(pool)
    with progress(len(pool), f"Reading {pool.name}", "images" if kind == "images" else "items") as bar:
        for probe in _probes(pool, num_workers):
            if probe.why is None:
                if probe.width:
                    widths.add(probe.width)
                    heights.add(probe.height)
            else:
                bad.append(probe)
            bar.update()
    if kind == "text":
        return {"text_length": widths.ends}, sorted(bad)
    return {"image_size": {"width": widths.ends, "height": heights.ends}}, sorted(bad)


class _Range:
    def __init__(self) -> None:
        self.ends: list[int] = []

    def add(self, value: int) -> None:
        self.ends = [min(self.ends[0], value), max(self.ends[1], value)] if self.ends else [value, value]


class _Rows:
    """The pool as a map-style data set of probes, for a DataLoader."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def __len__(self) -> int:
        return len(self.pool)

    def __getitem__(self, row: int) -> Probe:
        try:
            item = self.pool[row]
        except UnreadableItem as error:
            return Probe(row, 0, 0, error.why)
        if isinstance(item, str):
            return Probe(row, len(item), 1, None)
        if isinstance(item, np.ndarray) and item.ndim == 3:
            return Probe(row, item.shape[2], item.shape[1], None)
        width, height = item.size if isinstance(item, Image.Image) else (0, 0)  # points have no size in pixels
        return Probe(row, width, height, None)


def _probes(pool: Pool, num_workers: int) -> Iterator[Probe]:
    rows = _Rows(pool)
    if num_workers == 0:
        yield from map(rows.__getitem__, range(len(rows)))
        return
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        rows,  # type: ignore[arg-type]
        batch_size=CHUNK,
        num_workers=num_workers,
        collate_fn=list,
        multiprocessing_context="spawn",
    )
    for batch in loader:
        yield from batch


def _report(name: str, unreadable: list[dict[str, Any]], n: int, on_error: str) -> None:
    """Say what could not be read, or raise."""
    first = unreadable[0]
    if on_error == "fatal":
        raise DataError(
            f"{len(unreadable)} of {n} items of pool {name!r} cannot be read, first {first['id']!r} "
            f"(row {first['row']}): {first['why']}; remove them or set on_error=skip"
        )
    if len(unreadable) == n:
        raise DataError(f"none of the {n} items of pool {name!r} can be read, first {first['id']!r}: {first['why']}")
    for item in unreadable[:SHOWN]:
        print(f"Skipped {item['id']!r} (row {item['row']}): {item['why']}", file=sys.stderr)
    if len(unreadable) > SHOWN:
        print(f"... and {len(unreadable) - SHOWN} more; all are in unreadable.json", file=sys.stderr)
