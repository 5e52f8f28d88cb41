"""Pairs of images and canopy heights: tiny trees made here, and the real sample."""

import pickle

import numpy as np
import pytest
import rasterio
from geotiff import write_geotiff as write

from strata.curation.errors import ConfigError, DataError
from strata.curation.paths import data_root
from strata.curation.pools.base import Pool, UnreadableItem
from strata.eval.benchmarks import DenseBenchmark
from strata.eval.height_metrics import height_errors
from strata.eval.layouts.canopy import height_pairs, neon_aerial


def pair(root, name="A", side=20, bands=3, dtype=np.uint8, ratio=5):
    rng = np.random.default_rng(len(name))
    write(root / f"{name}_rgb.tif", rng.integers(0, 255, (bands, side, side)).astype(dtype))
    heights = np.arange((side // ratio) ** 2, dtype=np.float32).reshape(1, side // ratio, -1) - 1
    heights[0, 0, 1] = -9999
    return write(root / f"{name}_chm.tif", heights, nodata=-9999)


def test_windows_of_image_and_heights_cover_the_same_ground(tmp_path):
    pair(tmp_path / "site", "A")
    pair(tmp_path / "site", "BB", side=25)
    pool = height_pairs(str(tmp_path), tile=10)
    assert isinstance(pool, Pool) and len(pool) == 4 + 4 and pool.kind == "images"
    assert pool.ids[:3] == ["site/A_rgb.tif:0:0", "site/A_rgb.tif:0:10", "site/A_rgb.tif:10:0"]
    with rasterio.open(tmp_path / "site" / "A_rgb.tif") as file:
        np.testing.assert_array_equal(np.asarray(pool[2]).transpose(2, 0, 1), file.read()[:, 10:, :10])
    np.testing.assert_array_equal(pool.target(2), [[7, 8], [11, 12]])
    first = pool.target(0)  # -1 is on the ground, the next one unknown
    assert first[0, 0] == 0 and np.isnan(first[0, 1]) and first[1].tolist() == [3, 4] and first.dtype == np.float32
    again = pickle.loads(pickle.dumps(pool))
    assert again.fingerprint == pool.fingerprint != height_pairs(str(tmp_path), tile=5).fingerprint
    np.testing.assert_array_equal(again.target(3), pool.target(3))
    assert len(height_pairs(str(tmp_path))) == 2 and height_pairs(str(tmp_path)).target(1).shape == (5, 5)


def test_other_than_three_bands_of_bytes_are_tiles(tmp_path):
    pair(tmp_path, bands=5, dtype=np.uint16)
    pool = height_pairs(str(tmp_path))
    assert pool.kind == "tiles" and pool[0].shape == (5, 20, 20) and pool[0].dtype == np.uint16


def test_pairs_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"pool\.images: .* holds no file ending in '_rgb.tif'"):
        height_pairs(str(tmp_path))
    pair(tmp_path)
    with pytest.raises(ConfigError, match=r"pool\.tile: 7 px, and 5 of them are one of A_chm.tif"):
        height_pairs(str(tmp_path), tile=7)
    with pytest.raises(ConfigError, match=r"pool\.tile: 40 px is larger"):
        height_pairs(str(tmp_path), tile=40)
    pair(tmp_path, "B", bands=4)
    with pytest.raises(DataError, match=r"B_rgb.tif has 4 band\(s\) of uint8, and A_rgb.tif 3"):
        height_pairs(str(tmp_path))
    (tmp_path / "B_chm.tif").unlink()
    with pytest.raises(ConfigError, match=r"B_chm.tif is not there"):
        height_pairs(str(tmp_path))
    write(tmp_path / "B_chm.tif", np.zeros((1, 4, 3), np.float32))
    with pytest.raises(DataError, match=r"B_rgb.tif has 20 x 20 px, and B_chm.tif 3 x 4, no whole factor"):
        height_pairs(str(tmp_path))


def test_a_truncated_file_is_named(tmp_path):
    path = pair(tmp_path, side=400, ratio=1)
    pool = height_pairs(str(tmp_path), tile=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    pool[15]
    with pytest.raises(UnreadableItem, match=r"A_chm.tif"):
        pool.target(15)


def neon_tree(root, imsize=1602, bord=20):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (3, imsize, imsize), dtype=np.uint8) for _ in range(2)]
    heights = np.tile(np.arange(imsize, dtype=np.float32), (imsize, 1))[None] - 30  # metres: the column, less 30
    for i, image in enumerate(images):
        write(root / "images" / f"neon_{i}.tif", image)
        write(root / "images" / f"chm_{i}.tif", heights + i)
    lines = [f"{i},neon_{i}.tif,maxar_{i}.tif,chm_{i}.tif,{bord},{bord + 2},{imsize},{40 + i},-80.5" for i in range(2)]
    (root / "neon_test_data.csv").write_text("\n".join([",neon,maxar,chm,bord_x,bord_y,imsize,lat,lon", *lines]) + "\n")
    return images


def test_the_published_windows_of_aerial_neon(tmp_path):
    images = neon_tree(tmp_path)
    pool = neon_aerial(str(tmp_path))
    assert len(pool) == 60 and pool.kind == "images" and len(set(pool.ids)) == 60
    # by the published arithmetic: item 8 is the second column, third row of the first image
    assert pool.ids[8] == f"images/neon_0.tif:{22 + 2 * 256}:{20 + 256}"
    np.testing.assert_array_equal(np.asarray(pool[8]), images[0][:, 534:790, 276:532].transpose(1, 2, 0))
    np.testing.assert_array_equal(pool.target(8)[0], np.arange(276, 532) - 30)
    assert pool.target(0)[0, :12].tolist() == [0] * 11 + [1], "the ground is not below 0"
    assert (
        pool.ids[36].startswith("images/neon_1.tif")
        and pool.ids[59] == f"images/neon_1.tif:{22 + 5 * 256}:{20 + 3 * 256}"
    )
    assert pool.extra["lat"][35:37] == [40.0, 41.0] and pool.task_info["min"] == 0
    DenseBenchmark("neon_aerial", pool, pool, "depth")


def test_a_list_that_does_not_fit_names_its_line(tmp_path):
    neon_tree(tmp_path, imsize=1500)
    with pytest.raises(ConfigError, match=r"line 2 of .*neon_test_data.csv .* has not 6 windows"):
        neon_aerial(str(tmp_path))
    (tmp_path / "neon_test_data.csv").write_text(",neon,chm\n0,a,b\n")
    with pytest.raises(ConfigError, match=r"has no column 'bord_x'"):
        neon_aerial(str(tmp_path))
    with pytest.raises(ConfigError, match="put the set there as it is published"):
        neon_aerial(str(tmp_path / "nowhere"))


@pytest.mark.data
def test_real_canopies():
    """Of the data sheet: 400 px at 0.1 m beside 40 px at 1 m, at most 26.3 and 14.6 m; too small to score a model on."""
    root = data_root()
    if root is None or not (root / "satellite" / "neon_chm_sample").is_dir():
        pytest.skip("satellite/neon_chm_sample is not in the data folder")
    pool = height_pairs("satellite/neon_chm_sample")
    assert len(pool) == 2 and pool[0].size == (400, 400) and pool.target(0).shape == (40, 40)
    assert [float(pool.target(row).max()) for row in range(2)] == pytest.approx([26.3, 14.6], abs=0.05)
    truth = [pool.target(row) for row in range(2)]
    mean = float(np.mean(truth))
    found = height_errors([(np.full_like(map_, mean), map_) for map_ in truth], block=10)
    assert found.r2 == pytest.approx(0, abs=1e-6) and found.n_pixels == 3200 and found.n_blocks == 2 * 3 * 3
    assert found.bias == pytest.approx(0, abs=1e-4) and len(height_pairs("satellite/neon_chm_sample", tile=200)) == 8
