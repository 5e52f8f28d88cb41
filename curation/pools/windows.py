"""Which windows of a raster are tiles."""

from typing import Literal

from strata.curation.errors import ConfigError

Edges = Literal["drop", "shift"]


def starts(length: int, tile: int, stride: int, edges: Edges) -> list[int]:
    """First pixels of the windows along one side.

    Args:
        length: pixels of the side.
        tile: pixels of a window.
        stride: pixels from one window to the next.
        edges: "drop" leaves out what no whole window covers; "shift" adds a last window that ends at the edge.

    Returns:
        Ascending; empty where the side is shorter than a window.
    """
    if length < tile:
        return []
    found = list(range(0, length - tile + 1, stride))
    if edges == "shift" and found[-1] + tile < length:
        found.append(length - tile)
    return found


def check_windows(tile: int | None, stride: int | None, edges: str) -> None:
    """Raise a ConfigError for sizes below 1, a stride without a tile, or an unknown way with edges."""
    for name, value in (("tile", tile), ("stride", stride)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ConfigError(f"pool.{name}", f"is {value!r}", "give a whole number of pixels, 1 or more, or null")
    if tile is None and stride is not None:
        raise ConfigError("pool.stride", f"is {stride} without pool.tile", "give the size of a tile too")
    if edges not in ("drop", "shift"):
        raise ConfigError("pool.edges", f"is {edges!r}", "choose drop or shift")
