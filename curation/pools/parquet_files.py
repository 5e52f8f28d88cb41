"""Parquet shards on disk: which files make a split, whether they are whole, and what they call their classes."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.find import find_files

_SHARD = re.compile(r"(?P<split>.+)-(?P<i>\d{5})-of-(?P<n>\d{5})(-[0-9a-f]+)?\.parquet")


def splits_of(folder: Path) -> list[str]:
    """Names of the splits in a folder of shards (or in its ``data/``), sorted."""
    return sorted({match["split"] for match, _ in _shards(folder)})


def _shards(folder: Path) -> list[tuple[re.Match[str], Path]]:
    places = [place for place in (folder, folder / "data") if place.is_dir()]
    return [(match, file) for place in places for file in place.iterdir() if (match := _SHARD.fullmatch(file.name))]


def is_image_column(kind: pa.DataType) -> bool:
    """Whether a column may hold encoded images: binary, or a struct with binary ``bytes``."""
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def find_shards(folder: Path, split: str | None) -> list[Path]:
    """The shards of a split in order: ``<split>-00000-of-0000N.parquet`` in the folder or in its ``data/``.

    With no split: the file that ``folder`` is, or all ``.parquet`` files of the folder by name.
    Older sets of the Hugging Face Hub carry a hash after the count, which is allowed.

    Raises:
        ConfigError: no shards at all, or none of this split (the message lists the splits).
        DataError: some of the N shards are missing.
    """
    if split is None:
        return find_files(str(folder), (".parquet",))
    matches = _shards(folder)
    if not matches:
        raise ConfigError("pool.path", f"{folder} has no file like train-00000-of-00001.parquet", "give another folder")
    ours = sorted((int(match["i"]), int(match["n"]), file) for match, file in matches if match["split"] == split)
    if not ours:
        splits = sorted({match["split"] for match, _ in matches})
        raise ConfigError("pool.split", f"{folder} has no split {split!r}", f"choose one of {splits}")
    total = ours[0][1]
    if [i for i, _, _ in ours] != list(range(total)) or {n for _, n, _ in ours} != {total}:
        found = [file.name for _, _, file in ours]
        raise DataError(f"split {split!r} in {folder} should have {total} shards but has {found}; fetch it again")
    return [file for _, _, file in ours]


def open_shard(path: Path) -> pq.ParquetFile:
    """Open a shard through a memory map.

    Raises:
        DataError: it is not a whole Parquet file.
    """
    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a whole Parquet file ({error}); fetch it again") from error


def class_names(schema: pa.Schema, column: str) -> list[str] | None:
    """Names of the ``ClassLabel`` in a column, or None if the file does not tell them.

    Format: key ``huggingface`` of the schema metadata, JSON, ``info.features.<column>.names``
    (huggingface/datasets#src/datasets/features/features.py).

    Raises:
        DataError: the metadata is there but is not JSON.
    """
    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None:
        return None
    try:
        info = json.loads(raw)
    except ValueError as error:
        raise DataError(f"the schema metadata 'huggingface' is not JSON ({error}); write the file again") from error
    features = info.get("info", {}).get("features", {}) if isinstance(info, dict) else {}
    feature = features.get(column)
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return None
    names = feature.get("names")
    return [str(name) for name in names] if names else None
