"""A subset as WebDataset shards."""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strata.curation.export.items import Item, Places, iter_items
from strata.curation.pools.base import Pool

SHARD_ITEMS = 10_000
SHARD_BYTES = 1 << 30


def write_tars(
    pool: Pool,
    rows: NDArray[np.int64],
    repeats: Sequence[int],
    out: Path,
    shard_items: int = SHARD_ITEMS,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """``subset-000000.tar``, ...: per item ``KEY.jpg`` (or png, txt, ...), ``KEY.cls`` with its label, and ``KEY.json``
    with id, label, label_name and n_repeat.

    The key is the item's place in a folder (see ``Places``) without its ending, or its row where that has dots or is
    taken. The bytes of a shard depend on its items alone.
    """
    out.mkdir()
    places, taken = Places(pool), set[str]()
    tar: tarfile.TarFile | None = None
    items = size = shards = 0
    try:
        for item in iter_items(pool, rows, repeats, "shards"):
            if tar is None or items >= shard_items or size >= shard_bytes:
                if tar is not None:
                    tar.close()
                tar = tarfile.open(out / f"subset-{shards:06d}.tar", "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
                shards, items, size = shards + 1, 0, 0
            key = _key(places.of(item), item, taken)
            for ending, data in _members(item):
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            items, size = items + 1, size + len(item.data)
    finally:
        if tar is not None:
            tar.close()


def _members(item: Item) -> Iterator[tuple[str, bytes]]:
    yield item.ending, item.data
    if item.label is not None:
        yield "cls", str(item.label).encode()
    told = {"id": item.item_id, "label": item.label, "label_name": item.label_name, "n_repeat": item.n_repeat}
    yield "json", json.dumps(told, ensure_ascii=False).encode()


def _key(place: str, item: Item, taken: set[str]) -> str:
    """A key ends at the first dot of a file name."""
    key = place.rpartition(".")[0]
    if "." in key.rpartition("/")[2] or key in taken:
        key = f"{item.row:09d}"
    taken.add(key)
    return key
