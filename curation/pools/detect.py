"""What kind of data a path holds, and the pool that reads it: the front door of ``strata curate data=PATH``."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from strata.curation.errors import ConfigError
from strata.curation.paths import resolve_data_path
from strata.curation.pools.find import find_files, is_glob
from strata.curation.pools.folder import EXTENSIONS
from strata.curation.pools.hf_load import load
from strata.curation.pools.jsonl import ENDINGS as JSONL_ENDINGS
from strata.curation.pools.lines import LineFile
from strata.curation.pools.parquet_files import find_shards, is_image_column, open_shard, splits_of

_POOLS = "strata.curation.pools"
_ENDINGS = {"parquet": (".parquet",), "webdataset": (".tar",), "vectors": (".npy",), "jsonl": JSONL_ENDINGS}
_NAMES = {"webdataset": ".tar", "vectors": ".npy", "jsonl": ".jsonl", "parquet": ".parquet", "folder": "image"}
_TEXTS = ("text", "content", "body", "document", "sentence")  # names of a field with text, best first
_SEEN_AT_MOST = 1_000_000  # files looked at


def detect(path: str) -> dict[str, Any]:
    """The config (``_target_`` and settings) of the pool that reads ``path``.

    A file or a glob tells by its ending; a folder by what it holds: a data set that ``datasets`` saved, embeddings that
    strata wrote, or files of one kind (images at any depth, the others directly in it). Columns and fields are found by
    type and name: an image column or else a text column, ``label`` and ``id`` where they are.

    Raises:
        ConfigError: nothing there can be read, or more than one kind or split; the message lists what was seen.
    """
    if is_glob(path):
        return _of_files(path, find_files(path, (), "data"))
    found = resolve_data_path(path, "data")
    if found.is_file():
        return _of_files(path, [found])
    if (found / "dataset_dict.json").is_file() or (found / "state.json").is_file():
        return _of_saved(path, found)
    if _is_store(found):
        return {"_target_": f"{_POOLS}.vectors.VectorPool", "path": path}
    seen = _count(found)
    if len(seen) > 1:
        listed = ", ".join(f"{count} {_NAMES[kind]} files" for kind, count in sorted(seen.items()))
        raise ConfigError(
            "data", f"{found} holds {listed}", f"say which: pool=NAME pool.path={path}, NAME one of {', '.join(seen)}"
        )
    if not seen:
        fix = "give a folder with images, .parquet, .tar, .npy or .jsonl files, or a data set saved by datasets"
        raise ConfigError("data", f"{found} holds {_endings(found)}", fix)
    return _config(next(iter(seen)), path, found)


def _of_files(path: str, files: list[Path]) -> dict[str, Any]:
    kinds = {_kind(file) for file in files}
    if len(kinds) > 1 or None in kinds or kinds == {"folder"}:
        what = f"{path} is {len(files)} files, first {files[0].name}" if len(files) > 1 else f"{path} is a file"
        fix = "give .parquet, .tar, .npy or .jsonl files of one kind, or a folder of images"
        raise ConfigError("data", what, fix)
    kind = kinds.pop()
    assert kind is not None
    if kind == "parquet" and len(files) > 1:
        raise ConfigError("data", f"{path} matches {len(files)} Parquet files", "give one of them, or their folder")
    return _config(kind, path, files[0])


def _config(kind: str, path: str, found: Path) -> dict[str, Any]:
    if kind == "folder":
        return {"_target_": f"{_POOLS}.folder.ImageFolderPool", "path": path}
    if kind == "vectors":
        return {"_target_": f"{_POOLS}.vectors.VectorPool", "path": path}
    if kind == "webdataset":
        return {"_target_": f"{_POOLS}.webdataset_tars.WebDatasetPool", "path": path}
    if kind == "jsonl":
        first = found if found.is_file() else find_files(str(found), JSONL_ENDINGS)[0]
        return {"_target_": f"{_POOLS}.jsonl.JsonlPool", "path": path, **_fields(first, path)}
    return _of_parquet(path, found)


def _of_parquet(path: str, found: Path) -> dict[str, Any]:
    splits = splits_of(found) if found.is_dir() else []
    if len(splits) > 1:
        fix = f"choose one: pool=parquet pool.path={path} pool.split={splits[0]}"
        raise ConfigError("data", f"{found} holds the splits {', '.join(splits)}", fix)
    split = splits[0] if splits else None
    schema = open_shard(find_shards(found, split)[0]).schema_arrow
    columns = _columns({field.name: field.type for field in schema}, path, "parquet")
    return {"_target_": f"{_POOLS}.parquet.ParquetPool", "path": path, "split": split, **columns}


def _of_saved(path: str, found: Path) -> dict[str, Any]:
    """A folder of ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk``."""
    split = None
    if (found / "dataset_dict.json").is_file():
        splits = json.loads((found / "dataset_dict.json").read_text())["splits"]
        if len(splits) != 1:
            fix = f"choose one: pool=hf pool.path={path} pool.split={splits[0] if splits else 'NAME'}"
            raise ConfigError("data", f"{found} holds the splits {', '.join(splits) or 'none'}", fix)
        split = splits[0]
    schema = load(path, found, split, None, None, None).features.arrow_schema
    columns = _columns({field.name: field.type for field in schema}, path, "hf")
    return {"_target_": f"{_POOLS}.hf.HFDatasetPool", "path": path, "split": split, **columns}


def _columns(types: Mapping[str, pa.DataType], path: str, pool: str) -> dict[str, Any]:
    """The column of the items, and those of labels and ids."""
    images = [name for name, kind in types.items() if is_image_column(kind)]
    texts = [name for name, kind in types.items() if pt.is_string(kind) or pt.is_large_string(kind)]
    named = [name for name in ("image", "img", "jpg", "png") if name in images]
    chosen: dict[str, Any] = {"label_column": None, "id_column": None}
    if named or len(images) == 1:
        chosen["image_column"] = (named or images)[0]
    elif not images and (text := _text_name(texts)):
        chosen["text_column"] = text
    else:
        listed = ", ".join(f"{name} ({kind})" for name, kind in types.items())
        fix = f"say which: pool={pool} pool.path={path} pool.image_column=NAME, or pool.text_column=NAME"
        raise ConfigError("data", f"{path} has the columns {listed}", fix)
    if "label" in types and pt.is_integer(types["label"]):
        chosen["label_column"] = "label"
    if "id" in types and (pt.is_string(types["id"]) or pt.is_integer(types["id"])):
        chosen["id_column"] = "id"
    return chosen


def _fields(file: Path, path: str) -> dict[str, Any]:
    """Fields of the first line that is a JSON object, among the first 100."""
    lines = LineFile(file, 2048 << 20)
    for index in range(min(len(lines), 100)):
        try:
            record = json.loads(lines.line(index))
        except (ValueError, RecursionError):
            continue
        if not isinstance(record, dict):
            continue
        text = _text_name([name for name, value in record.items() if isinstance(value, str)])
        if text is None:
            fix = f"say which: pool=jsonl pool.path={path} pool.text_field=NAME"
            raise ConfigError("data", f"{file} has the fields {', '.join(record) or 'none'}", fix)
        label = record.get("label")
        labeled = isinstance(label, int | str) and not isinstance(label, bool) and text != "label"
        given = isinstance(record.get("id"), int | str) and text != "id"
        return {"text_field": text, "id_field": "id" if given else None, "label_field": "label" if labeled else None}
    raise ConfigError("data", f"{file} has no JSON object in its first lines", "give one JSON object per line")


def _text_name(names: list[str]) -> str | None:
    """The field with the text: by its name, or the only one there is beside ids and labels."""
    named = [name for name in _TEXTS if name in names]
    rest = [name for name in names if name not in ("id", "label")]
    return named[0] if named else rest[0] if len(rest) == 1 else None


def _count(folder: Path) -> dict[str, int]:
    """Files by kind: images at any depth, the others directly in the folder (Parquet also in ``data/``)."""
    seen: dict[str, int] = {}
    looked = 0
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        direct = Path(place) == folder
        for name in files:
            kind = _kind(Path(name))
            near = direct or (kind == "parquet" and Path(place) == folder / "data")
            if kind is not None and (kind == "folder" or near):
                seen[kind] = seen.get(kind, 0) + 1
        looked += len(files)
        if looked > _SEEN_AT_MOST:
            break
    return seen


def _kind(file: Path) -> str | None:
    name = file.name.lower()
    if name.startswith("."):
        return None
    for kind, endings in _ENDINGS.items():
        if name.endswith(endings):
            return kind
    return "folder" if name.endswith(EXTENSIONS) else None


def _is_store(folder: Path) -> bool:
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return False
    try:
        record = json.loads(manifest.read_text())
    except ValueError:
        return False
    return isinstance(record, dict) and record.get("kind") == "embeddings"


def _endings(folder: Path) -> str:
    """What lies in a folder, for an error: counts by ending."""
    counts: dict[str, int] = {}
    for entry in folder.iterdir():
        name = "folders" if entry.is_dir() else entry.suffix.lower() or "files without ending"
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "nothing"
