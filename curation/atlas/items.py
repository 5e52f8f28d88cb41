"""One item of a pool small enough for the page: a thumbnail as WebP, or the beginning of a text."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from strata.curation.atlas.labels import label_name
from strata.curation.atlas.page import embed_json
from strata.curation.errors import DataError
from strata.curation.pools.base import Pool, UnreadableItem
from strata.curation.pools.quicklook import quicklook

ID_LENGTH = 120  # characters of an id that are shown


class Items:
    """Reads items of a pool as JSON-able entries ``[row, id, label, copies, kind, content]``.

    Kinds: "image" (base64 of a WebP), "text", "unreadable" (why) and "id" (without a pool: nothing but the id).

    Args:
        pool: items are PIL images, tiles or str; None shows ids only.
        ids: of each row; None: row numbers.
        labels: of each row, -1 for none, or None. label_names: of each label.
        copies: of each row in the subset; 0 means dropped.
        side: pixels of the longer side of a thumbnail. quality: of WebP, 0 to 100. characters: of a text.
    """

    def __init__(
        self,
        pool: Pool | None,
        ids: Sequence[str] | None,
        labels: np.ndarray | None,
        copies: np.ndarray,
        *,
        label_names: Sequence[str] | None = None,
        side: int = 72,
        quality: int = 55,
        characters: int = 320,
    ) -> None:
        self._pool, self._ids, self._labels, self._copies = pool, ids, labels, copies
        self._label_names = label_names
        self._side, self._quality, self._characters = side, quality, characters

    def entry(self, row: int) -> list[Any]:
        """What the page shows of a row.

        Raises:
            DataError: the pool's item is neither an image nor a text.
        """
        kind, content = self._content(row)
        label = -1 if self._labels is None else int(self._labels[row])
        name = _cut(str(row) if self._ids is None else str(self._ids[row]), ID_LENGTH, keep_end=True)
        return [row, name, label, int(self._copies[row]), kind, content]

    def cost(self, entry: list[Any]) -> int:
        """Bytes that an entry and the name of its label take in the page, at most."""
        name = {str(entry[2]): label_name(self._label_names, entry[2])} if entry[2] >= 0 else None
        return len(embed_json([entry, name]).encode())

    def _content(self, row: int) -> tuple[str, str]:
        if self._pool is None:
            return "id", ""
        try:
            item: Any = self._pool[row]
        except UnreadableItem as error:
            return "unreadable", _cut(error.why, self._characters)
        if isinstance(item, str):
            return "text", _cut(" ".join(item.split()), self._characters)
        if isinstance(item, Image.Image):
            return "image", self._thumbnail(item)
        if isinstance(item, np.ndarray) and item.ndim == 3:
            return "image", self._thumbnail(quicklook(item))
        raise DataError(
            f"row {row} of pool {self._pool.name!r} is a {type(item).__name__}; an atlas shows images, tiles and str"
        )

    def _thumbnail(self, image: Image.Image) -> str:
        small = ImageOps.contain(image.convert("RGB"), (self._side, self._side), Image.Resampling.BICUBIC)
        if max(image.size) < self._side:  # a small picture stays as it is: the page enlarges it
            small = image.convert("RGB")
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=self._quality, method=3)
        return base64.b64encode(buffer.getvalue()).decode()


def _cut(text: str, length: int, keep_end: bool = False) -> str:
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be written
    if len(text) <= length:
        return text
    return "…" + text[1 - length :] if keep_end else text[: length - 1] + "…"
