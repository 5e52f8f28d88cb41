"""Frozen features on disk: computed once, memory-mapped, read by every protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from strata.curation.artifact import read_manifest
from strata.curation.errors import DataError

GROUP = "group."  # columns of items.parquet that name a group of each item, e.g. group.region

FeatureFolders = str | Path | Mapping[str, str | Path]  # one folder with several splits, or a folder for each split


@dataclass(frozen=True)
class Targets:
    """What dense protocols predict: one map per item, each of its image's own size, in one flat memory-mapped array."""

    flat: np.ndarray
    sizes: Int[np.ndarray, "n 2"]
    starts: Int[np.ndarray, " n"]

    def __getitem__(self, row: int) -> np.ndarray:
        """The map of an item, [height, width]."""
        height, width = self.sizes[row].tolist()
        start = int(self.starts[row])
        return self.flat[start : start + height * width].reshape(height, width)


@dataclass(frozen=True)
class Features:
    """One split, memory-mapped.

    Attributes:
        cls: class token of the last L blocks, the last block at the end (pooled features where there is no such token).
        avg: mean patch token of the same blocks.
        labels: class ids, all in [0, number of classes); -1 throughout where items have none.
        ids: id of each item, in row order.
        label_names: of all classes; empty where there are none.
        patches: patch tokens of the last blocks, as many as were asked for, row by row of the grid; None without any.
        grid: rows and columns of the patches.
        columns: what else is known of each item, e.g. "accepted" (list of the class ids that count as right: ReaL,
            ObjectNet), "group.NAME" (fairness), "easy", "hard", "junk" (retrieval).
        candidates: class ids that a prediction may be, where a test set has only some of the classes of train
            (ImageNet-A); None = all.
        targets: maps of a dense split.
        task_info: what the pool says of its maps, e.g. the range of depths.
    """

    cls: Float[np.ndarray, "n L d"]
    avg: Float[np.ndarray, "n L d"]
    labels: Int[np.ndarray, " n"]
    ids: list[str]
    label_names: list[str]
    patches: Float[np.ndarray, "n B p d"] | None = None
    grid: tuple[int, int] | None = None
    columns: dict[str, list[Any]] = field(default_factory=dict)
    candidates: Int[np.ndarray, " c"] | None = None
    targets: Targets | None = None
    task_info: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, path: FeatureFolders, split: str) -> "Features":
        """Open a split of a features folder, or of a mapping split -> features folder.

        Raises:
            DataError: not a finished features folder, or it has no such split.
        """
        folder, about, manifest = _locate(path, split)
        table = pq.read_table(folder / "items.parquet")
        candidates = about.get("candidates")
        return cls(
            _load(folder, "cls"),
            _load(folder, "avg"),
            table["label"].to_numpy(),
            table["id"].to_pylist(),
            about.get("label_names", manifest["label_names"]) or [],
            patches=_load(folder, "patches") if (folder / "patches.npy").is_file() else None,
            grid=tuple(about["grid"]) if about.get("grid") else None,
            columns={
                name: table[name].to_pylist() for name in table.column_names if name not in ("row", "id", "label")
            },
            candidates=None if candidates is None else np.asarray(candidates, np.int64),
            targets=_open_targets(folder),
            task_info=about.get("task_info") or {},
        )

    @property
    def n_classes(self) -> int:
        """Number of classes, those with no item included."""
        return len(self.label_names)

    @property
    def groups(self) -> dict[str, list[str]]:
        """The grouping columns, e.g. ``{"region": ["asia", ...]}``."""
        return {name.removeprefix(GROUP): values for name, values in self.columns.items() if name.startswith(GROUP)}

    def need_patches(self, blocks: int, reader: str) -> Float[np.ndarray, "n B p d"]:
        """The patch tokens of the last ``blocks`` blocks.

        Args:
            blocks: how many.
            reader: the protocol that wants them, for the message.

        Raises:
            DataError: they were not extracted, or the network has none.
        """
        held = 0 if self.patches is None else self.patches.shape[1]
        if held < blocks:
            raise DataError(
                f"{reader} reads the patch tokens of {blocks} blocks, and these features hold {held}; extract them with "
                f"patches={blocks}, by a vision transformer of at least so many blocks"
            )
        assert self.patches is not None
        return self.patches[:, -blocks:]

    def __len__(self) -> int:
        return len(self.labels)


def describe_features(path: FeatureFolders) -> dict[str, Any]:
    """What features are of: ``backbone``, ``dtype``, and ``splits`` by name.

    Raises:
        DataError: not finished features folders, or splits that were not made by one backbone and transform.
    """
    if not isinstance(path, Mapping):
        manifest = read_manifest(path, "features")
        return {name: manifest.get(name) for name in ("backbone", "splits", "dtype")}
    if not path:
        raise DataError("no split has features; give a folder for each")
    manifests = {split: read_manifest(folder, "features") for split, folder in path.items()}
    first, reference = next(iter(manifests.items()))
    for split, manifest in manifests.items():
        for what in ("key", "transform"):
            if manifest["backbone"].get(what) != reference["backbone"].get(what):
                raise DataError(
                    f"features of {split} and {first} come from another {what} of the backbone; extract again"
                )
    splits = {split: _locate(path, split)[1] for split in path}
    return {"backbone": reference["backbone"], "splits": splits, "dtype": reference.get("dtype")}


def splits_of(path: FeatureFolders) -> list[str]:
    """Names of the splits."""
    return list(path) if isinstance(path, Mapping) else list(read_manifest(path, "features")["splits"])


def _locate(path: FeatureFolders, split: str) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Folder of a split, what the manifest says of it, and the manifest."""
    if isinstance(path, Mapping):
        if split not in path:
            raise DataError(f"there are no features of the split {split!r}; there are {', '.join(sorted(path))}")
        manifest = read_manifest(path[split], "features")
        name = split if split in manifest["splits"] else next(iter(manifest["splits"]))
        return Path(path[split]) / name, manifest["splits"][name], manifest
    manifest = read_manifest(path, "features")
    if split not in manifest["splits"]:
        raise DataError(f"{path} has no split {split!r}; it holds {', '.join(sorted(manifest['splits']))}")
    return Path(path) / split, manifest["splits"][split], manifest


def _load(folder: Path, name: str) -> np.ndarray:
    array: np.ndarray = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    return array


def _open_targets(folder: Path) -> Targets | None:
    if not (folder / "targets.npy").is_file():
        return None
    sizes = np.asarray(_load(folder, "target_sizes"))
    areas = sizes.astype(np.int64).prod(axis=1)
    return Targets(_load(folder, "targets"), sizes, np.cumsum(areas) - areas)
