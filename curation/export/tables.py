"""A subset as a Parquet file or as a data set of Hugging Face ``datasets``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from strata.curation.export.items import Item, iter_items
from strata.curation.pools.base import Pool
from strata.curation.pools.content import kind_of

_GROUP_ROWS, _GROUP_BYTES = 1000, 64 << 20
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write_parquet(pool: Pool, rows: NDArray[np.int64], repeats: Sequence[int], out: Path) -> None:
    """``train-00000-of-00001.parquet`` with image (bytes as the pool has them) or text, label, id and n_repeat.

    The schema tells ``datasets`` which column is an image and what the classes are called.
    """
    out.mkdir()
    schema = _schema(pool)
    with pq.ParquetWriter(out / "train-00000-of-00001.parquet", schema) as writer:
        group: list[dict[str, Any]] = []
        size = 0
        for item in iter_items(pool, rows, repeats, "table"):
            group.append(_record(pool, item))
            size += len(item.data)
            if len(group) >= _GROUP_ROWS or size >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(group, schema))
                group, size = [], 0
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema))


def write_hf(pool: Pool, rows: NDArray[np.int64], repeats: Sequence[int], out: Path) -> None:
    """A folder of ``Dataset.save_to_disk``, with the columns of ``write_parquet``."""
    import datasets

    table, cache = out.with_name("table.tmp"), out.with_name("cache.tmp")
    write_parquet(pool, rows, repeats, table)
    shown = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        data = datasets.Dataset.from_parquet(str(table / "train-00000-of-00001.parquet"), cache_dir=str(cache))
        data.save_to_disk(str(out))
    finally:
        if shown:
            datasets.enable_progress_bars()


def _schema(pool: Pool) -> pa.Schema:
    is_text = kind_of(pool) == "text"
    fields = [("text", pa.string()) if is_text else ("image", _IMAGE)]
    features: dict[str, Any] = {"text": _value("string")} if is_text else {"image": {"_type": "Image"}}
    if pool.labels is not None:
        fields.append(("label", pa.int64()))
        names = pool.label_names
        features["label"] = {"names": names, "_type": "ClassLabel"} if names else _value("int64")
    fields += [("id", pa.string()), ("n_repeat", pa.int32())]
    features |= {"id": _value("string"), "n_repeat": _value("int32")}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _value(dtype: str) -> dict[str, str]:
    return {"dtype": dtype, "_type": "Value"}


def _record(pool: Pool, item: Item) -> dict[str, Any]:
    record: dict[str, Any] = {"id": item.item_id, "n_repeat": item.n_repeat}
    if kind_of(pool) == "text":
        record["text"] = item.data.decode()
    else:
        record["image"] = {"bytes": item.data, "path": item.item_id}
    if pool.labels is not None:
        record["label"] = item.label
    return record
