"""A subset as a folder of image files, or of links to them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strata.curation.export.items import Item, Places, iter_items
from strata.curation.pools.base import Pool
from strata.curation.pools.content import file_of


def write_folder(pool: Pool, rows: NDArray[np.int64], repeats: Sequence[int], out: Path) -> None:
    """The images in a folder per class (also those without an image), the bytes as the pool has them."""
    places = Places(pool)
    _make_folders(places, out)
    for item in iter_items(pool, rows, repeats, "files"):
        file = out / places.of(item)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(item.data)


def write_symlinks(pool: Pool, rows: NDArray[np.int64], repeats: Sequence[int], out: Path) -> None:
    """Links to the pool's own files, by absolute path. The pool has files (``check_format`` has seen to it)."""
    places, labels, ids = Places(pool), pool.labels, pool.ids
    _make_folders(places, out)
    blank = Item(0, "", b"", "", None, None, 1)
    for row in rows.tolist():
        target = file_of(pool, row)
        assert target is not None
        label = None if labels is None or labels[row] < 0 else int(labels[row])
        item = replace(blank, row=row, item_id=ids[row], label=label, ending=target.suffix.lstrip(".").lower())
        link = out / places.of(item)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


def _make_folders(places: Places, out: Path) -> None:
    out.mkdir()
    for folder in places.folders:
        (out / folder).mkdir()
