"""GeoTIFFs for tests of tiles, canopies, footprints and maps."""

from pathlib import Path

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio")

UTM33 = {"crs": "EPSG:32633", "origin": (500000.0, 5200000.0)}  # metres


def write_geotiff(path: Path, values: np.ndarray, *, nodata=None, crs=None, origin=None, pixel=10.0) -> Path:
    """Values [bands, h, w]; on earth if ``origin``, the upper left corner in the units of ``crs``, is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    profile = {"count": count, "height": height, "width": width, "dtype": values.dtype.name, "nodata": nodata}
    if origin is not None:
        profile |= {"crs": crs, "transform": rasterio.transform.from_origin(*origin, pixel, pixel)}
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(values)
    return path
