"""Frozen features of the splits of a benchmark: computed once, read by every protocol."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float, Int
from numpy.lib.format import open_memmap

from strata.curation.artifact import create_artifact, read_manifest, write_json
from strata.curation.batches import iter_batches
from strata.curation.device import resolve_device
from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.base import Pool
from strata.curation.progress import progress
from strata.curation.shards import checked_cast, write_items
from strata.eval.backbone import FrozenBackbone
from strata.eval.labels import check_labels, check_same_classes

_DONE = "done.json"  # last file of a split that is whole


@dataclass(frozen=True)
class Features:
    """One split, memory-mapped.

    Attributes:
        cls: class token of the last L blocks, the last block at the end.
        avg: mean patch token of the same blocks.
        labels: class ids, all in [0, number of classes).
        ids: id of each item, in row order.
        label_names: of all classes.
    """

    cls: Float[np.ndarray, "n L d"]
    avg: Float[np.ndarray, "n L d"]
    labels: Int[np.ndarray, " n"]
    ids: list[str]
    label_names: list[str]

    @classmethod
    def open(cls, path: str | Path, split: str) -> "Features":
        """Open a split of a features folder.

        Raises:
            DataError: not a finished features folder, or it has no such split.
        """
        manifest = read_manifest(path, "features")
        if split not in manifest["splits"]:
            raise DataError(f"{path} has no split {split!r}; it holds {', '.join(sorted(manifest['splits']))}")
        folder = Path(path) / split
        items = pq.read_table(folder / "items.parquet")
        return cls(
            np.load(folder / "cls.npy", mmap_mode="r", allow_pickle=False),
            np.load(folder / "avg.npy", mmap_mode="r", allow_pickle=False),
            items["label"].to_numpy(),
            items["id"].to_pylist(),
            manifest["label_names"],
        )

    @property
    def n_classes(self) -> int:
        """Number of classes, those with no item included."""
        return len(self.label_names)

    def __len__(self) -> int:
        return len(self.labels)


def extract_features(
    backbone: FrozenBackbone,
    pool_by_split: Mapping[str, Pool],
    out: str | Path,
    *,
    key: str = "",
    inputs: Mapping[str, str] | None = None,
    config: Any = None,
    batch_size: int = 256,
    num_workers: int = 0,
    device: str = "auto",
    dtype: Literal["float16", "float32"] = "float16",
) -> Path:
    """Run a frozen backbone over labelled pools: center crop, no augmentation.

    Writes ``<split>/cls.npy`` and ``<split>/avg.npy`` [n, L, d] and ``<split>/items.parquet`` (row, id, label). A
    killed run keeps its finished splits, if their pool and the backbone are still the same.

    Args:
        backbone: see ``load_backbone``; moved to ``device``.
        pool_by_split: usually "train" and "test"; all with the same classes and a label for every item.
        out: the folder to make. Must not exist yet.
        key: content key of the stage; ``inputs`` and ``config``: see ``create_artifact``.
        batch_size: images per forward pass. Features differ by rounding only.
        num_workers: processes that decode images; 0 does it in this one.
        device: "auto" takes a GPU if there is one.
        dtype: of the stored features.

    Raises:
        ConfigError: a bad setting, or a pool without labels (``benchmark.<split>``).
        DataError: labels outside the classes, splits with different classes, or features that are not finite.
    """
    _check(pool_by_split, batch_size, num_workers, dtype)
    backbone.to(resolve_device(device))
    splits: dict[str, Any] = {}
    with create_artifact(out, "features", key=key, inputs=inputs, config=config) as draft:
        for split, pool in pool_by_split.items():
            known = {
                "n": len(pool),
                "fingerprint": pool.fingerprint,
                "backbone": backbone.key,
                "dtype": dtype,
                "pool": {"name": pool.name, **pool.describe()},
            }
            if not _is_done(draft.path / split, known):
                _extract_split(backbone, pool, draft.path / split, split, batch_size, num_workers, dtype)
                write_json(draft.path / split / _DONE, known)
            splits[split] = known
        for split in splits:
            (draft.path / split / _DONE).unlink()
        names = next(iter(pool_by_split.values())).label_names
        draft.meta.update(
            splits=splits, label_names=names, backbone=backbone.describe(), dtype=dtype, batch_size=batch_size
        )
    return Path(out)


def _extract_split(
    backbone: FrozenBackbone, pool: Pool, folder: Path, split: str, batch_size: int, num_workers: int, dtype: str
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shape = (len(pool), backbone.n_blocks, backbone.dim)
    arrays = [open_memmap(folder / f"{name}.npy", "w+", dtype, shape) for name in ("cls", "avg")]
    spans = [range(start, min(start + batch_size, len(pool))) for start in range(0, len(pool), batch_size)]
    on_gpu = backbone.device.type == "cuda"
    images = iter_batches(pool, backbone.transform, spans, num_workers=num_workers, pin_memory=on_gpu)
    with progress(len(pool), f"features of {split}", "images") as bar:
        for span, batch in zip(spans, images, strict=True):
            for array, tokens in zip(arrays, backbone.features(batch), strict=True):
                block = tokens.float().cpu().numpy().reshape(len(span), -1)
                array[span.start : span.stop] = checked_cast(block, dtype, pool.ids, span.start).reshape(-1, *shape[1:])
            bar.update(len(span))
    for array in arrays:
        array.flush()
    write_items(folder, pool.ids, pool.labels)


def _is_done(folder: Path, known: dict[str, Any]) -> bool:
    file = folder / _DONE
    return file.is_file() and json.loads(file.read_text()) == json.loads(json.dumps(known, default=str))


def _check(pool_by_split: Mapping[str, Pool], batch_size: int, num_workers: int, dtype: str) -> None:
    if not pool_by_split:
        raise ConfigError("benchmark", "no splits", "give train and test")
    if batch_size < 1:
        raise ConfigError("batch_size", f"{batch_size} images", "use 1 or more")
    if num_workers < 0:
        raise ConfigError("num_workers", f"{num_workers} processes", "use 0 or more")
    if dtype not in ("float16", "float32"):
        raise ConfigError("dtype", f"{dtype!r} is unknown", "use float16 or float32")
    for split, pool in pool_by_split.items():
        check_labels(split, pool)
    check_same_classes(pool_by_split)
