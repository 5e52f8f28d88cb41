"""Where the tiles of a curation lie on earth, kept and dropped: GeoJSON for any map, and a picture."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.raster_files import rasterio_module

MOST_DRAWN = 100_000  # tiles of a picture

Ring = Float[np.ndarray, "n 4 2"]  # longitude and latitude of four corners


def footprints_of(pool: Any) -> pa.Table | None:
    """Footprints of the items of any pool that have a place on earth, ``row`` counting the pool's; None if none has one.

    See ``RasterPool.footprints``; a pool made of others passes theirs on.
    """
    method = getattr(pool, "footprints", None)
    found: pa.Table | None = None if method is None else method()
    if found is None:
        return None
    placed = found.filter(found["crs"].is_valid())
    return placed if len(placed) else None


def on_earth(footprints: pa.Table) -> Ring:
    """Corners of tiles in longitude and latitude (EPSG:4326), whatever system each of them is in.

    Args:
        footprints: of ``RasterPool.footprints``.

    Raises:
        DataError: a tile's raster has no coordinate reference system, or the corners have no place on earth.
    """
    rasterio = rasterio_module()
    from rasterio.warp import transform

    systems = footprints["crs"].to_pylist()
    lacking = [i for i, crs in enumerate(systems) if crs is None]
    if lacking:
        file = footprints["file"][lacking[0]].as_py()
        raise DataError(f"{file} has no coordinate reference system; assign one, e.g. with gdal_edit -a_srs")
    corners = np.stack([footprints[f"{'xy'[i % 2]}{i // 2}"].to_numpy() for i in range(8)], axis=1).reshape(-1, 4, 2)
    result = np.empty_like(corners)
    for crs in sorted(set(systems)):
        here = np.array([system == crs for system in systems])
        flat = corners[here].reshape(-1, 2)
        try:
            lon, lat = transform(crs, "EPSG:4326", flat[:, 0].tolist(), flat[:, 1].tolist())
        except rasterio.errors.RasterioError as error:
            raise DataError(f"tiles in {crs[:60]}... have no place on earth ({error}); check the rasters") from error
        result[here] = np.stack([lon, lat], axis=1).reshape(-1, 4, 2)
    if not np.isfinite(result).all():
        row = int(np.flatnonzero(~np.isfinite(result).all(axis=(1, 2)))[0])
        raise DataError(f"tile {footprints['id'][row].as_py()!r} has no place on earth; check its raster's transform")
    return result


def write_footprints(
    path: str | Path, footprints: pa.Table, kept: Int[np.ndarray, " m"], *, picture: str | Path | None = None
) -> None:
    """Write a GeoJSON FeatureCollection (RFC 7946) with a polygon per tile, and a picture of the same.

    Properties of a feature: row, id, file, and kept (true or false).

    Args:
        path: of the .geojson.
        footprints: of the pool's tiles, all of them that have a place.
        kept: rows of the pool that the subset holds, of those.
        picture: a .png or .svg to draw too.

    Raises:
        ConfigError: a row that the pool does not have. DataError: see ``on_earth``.
    """
    rings, chosen = on_earth(footprints), _chosen(footprints, kept)
    columns = (footprints[name].to_pylist() for name in ("row", "id", "file"))
    features = [_feature(*told) for told in zip(rings, *columns, chosen.tolist(), strict=True)]
    target = Path(path)
    temporary = target.with_name(target.name + ".tmp")
    temporary.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    temporary.replace(target)
    if picture is not None:
        _draw(rings, chosen, Path(picture))


def draw_footprints(footprints: pa.Table, kept: Int[np.ndarray, " m"]) -> bytes:
    """The picture of ``write_footprints`` as a PNG; raises as that does."""
    stream = io.BytesIO()
    _draw(on_earth(footprints), _chosen(footprints, kept), stream)
    return stream.getvalue()


def _chosen(footprints: pa.Table, kept: Int[np.ndarray, " m"]) -> Bool[np.ndarray, " n"]:
    rows = footprints["row"].to_numpy()
    if not np.isin(kept, rows).all():
        raise ConfigError("kept", f"holds rows outside the pool of {len(rows)} tiles", "give rows of the same pool")
    return np.isin(rows, kept)


def _feature(ring: Float[np.ndarray, "4 2"], row: int, name: str, file: str, kept: bool) -> dict[str, Any]:
    points = ring.round(7).tolist()
    if _area(ring) < 0:  # RFC 7946: the outer ring runs counterclockwise
        points.reverse()
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[*points, points[0]]]},
        "properties": {"row": row, "id": name, "file": file, "kept": kept},
    }


def _area(ring: Float[np.ndarray, "4 2"]) -> float:
    x, y = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _draw(rings: Ring, kept: np.ndarray, path: Path | io.BytesIO) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shown = np.zeros(len(rings), dtype=bool)
    shown[np.random.default_rng(0).permutation(len(rings))[:MOST_DRAWN]] = True
    for which, color, alpha in ((~kept, "#9aa0a6", 0.35), (kept, "#d1495b", 0.6)):
        axes.add_collection(PolyCollection(list(rings[which & shown]), facecolors=color, alpha=alpha, linewidths=0))
    axes.autoscale_view()
    axes.set_xlabel("longitude" if shown.all() else f"longitude; {MOST_DRAWN:,} tiles are drawn, chosen at random")
    axes.set_ylabel("latitude")
    axes.set_aspect(1 / max(0.2, float(np.cos(np.radians(rings[..., 1].mean())))))
    told = [Patch(color="#d1495b", label=f"kept ({int(kept.sum()):,})")]
    told.append(Patch(color="#9aa0a6", label=f"dropped ({int((~kept).sum()):,})"))
    axes.legend(handles=told, loc="lower left")
    figure.savefig(path, dpi=150, format=None if isinstance(path, Path) else "png")
