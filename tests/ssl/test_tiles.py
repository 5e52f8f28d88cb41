"""Training on tiles of several bands: read, normalized by the pool's own statistics, trained, written, and opened again."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from geotiff import write_geotiff as write

from strata.curation.encoders.backbone import BackboneEncoder
from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.band_scale import BandScale
from strata.curation.pools.band_statistics import band_statistics
from strata.curation.pools.base import UnreadableItem
from strata.curation.pools.content import check_reads
from strata.curation.pools.rasters import RasterPool
from strata.curation.pools.rendered import RenderedPool
from strata.ssl.image.bands import fit_to_bands
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.data import ImageSource
from strata.ssl.image.pretrain import pretrain

BANDS = 5
NO_COLOR = {"saturation": 0.0, "hue": 0.0, "gray": 0.0, "solarize": (0.0, 0.0, 0.0)}
SETTINGS = {
    "backbone": "vit_tiny_patch16_224",
    "model_kwargs": {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2},
    "in_chans": BANDS, "mean": (), "std": (), "flip_vertical": 0.5, "quarter_turns": 1.0, **NO_COLOR,
    "steps": 6, "batch_size": 8, "cache_size": 16, "global_size": 16, "local_size": 8, "n_local": 2,
    "n_prototypes": 16, "ibot_n_prototypes": 12, "head_hidden": 16, "head_bottleneck": 8, "ibot_bottleneck": 8,
    "warmup_steps": 2, "teacher_temperature_steps": 2, "freeze_last_layer_steps": 1, "base_lr": 1e-2, "checkpoint_every": 3,
}  # fmt: skip


def recipe(**changes):
    return ImageSSLConfig(**{**SETTINGS, **changes})


def scene(bands=BANDS, side=100, seed=0):
    """uint16; band b around 4000 b, each with a spread of its own."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(1, bands + 1)[:, None, None]
    return (4000 * numbers + 100 * numbers * rng.standard_normal((bands, side, side)).cumsum(axis=2) / 5).astype(
        np.uint16
    )


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    write(folder / "a.tif", scene())
    return RasterPool(str(folder), tile=20)


def run(pool, out, config=None, bands="own", rows=None, **kwargs):
    kwargs = {"num_threads": 1, "log_every": 1, "progress": False, "device": "cpu", "seed": 0, **kwargs}
    statistics = band_statistics(pool) if bands == "own" else bands
    rows = np.arange(len(pool)) if rows is None else rows
    return pretrain(config or recipe(), pool, rows, out, bands=statistics, **kwargs)


@pytest.mark.parametrize("method", ["dinov2", "simclr", "mae"])
def test_every_method_learns_from_tiles_and_its_folder_opens_again(pool, tmp_path, method):
    extra = (
        {}
        if method == "dinov2"
        else {"method": method, "n_local": 0, "mae": {"decoder_dim": 16, "decoder_depth": 1, "decoder_heads": 2}}
    )
    out = run(pool, tmp_path / "run", recipe(**extra))
    config = json.loads((out / "config.json").read_text())
    statistics = band_statistics(pool)
    assert config["bands"] == {"low": statistics.low, "high": statistics.high}
    assert config["pretrained_cfg"]["input_size"] == [BANDS, 16, 16] and config["model_args"]["in_chans"] == BANDS
    encoder = BackboneEncoder(out)
    assert encoder.reads == "tiles" and encoder.describe()["reads"] == "tiles"
    check_reads(pool, encoder)
    whole = dataclasses.replace(encoder.transform, size=20)  # as stored: resizing evens out noise
    seen = torch.stack([whole(pool[row]) for row in range(len(pool))])
    torch.testing.assert_close(seen.mean(dim=(0, 2, 3)), torch.zeros(BANDS), atol=0.02, rtol=0)
    torch.testing.assert_close(seen.std(dim=(0, 2, 3)), torch.ones(BANDS), atol=0.02, rtol=0)
    seen = torch.stack([encoder.transform(pool[row]) for row in range(len(pool))])
    assert encoder.encode(seen[:3]).shape == (3, 24) and torch.isfinite(encoder.encode(seen)).all()


def test_a_killed_run_goes_on_and_other_ranges_are_another_run(pool, tmp_path, monkeypatch):
    whole = run(pool, tmp_path / "whole")
    again = run(pool, tmp_path / "again", cache_dir=tmp_path / "decoded")
    assert (whole / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    assert np.load(next((tmp_path / "decoded").glob("*/images.npy")), mmap_mode="r").shape == (25, BANDS, 16, 16)
    wider = band_statistics(pool)
    wider = type(wider)(**{**wider.__dict__, "high": [2 * high for high in wider.high]})
    other = run(pool, tmp_path / "other", bands=wider, cache_dir=tmp_path / "decoded")
    assert (other / "model.safetensors").read_bytes() != (whole / "model.safetensors").read_bytes()
    assert len(list((tmp_path / "decoded").glob("*/images.npy"))) == 2, "decoded by another scale: kept apart"


def test_squares_are_the_scaled_tiles_by_threads_and_by_processes(pool):
    scale = BandScale.of(band_statistics(pool))
    expected = np.stack([scale.square(pool[row], 16) for row in (3, 20)])
    for processes in (False, True):
        source = ImageSource(
            pool,
            np.array([3, 20]),
            16,
            cache_bytes=0,
            scale=scale,
            num_workers=1,
            processes=processes,
            show_progress=False,
        )
        images, extents = source.get(np.array([0, 1]))
        source.close()
        np.testing.assert_array_equal(images, expected)
        assert extents.tolist() == [[16, 16]] * 2


def test_missing_pixels_have_no_say_in_the_statistics_and_train_as_their_bands_mean(tmp_path):
    values = scene()
    values[:, 5:15, 5:15] = 0  # would be far below every band
    pool = RasterPool(str(write(tmp_path / "a.tif", values, nodata=0)), tile=20, max_missing=0.5)
    statistics = band_statistics(pool)
    assert min(statistics.low) > 1000
    config, scale = fit_to_bands(recipe(), pool, statistics)
    square = scale.square(pool[0], 20)
    hole, valid = square[:, 5:15, 5:15], pool.valid(0)
    tile = values[:, :20, :20].astype(float)
    means = np.array([band[valid].mean() for band in tile])
    width = np.array(statistics.high) - np.array(statistics.low)
    expected = np.clip((means - np.array(statistics.low)) / width, 0, 1) * 255
    assert np.abs(hole - expected[:, None, None]).max() <= 1
    assert all(0 < m < 1 for m in config.mean)
    assert run(pool, tmp_path / "run", recipe(steps=2, warmup_steps=1)).is_dir()


def test_what_does_not_fit_is_said_before_anything_is_written(pool, tmp_path):
    rgb = RenderedPool(40)
    three = RasterPool(str(write(tmp_path / "s" / "a.tif", scene(3))), tile=20)
    for settings, given, statistics, said in (
        ({"in_chans": 4}, pool, "own", r"ssl\.in_chans: is 4, and 'scene.*' has 5 bands; set it to 5"),
        ({}, rgb, None, r"ssl\.in_chans: is 5, and .* holds RGB images; set it to 3"),
        ({}, pool, None, r"bands: are needed of"),
        ({}, pool, band_statistics(three), r"ssl\.in_chans: is 5, and .* has 3 bands"),
        ({"in_chans": 3, **NO_COLOR}, three, "own", r"ssl\.by_band: is false.*need not be red, green and blue"),
        ({"in_chans": 3}, rgb, None, r"bands: are needed"),
    ):
        with pytest.raises(ConfigError, match=said):
            run(given, tmp_path / "out", recipe(**settings), statistics)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()
    with pytest.raises(ConfigError, match=r"ssl\.mean: has 3 values for ssl\.in_chans=5"):
        recipe(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    with pytest.raises(ConfigError, match=r"ssl\.std: has 0 values"):
        recipe(mean=(0.5,) * 5)
    assert run(three, tmp_path / "three", recipe(in_chans=3, by_band=True, steps=2, warmup_steps=1)).is_dir()


def test_rgb_images_may_take_their_own_statistics_too(tmp_path):
    rgb = RenderedPool(40)
    out = run(rgb, tmp_path / "run", recipe(in_chans=3, by_band=True, steps=2, warmup_steps=1))
    config = json.loads((out / "config.json").read_text())
    pixels = np.stack([np.asarray(rgb[row]) for row in range(40)]).reshape(-1, 3) / 255
    np.testing.assert_allclose(config["pretrained_cfg"]["mean"], pixels.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(config["pretrained_cfg"]["std"], pixels.std(axis=0), rtol=1e-6)
    assert "bands" not in config and getattr(BackboneEncoder(out), "reads", None) == "images"


class Ragged:
    """Tiles of different numbers of bands, as no RasterPool gives them."""

    name, labels, label_names, fingerprint, kind = "ragged", None, None, "ragged", "tiles"
    ids = tuple(f"tile-{row}" for row in range(12))

    def __len__(self):
        return 12

    def __getitem__(self, row):
        return scene(BANDS - (row == 7), 20, row)

    def describe(self):
        return {}


def test_a_tile_with_other_bands_is_named(pool, tmp_path):
    with pytest.raises(DataError, match=r"item 'tile-7' of 'ragged': a tile has 4 bands, and 5 are read"):
        run(Ragged(), tmp_path / "run", bands=band_statistics(pool))


def test_a_truncated_file_is_named(tmp_path):
    path = write(tmp_path / "b.tif", scene())
    pool = RasterPool(str(tmp_path), tile=20)
    statistics = band_statistics(pool)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableItem, match=r"b\.tif:\d+:\d+.* cannot be read"):
        run(RasterPool(str(tmp_path), tile=20), tmp_path / "run", bands=statistics)


def test_a_folder_that_says_too_little_of_its_bands(pool, tmp_path):
    out = run(pool, tmp_path / "run", recipe(steps=2, warmup_steps=1))
    config = json.loads((out / "config.json").read_text())
    for broken, said in (
        ({**config, "bands": {"low": config["bands"]["low"]}}, "says too little of its bands"),
        ({**config, "bands": {"low": [0.0], "high": [1.0]}}, "other numbers of bands than the 5"),
        (
            {name: value for name, value in config.items() if name != "bands"},
            "reads 5 bands, and its config.json has no ranges",
        ),
    ):
        (out / "config.json").write_text(json.dumps(broken))
        with pytest.raises(ConfigError, match=said):
            BackboneEncoder(out)
