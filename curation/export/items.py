"""The chosen items one after the other, with what every format writes of them."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strata.curation.pools.base import Pool
from strata.curation.pools.content import encoded_of, kind_of
from strata.curation.pools.folder import EXTENSIONS
from strata.curation.pools.items import unique_ids
from strata.curation.progress import progress

_ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif"}  # others: PIL's name of the format in lower case
_LONGEST = 200  # bytes of a part of a path


@dataclass(frozen=True)
class Item:
    """An item of the subset. ``data`` is the image file or the text in UTF-8, as its pool has it."""

    row: int  # of the (readable) pool
    item_id: str
    data: bytes
    ending: str  # "jpg", "txt", ...
    label: int | None
    label_name: str | None
    n_repeat: int


def iter_items(pool: Pool, rows: NDArray[np.int64], repeats: Sequence[int], what: str) -> Iterator[Item]:
    """Every chosen row once, in order. An image that its pool draws or computes comes as PNG.

    Raises:
        UnreadableItem: an item cannot be read any more.
    """
    labels, names, ids = pool.labels, pool.label_names, pool.ids
    with progress(len(rows), f"Writing {what}", "items") as bar:
        for row, n_repeat in zip(rows.tolist(), repeats, strict=True):
            data = encoded_of(pool, row)
            if data is None:
                stream = io.BytesIO()
                pool[row].save(stream, "PNG")
                data = stream.getvalue()
            label = None if labels is None or labels[row] < 0 else int(labels[row])
            name = names[label] if names is not None and label is not None else None
            yield Item(row, ids[row], data, ending_of(pool, data), label, name, int(n_repeat))
            bar.update()


def ending_of(pool: Pool, data: bytes) -> str:
    """Ending of a file with this content."""
    if kind_of(pool) == "text":
        return "txt"
    with Image.open(io.BytesIO(data)) as image:
        name = image.format or "png"
    return _ENDINGS.get(name, name.lower())


class Places:
    """A relative path for each item, from its id and class, that is safe and taken once.

    An id that begins with its class keeps its path. Others go below a folder of their class, if there is one. An id that
    is no safe path (absolute, ``..``, hidden, very long) or whose path is taken gives way to the item's row.
    """

    def __init__(self, pool: Pool) -> None:
        self._folders = class_folders(pool)
        self._taken: set[str] = set()

    @property
    def folders(self) -> list[str]:
        """One per class."""
        return self._folders

    def of(self, item: Item) -> str:
        """The path of an item, with an ending."""
        parts = PurePosixPath(item.item_id).parts
        folder = self._folders[item.label] if item.label is not None else None
        if folder is not None and (len(parts) < 2 or parts[0] != folder):
            parts = (folder, *parts)
        place = "/".join(parts)
        if not place.lower().endswith(EXTENSIONS):
            place += f".{item.ending}"
        if not parts or not all(map(_is_safe, parts)) or place in self._taken:
            place = f"{item.row:09d}.{item.ending}" if folder is None else f"{folder}/{item.row:09d}.{item.ending}"
        self._taken.add(place)
        return place


def class_folders(pool: Pool) -> list[str]:
    """A folder name for each class: its name, or its number with leading zeros, so that they sort as the numbers do."""
    if pool.labels is None or not (pool.labels >= 0).any():
        return []
    highest = int(pool.labels.max())
    names = pool.label_names or [f"{label:0{len(str(highest))}d}" for label in range(highest + 1)]
    return unique_ids(name if _is_safe(name) else _made_safe(name) for name in names)


def _is_safe(part: str) -> bool:
    return (
        part not in ("", "/") and part[0] != "." and "/" not in part and "\0" not in part and _bytes(part) <= _LONGEST
    )


def _made_safe(name: str) -> str:
    flat = name.replace("/", "_").replace("\0", "_")
    return f"_{flat.lstrip('.')}".encode()[:_LONGEST].decode(errors="ignore")


def _bytes(part: str) -> int:
    return len(part.encode(errors="surrogateescape"))
