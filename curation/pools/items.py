"""What every reader does with one item: check its row, decode its bytes, keep its id unique."""

import io
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from strata.curation.pools.base import UnreadableItem


def check_row(row: int, n: int) -> int:
    """``row`` as a plain int in [0, n). Negative rows are refused: a row is an identity here, not an offset.

    Raises:
        IndexError: the row is outside [0, n).
    """
    index = operator.index(row)
    if not 0 <= index < n:
        raise IndexError(f"row {index} is outside the pool of {n} items")
    return index


def decode_image(data: bytes, row: int, item_id: str) -> Image.Image:
    """Decode encoded image bytes to mode RGB: alpha is dropped, 16-bit grey keeps its upper 8 bits.

    Raises:
        UnreadableItem: the bytes are no image, are cut short, or hold values without a defined range (float images).
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return _to_rgb(image)
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableItem(row, item_id, "no image of a known format") from error
    except Exception as error:  # Pillow's decoders raise a zoo of types: OSError, SyntaxError, struct.error
        raise UnreadableItem(row, item_id, str(error) or type(error).__name__) from error


def unique_ids(ids: Iterable[str]) -> list[str]:
    """The ids in order, a repeated one marked ``#2``, ``#3``, ..., so that each names one item."""
    taken: set[str] = set()
    seen: dict[str, int] = {}
    result = []
    for item_id in ids:
        unique = item_id
        while unique in taken:
            seen[item_id] = seen.get(item_id, 1) + 1
            unique = f"{item_id}#{seen[item_id]}"
        taken.add(unique)
        result.append(unique)
    return result


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # convert("RGB") would clip everything above 255 to white
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no defined range; save it with 8 or 16 bits")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def pool_name(name: str | None, *parts: Any) -> str:
    """The name given, or one put together from the source: ``tinyimagenet_lt-pool``."""
    return name if name else "-".join(str(part) for part in parts if part not in (None, ""))
