"""Rasters: windows, bands, missing pixels, places on earth, and files that are wrong."""

import json
import pickle
from functools import partial

import numpy as np
import pytest
from geotiff import UTM33, write_geotiff
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from strata.curation.encoders.band_pca import BandPCA
from strata.curation.errors import ConfigError, DataError
from strata.curation.footprints import draw_footprints, footprints_of, on_earth, write_footprints
from strata.curation.paths import data_root
from strata.curation.pools.band_statistics import BandStatistics, band_statistics
from strata.curation.pools.base import UnreadableItem
from strata.curation.pools.concat import ConcatPool
from strata.curation.pools.content import check_reads, kind_of
from strata.curation.pools.inventory import take_inventory
from strata.curation.pools.quicklook import quicklook
from strata.curation.pools.rasters import RasterPool
from strata.curation.pools.rendered import RenderedPool
from strata.curation.pools.subset import SubsetPool
from strata.curation.pools.windows import starts

write = partial(write_geotiff, **UTM33)


def scene(bands=12, height=50, width=70, seed=0):
    """uint16 [bands, height, width]: band b around 1000 b."""
    rng = np.random.default_rng(seed)
    return (1000 * np.arange(1, bands + 1)[:, None, None] + rng.integers(0, 200, (bands, height, width))).astype(
        np.uint16
    )


def test_tiles_are_the_windows_of_a_twelve_band_scene(tmp_path):
    values = scene()
    write(tmp_path / "a.tif", values)
    pool = RasterPool(str(tmp_path), tile=20)
    assert kind_of(pool) == "tiles" and len(pool) == 2 * 3
    assert pool.ids[4] == "a.tif:20:20"
    np.testing.assert_array_equal(pool[4], values[:, 20:40, 20:40])
    assert pool[4].dtype == np.uint16
    copy = pickle.loads(pickle.dumps(pool))
    np.testing.assert_array_equal(copy[5], pool[5])
    assert copy.fingerprint == RasterPool(str(tmp_path), tile=20).fingerprint
    assert pool.fingerprint != RasterPool(str(tmp_path), tile=10).fingerprint
    some = RasterPool(str(tmp_path), tile=20, bands=[12, 1])
    np.testing.assert_array_equal(some[0], values[[11, 0], :20, :20])
    assert some.fingerprint != pool.fingerprint


def test_a_shifted_tile_ends_at_the_edge(tmp_path):
    values = scene()
    write(tmp_path / "a.tif", values)
    pool = RasterPool(str(tmp_path / "a.tif"), tile=20, edges="shift")
    assert len(pool) == 3 * 4 and pool.ids[-1] == "a.tif:30:50"
    np.testing.assert_array_equal(pool[11], values[:, 30:, 50:])


@given(length=st.integers(1, 60), tile=st.integers(1, 30), stride=st.integers(1, 40))
@settings(max_examples=200, deadline=None)
def test_windows_lie_inside_and_shift_reaches_the_edge(length, tile, stride):
    for edges in ("drop", "shift"):
        found = starts(length, tile, stride, edges)
        assert found == sorted(set(found)) and all(0 <= s <= length - tile for s in found)
        assert bool(found) == (length >= tile)
    shifted = starts(length, tile, stride, "shift")
    if shifted:
        assert shifted[-1] + tile == length or (length - tile) % stride == 0
        covered = {p for s in shifted for p in range(s, s + tile)}
        assert stride > tile or covered == set(range(length))


def test_missing_pixels_are_filled_with_their_bands_mean_or_left_out(tmp_path):
    values = scene(bands=2, height=20, width=60)
    values[1, 3:5, 4:8] = 0  # 8 of 400 pixels of the first tile, in one band
    values[:, :, 40:] = 0  # the whole of the third
    write(tmp_path / "a.tif", values, nodata=0)
    assert RasterPool(str(tmp_path), tile=20).ids == ["a.tif:0:20"]
    pool = RasterPool(str(tmp_path), tile=20, max_missing=0.02)
    assert pool.ids == ["a.tif:0:0", "a.tif:0:20"]
    assert int((~pool.valid(0)).sum()) == 8
    first = values[1, :, :20].astype(float)
    mean = np.rint(first[first > 0].mean())
    np.testing.assert_array_equal(pool[0][1], np.where(first > 0, first, mean))
    everything = RasterPool(str(tmp_path), tile=20, max_missing=1.0)
    assert len(everything) == 3
    with pytest.raises(UnreadableItem, match=r"a.tif:0:40.*no valid pixel"):
        everything[2]
    with pytest.raises(ConfigError, match=r"pool.max_missing.*all 1 tiles lack more"):
        RasterPool(str(write(tmp_path / "b" / "b.tif", values[:, :, 40:], nodata=0)), tile=20, max_missing=0.5)


def test_not_a_number_is_missing(tmp_path):
    values = np.ones((1, 10, 10), np.float32)
    values[0, 2, 3] = np.nan
    values[0, 4, 4] = 3.0
    pool = RasterPool(str(write(tmp_path / "a.tif", values)), max_missing=0.5)
    assert pool[0][0, 2, 3] == pytest.approx((98 + 3) / 99) and not pool.valid(0)[2, 3]


def test_bands_have_statistics_of_their_own(tmp_path):
    rng = np.random.default_rng(0)
    mean, std = np.array([5.0, 1e6, -40.0]), np.array([1.0, 3.0, 0.01])
    values = mean[:, None, None] + std[:, None, None] * rng.standard_normal((3, 64, 96))
    values[1, :5] = np.nan
    write(tmp_path / "a.tif", values)
    pool = RasterPool(str(tmp_path), tile=32, max_missing=0.9)
    found = band_statistics(pool)
    valid = np.isfinite(values).all(axis=0)  # a tile lacks a pixel where any band does
    np.testing.assert_allclose(found.mean, values[:, valid].mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.std, values[:, valid].std(axis=1), rtol=1e-9)
    np.testing.assert_array_equal(found.minimum, values[:, valid].min(axis=1))
    assert found.n_pixels == [int(valid.sum())] * 3 and found.n_tiles == 6
    assert np.all((found.low > np.array(found.minimum) - 1e-9) & (found.high < np.array(found.maximum) + 1e-9))
    found.save(tmp_path / "bands.json")
    assert BandStatistics.load(tmp_path / "bands.json") == found
    assert band_statistics(SubsetPool(pool, [0, 1])).n_pixels[0] == int(valid[:32, :64].sum())
    (tmp_path / "bands.json").write_text("{}")
    with pytest.raises(DataError, match="no band statistics"):
        BandStatistics.load(tmp_path / "bands.json")


def test_three_uint8_bands_are_an_image(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (3, 16, 16)).astype(np.uint8)
    path = str(write(tmp_path / "a.tif", values))
    image = RasterPool(path)[0]
    assert isinstance(image, Image.Image)
    np.testing.assert_array_equal(np.asarray(image), values.transpose(1, 2, 0))
    assert kind_of(RasterPool(path, items="tiles")) == "tiles"
    with pytest.raises(ConfigError, match=r"pool.items.*2 band"):
        RasterPool(path, bands=[1, 2], items="images")


def test_each_tile_keeps_its_place_on_earth(tmp_path):
    """Mixed systems: the same meadow in metres (UTM 33, whose middle is 15 degrees east) and in degrees."""
    write(tmp_path / "x" / "utm.tif", scene(2, 20, 20), crs="EPSG:32633", origin=(500000.0, 5200000.0))
    write(tmp_path / "y" / "wgs.tif", scene(2, 20, 20), crs="EPSG:4326", origin=(14.0, 47.0), pixel=0.01)
    pool = RasterPool(str(tmp_path), tile=10)
    assert pool.label_names == ["x", "y"] and pool.labels.tolist() == [0] * 4 + [1] * 4
    rings = on_earth(pool.footprints())
    np.testing.assert_allclose(rings[4], [[14, 47], [14.1, 47], [14.1, 46.9], [14, 46.9]], atol=1e-9)
    assert rings[0, 0, 0] == pytest.approx(15.0, abs=1e-6)  # the central meridian
    assert rings[0, 0, 1] == pytest.approx(46.953, abs=2e-3)
    write_footprints(tmp_path / "kept.geojson", pool.footprints(), np.array([1, 6]), picture=tmp_path / "map.png")
    told = json.loads((tmp_path / "kept.geojson").read_text())
    assert [f["properties"]["kept"] for f in told["features"]] == [i in (1, 6) for i in range(8)]
    ring = np.array(told["features"][4]["geometry"]["coordinates"][0])
    assert ring.shape == (5, 2) and (ring[0] == ring[-1]).all()
    x, y = ring[:-1].T
    assert (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() > 0  # counterclockwise
    assert Image.open(tmp_path / "map.png").size[0] > 500
    with pytest.raises(ConfigError, match="outside the pool of 8 tiles"):
        write_footprints(tmp_path / "no.geojson", pool.footprints(), np.array([8]))
    write(tmp_path / "z" / "nowhere.tif", scene(2, 20, 20), crs=None)
    with pytest.raises(DataError, match=r"z/nowhere.tif has no coordinate reference system"):
        on_earth(RasterPool(str(tmp_path), tile=10).footprints())


def test_places_of_mixtures_and_subsets_count_their_own_rows(tmp_path):
    """Two scenes around a pool without places, and a scene without a system: only what has a place is on the map."""
    write(tmp_path / "x" / "a.tif", scene(3, 20, 20).astype(np.uint8))
    write(tmp_path / "y" / "b.tif", scene(3, 20, 30).astype(np.uint8), crs="EPSG:4326", origin=(14.0, 47.0), pixel=0.01)
    write(tmp_path / "z" / "c.tif", scene(3, 20, 20).astype(np.uint8), crs=None)
    parts = {name: RasterPool(str(tmp_path / name), tile=10) for name in "xyz"}
    mixed = ConcatPool({"x": parts["x"], "drawn": RenderedPool(5), "z": parts["z"], "y": parts["y"]}, labels="none")
    found = footprints_of(mixed)
    assert found["row"].to_pylist() == [0, 1, 2, 3, *range(13, 19)] and len(mixed) == 4 + 5 + 4 + 6
    assert found["id"].to_pylist() == [mixed.ids[row] for row in found["row"].to_pylist()]
    assert set(found["file"].to_pylist()[4:]) == {"b.tif"}
    some = SubsetPool(mixed, [14, 6, 2, 14, 9])
    taken = footprints_of(some)
    assert taken["row"].to_pylist() == [0, 2, 3] and taken["id"].to_pylist() == [some.ids[row] for row in (0, 2, 3)]
    assert taken["x0"].to_pylist() == [found["x0"].to_pylist()[i] for i in (5, 2, 5)]
    assert footprints_of(RenderedPool(5)) is None and footprints_of(SubsetPool(RenderedPool(5), [1])) is None
    assert footprints_of(parts["z"]) is None and footprints_of(ConcatPool([RenderedPool(5)], labels="none")) is None
    write_footprints(tmp_path / "kept.geojson", found, np.array([14, 2]))
    told = [f["properties"] for f in json.loads((tmp_path / "kept.geojson").read_text())["features"]]
    assert [p["row"] for p in told if p["kept"]] == [2, 14] and len(told) == 10
    with pytest.raises(ConfigError, match="kept"):
        write_footprints(tmp_path / "no.geojson", found, np.array([6]))
    assert draw_footprints(found, np.array([2])) == draw_footprints(found, np.array([2])), "the same bytes"


def test_a_table_names_the_tiles(tmp_path):
    values = scene(1, 40, 40)
    write(tmp_path / "r" / "a.tif", values)
    table = tmp_path / "tiles.csv"
    table.write_text("row,col,size,split\n0,0,8,train\n5,7,8,test\n32,32,8,test\n")
    pool = RasterPool(str(tmp_path / "r"), table=str(table), split="test")
    assert list(pool.ids) == ["a.tif:5:7", "a.tif:32:32"]
    np.testing.assert_array_equal(pool[0], values[:, 5:13, 7:15])
    with pytest.raises(ConfigError, match=r"pool.split.*'val'.*\['test', 'train'\]"):
        RasterPool(str(tmp_path / "r"), table=str(table), split="val")
    table.write_text("row,col,size\n0,0,8\n33,0,8\n")
    with pytest.raises(DataError, match=r"line 3 .*reaches over a.tif"):
        RasterPool(str(tmp_path / "r"), table=str(table))
    table.write_text("row,size\n0,8\n")
    with pytest.raises(ConfigError, match="no column 'col'"):
        RasterPool(str(tmp_path / "r"), table=str(table))


def test_files_that_do_not_fit_are_named(tmp_path):
    write(tmp_path / "a.tif", scene(4))
    write(tmp_path / "b.tif", scene(3))
    with pytest.raises(DataError, match=r"b.tif has 3 band\(s\), and band 4 is asked for"):
        RasterPool(str(tmp_path), tile=10)
    assert len(RasterPool(str(tmp_path), tile=10, bands=[1, 2, 3])) == 70
    write(tmp_path / "b.tif", scene(4).astype(np.float32))
    with pytest.raises(DataError, match=r"b.tif holds float32, and a.tif uint16"):
        RasterPool(str(tmp_path), tile=10)
    write(tmp_path / "b.tif", scene(4, height=51))
    with pytest.raises(ConfigError, match=r"pool.tile.*b.tif differs in size"):
        RasterPool(str(tmp_path))
    (tmp_path / "b.tif").write_bytes(b"no raster")
    with pytest.raises(DataError, match=r"b.tif cannot be opened as a raster"):
        RasterPool(str(tmp_path), tile=10)


def test_a_truncated_file_is_named_and_can_be_skipped(tmp_path):
    write(tmp_path / "p" / "a.tif", scene(4))
    whole = write(tmp_path / "p" / "b.tif", scene(4, seed=1)).read_bytes()
    (tmp_path / "p" / "b.tif").write_bytes(whole[: len(whole) // 2])
    pool = RasterPool(str(tmp_path / "p"), tile=50)
    np.testing.assert_array_equal(pool[0], scene(4)[:, :50, :50])
    with pytest.raises(UnreadableItem, match=r"b.tif:0:0"):
        pool[1]
    take_inventory(pool, tmp_path / "kept", on_error="skip")
    assert json.loads((tmp_path / "kept" / "unreadable.json").read_text())[0]["id"] == "b.tif:0:0"
    told = json.loads((tmp_path / "kept" / "manifest.json").read_text())
    assert told["items"] == "tiles" and told["image_size"]["width"] == [50, 50]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"tile": 0}, "pool.tile"),
        ({"stride": 4}, "pool.stride"),
        ({"tile": 100}, r"pool.tile: 100 px is larger than the largest raster \(70 x 50\)"),
        ({"tile": 10, "edges": "pad"}, "pool.edges"),
        ({"tile": 10, "bands": [0, 1]}, "pool.bands"),
        ({"tile": 10, "bands": [2, 2]}, "pool.bands"),
        ({"tile": 10, "max_missing": 1.5}, "pool.max_missing"),
        ({"tile": 10, "split": "train"}, "pool.split"),
        ({"tile": 10, "table": "tiles.csv"}, "pool.tile"),
        ({"tile": 10, "items": "pictures"}, "pool.items"),
    ],
)
def test_bad_settings_name_their_field(tmp_path, settings, error):
    write(tmp_path / "a.tif", scene(4))
    with pytest.raises(ConfigError, match=error):
        RasterPool(str(tmp_path), **settings)


def test_band_pca_scales_each_band_by_itself(tmp_path):
    rng = np.random.default_rng(0)
    hidden = rng.random((6, 8, 5, 5))  # 48 tiles of 10 x 10
    small = np.kron(hidden.transpose(0, 2, 1, 3).reshape(30, 40), np.ones((2, 2)))
    values = np.stack([small, 1e4 * small[::-1], np.full_like(small, 7.0)]).astype(np.float32)
    pool = RasterPool(str(write(tmp_path / "a.tif", values)), tile=10)
    encoder = BandPCA(bands=3, size=5, n_components=4)
    check_reads(pool, encoder)
    encoder.fit(pool, tmp_path / "state")
    tile = encoder.transform(pool[3])
    assert tile.shape == (3, 5, 5) and int(tile[:2].max()) > 900 and not tile[2].any()
    again = BandPCA(bands=3, size=5, n_components=4)
    again.fit(pool, tmp_path / "state")
    batch = [e.transform(pool[row]) for e in (encoder, again) for row in range(2)]
    first, second = encoder.encode(_stack(batch[:2])), again.encode(_stack(batch[2:]))
    assert (first == second).all() and first.shape == (2, 4)
    with pytest.raises(ConfigError, match=r"encoder.bands: is 4, and tiles have 3"):
        BandPCA(bands=4, n_components=4).fit(pool, tmp_path / "other")


def _stack(tensors):
    import torch

    return torch.stack(tensors)


def test_quicklook_stretches_each_band(tmp_path):
    picture = np.asarray(quicklook(scene(12)))
    assert picture.shape == (50, 70, 3) and picture.min() == 0 and picture.max() == 255
    assert np.asarray(quicklook(scene(1))).std(axis=2).max() == 0


@pytest.mark.data
def test_the_globe_and_lidar_heights():
    root = data_root()
    if root is None or not (root / "satellite" / "globe_height").is_dir():
        pytest.skip("satellite/globe_height is not in the data folder")
    folder = root / "satellite" / "globe_height"
    sizes = {}
    for split in ("train", "test_id", "test_ood"):
        rgb = RasterPool(str(folder / "rgb.tif"), table=str(folder / "tiles.csv"), split=split)
        height = RasterPool(str(folder / "height.tif"), table=str(folder / "tiles.csv"), split=split, max_missing=1.0)
        sizes[split] = len(rgb)
        assert kind_of(rgb) == "images" and len(height) == len(rgb)
        assert rgb[0].size == (64, 64) and height[0].dtype == np.int16
        assert height.valid(0).mean() >= 0.3  # of the datasheet: at least 30 % land
    assert sizes == {"train": 821, "test_id": 164, "test_ood": 803}
    rings = on_earth(rgb.footprints())
    assert np.abs(rings[..., 0]).max() <= 180 and rings[..., 1].max() <= 76
    canopy = RasterPool(str(root / "satellite" / "neon_chm_sample" / "JERC_049_chm.tif"))
    assert float(canopy[0].max()) == pytest.approx(26.3, abs=0.05)
