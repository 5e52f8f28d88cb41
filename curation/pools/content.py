"""What the items of a pool are, and how to get at them as they were stored.

Most pools hold images. Others say so with an attribute ``kind``, and their ``pool[row]`` is a ``str`` or a vector. Four
methods are optional: ``encoded(row)``, the image or UTF-8 text as stored, ``file(row)``, the item's own file,
``line(row)``, its line of JSON, and ``valid(row)``, where a tile has data.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from strata.curation.errors import ConfigError

Kind = Literal["images", "text", "vectors", "tiles"]


def kind_of(pool: Any) -> Kind:
    """What ``pool[row]`` is: "images" (PIL, RGB), "text" (str), "vectors" (float [d]) or "tiles" ([bands, h, w])."""
    kind: Kind = getattr(pool, "kind", "images")
    return kind


def encoded_of(pool: Any, row: int) -> bytes | None:
    """The bytes of an image or text as its pool stores them, or None where the pool has no such bytes (drawn images).

    Raises:
        UnreadableItem: they are gone.
    """
    method = getattr(pool, "encoded", None)
    data: bytes | None = None if method is None else method(row)
    return data


def file_of(pool: Any, row: int) -> Path | None:
    """The file that holds this item and nothing else, or None where items are no files of their own."""
    method = getattr(pool, "file", None)
    path: Path | None = None if method is None else method(row)
    return path


def valid_of(pool: Any, row: int) -> NDArray[np.bool_] | None:
    """Where a tile has data, bool [h, w], or None where its pool knows of no missing pixels."""
    method = getattr(pool, "valid", None)
    valid: NDArray[np.bool_] | None = None if method is None else method(row)
    return valid


def line_of(pool: Any, row: int) -> bytes | None:
    """The line of JSON that an item is in its file, or None where it is none."""
    method = getattr(pool, "line", None)
    line: bytes | None = None if method is None else method(row)
    return line


def check_reads(pool: Any, encoder: Any) -> None:
    """Raise a ConfigError unless the encoder is for such items as the pool has (``encoder.reads``, default images)."""
    reads, kind = getattr(encoder, "reads", "images"), kind_of(pool)
    if reads != kind:
        fix = {
            "images": "use e.g. encoder=hog_color, or encoder=timm",
            "text": "use encoder=hashed_text, or encoder=sentence",
            "vectors": "use encoder=none",
            "tiles": "use encoder=band_pca, or encoder=backbone with a network of as many bands",
        }[kind]
        raise ConfigError("encoder", f"{encoder.name} reads {reads}, and pool {pool.name!r} holds {kind}", fix)
