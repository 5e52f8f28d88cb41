"""Run a frozen backbone over the splits of a benchmark: once, in one or several processes, going on where it was killed."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from strata.curation.artifact import create_artifact
from strata.curation.device import resolve_device
from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.curation.pools.content import Kind, kind_of
from strata.eval.backbone import FrozenBackbone
from strata.eval.chunks import SplitFolder
from strata.eval.labels import check_labels, check_same_classes
from strata.eval.targets import has_targets


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
    processes: int = 1,
    device: str = "auto",
    dtype: Literal["float16", "float32"] = "float16",
    patches: int = 0,
    labelled: bool = True,
    show_progress: bool = True,
) -> Path:
    """Run a frozen backbone over pools: center crop (or the whole image, as its transform does), no augmentation.

    Writes ``<split>/cls.npy`` and ``<split>/avg.npy`` [n, L, d], ``<split>/items.parquet`` (row, id, label and what else
    the pool knows of its items), with ``patches`` ``<split>/patches.npy`` [n, B, p, d], and for a dense pool its maps in
    ``<split>/targets.npy``. A killed run keeps what it finished, a chunk of a split at a time, if the pool, the backbone
    and the settings are still the same.

    Args:
        backbone: see ``load_backbone``; moved to ``device``.
        pool_by_split: usually "train" and "test"; all with the same classes.
        out: the folder to make. Must not exist yet.
        key: content key of the stage; ``inputs`` and ``config``: see ``create_artifact``.
        batch_size: images per forward pass. Features differ by rounding only.
        num_workers: processes that decode images for each process that runs the network; 0 does it in that one.
        processes: that run the network at once; on GPUs each takes its own. The numbers are the same for any.
        device: "auto" takes a GPU if there is one.
        dtype: of the stored features.
        patches: of how many of the last blocks to store the patch tokens; 0 = none.
        labelled: every item must have a label in range (False: label-free data, retrieval, dense maps).
        show_progress: a bar on stderr.

    Raises:
        ConfigError: a bad setting, a pool without labels (``benchmark.<split>``), or a network without patch tokens.
        DataError: labels outside the classes, splits with different classes, or features that are not finite.
    """
    _check(backbone, pool_by_split, batch_size, num_workers, processes, dtype, patches, labelled)
    backbone.to(resolve_device(device))
    splits: dict[str, Any] = {}
    with create_artifact(out, "features", key=key, inputs=inputs, config=config) as draft:
        for split, pool in pool_by_split.items():
            known = _known(backbone, pool, dtype, patches)
            folder = SplitFolder(
                draft.path / split, backbone, pool, known, batch_size, dtype, patches, has_targets(pool)
            )
            folder.fill(split, num_workers, processes, show_progress)
            splits[split] = known
        for split, pool in pool_by_split.items():
            _write_items(draft.path / split, pool)
            shutil.rmtree(draft.path / split / "work")
        names = next(iter(pool_by_split.values())).label_names
        draft.meta.update(
            splits=splits, label_names=names, backbone=backbone.describe(), dtype=dtype, batch_size=batch_size
        )
    return Path(out)


def _known(backbone: FrozenBackbone, pool: Pool, dtype: str, patches: int) -> dict[str, Any]:
    """What the manifest says of a split; a killed run goes on only where all of it is the same."""
    candidates = getattr(pool, "candidates", None)
    return {
        "n": len(pool),
        "fingerprint": pool.fingerprint,
        "backbone": backbone.key,
        "dtype": dtype,
        "pool": {"name": pool.name, **pool.describe()},
        "label_names": pool.label_names,
        "grid": list(backbone.grid) if backbone.grid else None,
        "patches": patches,
        "task_info": getattr(pool, "task_info", None),
        "candidates": None if candidates is None else [int(c) for c in candidates],
    }


def _write_items(folder: Path, pool: Pool) -> None:
    """``items.parquet``: row, id, label (-1 = none), and the columns of ``pool.extra``, values or lists of whole numbers."""
    labels = np.full(len(pool), -1) if pool.labels is None else np.asarray(pool.labels)
    columns: dict[str, Any] = {
        "row": pa.array(np.arange(len(pool)), pa.int64()),
        "id": pa.array(list(pool.ids), pa.string()),
        "label": pa.array(labels.astype(np.int64), pa.int64()),
    }
    for name, values in getattr(pool, "extra", {}).items():
        columns[name] = pa.array(list(values))
    pq.write_table(pa.table(columns), folder / "items.parquet")


def _check(
    backbone: FrozenBackbone,
    pool_by_split: Mapping[str, Pool],
    batch_size: int,
    num_workers: int,
    processes: int,
    dtype: str,
    patches: int,
    labelled: bool,
) -> None:
    if not pool_by_split:
        raise ConfigError("benchmark", "no splits", "give train and test")
    if batch_size < 1:
        raise ConfigError("batch_size", f"{batch_size} images", "use 1 or more")
    if num_workers < 0:
        raise ConfigError("num_workers", f"{num_workers} processes", "use 0 or more")
    if processes < 1:
        raise ConfigError("processes", f"{processes}", "use 1 or more")
    if dtype not in ("float16", "float32"):
        raise ConfigError("dtype", f"{dtype!r} is unknown", "use float16 or float32")
    check_patches(backbone.name, patches, backbone.n_blocks, backbone.grid is not None)
    for split, pool in pool_by_split.items():
        check_items(f"benchmark.{split}", pool, backbone.name, backbone.items)
        if labelled:
            check_labels(split, pool)
        elif not len(pool):
            raise ConfigError(f"benchmark.{split}", f"{pool.name} has no items", "check its path and split")
    check_same_classes(pool_by_split)


def check_items(field: str, pool: Pool, name: str, items: Kind) -> None:
    """Raise a ConfigError unless a network reads what a pool holds: RGB images, or tiles of its own number of bands."""
    if kind_of(pool) != items:
        problem = f"{pool.name!r} holds {kind_of(pool)}, and {name} reads {items}"
        raise ConfigError(field, problem, f"give a pool of {items}, or another backbone")


def check_patches(name: str, patches: int, n_blocks: int, has_patches: bool) -> None:
    """Raise a ConfigError unless a network has the patch tokens of so many blocks."""
    if patches < 0:
        raise ConfigError("patches", f"{patches} blocks", "use 0 or more")
    if patches and not has_patches:
        problem = f"{name} has no patch tokens, and a protocol reads them"
        raise ConfigError("backbone", problem, "use a vision transformer, or leave out dense and attentive protocols")
    if patches > n_blocks:
        problem = f"a protocol reads the patch tokens of {patches} blocks, and {n_blocks} of {name} are read"
        raise ConfigError("backbone", problem, "use a deeper network, or fewer blocks in the protocol")
