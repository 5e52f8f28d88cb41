"""A satellite experiment from a 12-band raster with known statistics to its tables and maps, through every stage."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from geotiff import UTM33, write_geotiff
from hydra import compose, initialize_config_module

from strata.curation.artifact import read_manifest
from strata.curation.encoders.backbone import BackboneEncoder
from strata.curation.errors import ConfigError, StrataError
from strata.curation.pools.rasters import RasterPool
from strata.curation.store import EmbeddingStore
from strata.curation.subset import read_subset
from strata.experiments.comparison.results import collect
from strata.experiments.planning.plan import make_plan
from strata.experiments.reporting.report import write_report
from strata.experiments.session import open_runner, open_store, plain

CONF = Path(__file__).parent / "conf"
BANDS = 12
MEAN = 10.0 ** np.arange(BANDS) * np.where(np.arange(BANDS) % 2, -1, 1)  # 1, -10, 100, ... in unlike units
STD = np.abs(MEAN) * np.linspace(0.01, 0.5, BANDS)
HOLE, RIM = -9999.0, 5
write = partial(write_geotiff, nodata=HOLE, **UTM33)


def scenes(root, seed):
    """Stripes and spots. Over the valid pixels of all whole tiles, band b has the mean and deviation of MEAN and STD."""
    rng = np.random.default_rng(seed)
    sizes = {"stripes": (64, 64), "spots": (32, 48)}
    z = {name: rng.standard_normal((BANDS, *size)) for name, size in sizes.items()}
    z["stripes"] += 2 * np.sin(np.arange(64) * 0.8)[None, :, None]
    valid = {name: np.ones(size, bool) for name, size in sizes.items()}
    valid["stripes"][:8, :8] = False
    known = np.concatenate([z[name][:, valid[name]] for name in z], axis=1)
    for name in z:
        values = (z[name] - known.mean(axis=1)[:, None, None]) / known.std(axis=1)[:, None, None]
        values = MEAN[:, None, None] + STD[:, None, None] * values
        values[:, ~valid[name]] = HOLE
        framed = np.full((BANDS, sizes[name][0] + RIM, sizes[name][1] + RIM), 1e15)  # the edge: no whole tile
        framed[:, :-RIM, :-RIM] = values
        where = {} if name == "stripes" else {"crs": "EPSG:4326", "origin": (14.0, 47.0), "pixel": 0.001}
        write(root / name / "a.tif", framed, **where)


def hills(root, seed):
    rng = np.random.default_rng(seed)
    height = rng.uniform(0, 30, (1, 48, 48))
    write(root / "a_rgb.tif", MEAN[:, None, None] + STD[:, None, None] * (height / 10 - 1.5))
    write(root / "a_chm.tif", height)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    scenes(folder / "scenes", 0)
    scenes(folder / "later", 1)
    hills(folder / "hills", 2)
    hills(folder / "far", 3)
    return folder


def composed(data, runs, *overrides):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY_SATELLITE", str(data))
        with initialize_config_module("strata.configs", version_base="1.3"):
            own = [f"hydra.searchpath=[file://{CONF}]", "experiment=tiny_satellite", f"paths.runs={runs}"]
            return plain(compose("run", [*own, "runner.workers=0", "wandb.mode=disabled", *overrides]))


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    config = composed(data, runs)
    plan, store = make_plan(config), open_store(config)
    ran, there = open_runner(config, store, plan.name).run(plan.stages)
    assert (ran, there) == (len(plan.stages), 0)
    return config, plan, store, write_report(plan, store, config, runs / "report"), runs / "report"


def of_kind(plan, kind):
    return [stage for stage in plan.stages if stage.kind == kind]


def by_arm(plan, seed=0):
    return {run.arm: run for run in plan.runs if run.seed == seed}


def test_twelve_bands_with_known_statistics_go_the_whole_way(finished, data):
    """pool -> statistics -> training on the raw pool -> embedding -> clusters -> subsets -> training -> features."""
    _, plan, store, _, _ = finished
    pool = RasterPool(str(data / "scenes"), tile=16, max_missing=0.6)
    assert len(pool) == 16 + 6 and pool.label_names == ["spots", "stripes"]

    (bands,) = of_kind(plan, "bands")
    told = json.loads((store.path(bands) / "bands.json").read_text())
    np.testing.assert_allclose(told["mean"], MEAN, rtol=1e-9)
    np.testing.assert_allclose(told["std"], STD, rtol=1e-6)
    assert told["n_pixels"] == [22 * 256 - 64] * BANDS and max(told["maximum"]) < 1e14

    embed, runs = of_kind(plan, "embed")[0], by_arm(plan)
    assert embed.inputs["backbone"].key == runs["raw"].pretrain.key, "the embedding's training is that of the arm raw"
    assert len(of_kind(plan, "pretrain")) == 10
    embedded = np.asarray(EmbeddingStore.open(store.path(embed)))
    encoder = BackboneEncoder(store.path(runs["raw"].pretrain))
    seen = torch.stack([encoder.transform(pool[row]) for row in range(len(pool))])
    np.testing.assert_allclose(embedded, encoder.encode(seen).numpy(), rtol=1e-4, atol=1e-5)
    valid = torch.from_numpy(np.stack([pool.valid(row) for row in range(len(pool))]))
    known = seen.transpose(0, 1)[:, valid]  # 12 x pixels, clipped at the percentiles .1 and 99.9
    torch.testing.assert_close(known.mean(dim=1), torch.zeros(BANDS), atol=0.01, rtol=0)
    torch.testing.assert_close(known.std(dim=1), torch.ones(BANDS), atol=0.02, rtol=0)

    for arm, run in runs.items():
        assert len(read_subset(store.path(run.sample))) == (22 if arm == "raw" else 16)
        config = json.loads((store.path(run.pretrain) / "config.json").read_text())
        assert config["bands"]["low"] == told["low"] and config["pretrained_cfg"]["input_size"] == [BANDS, 16, 16]
    features = of_kind(plan, "features")[0]
    cls = np.load(next(store.path(features).glob("*/cls.npy")))
    assert np.isfinite(cls).all() and cls.std(axis=0).min() > 0


def test_scores_of_scenes_and_heights_in_and_out_of_distribution(finished):
    _, plan, store, tables, _ = finished
    values = collect(plan, store)
    found = {(v.group, v.metric) for v in values if v.value is not None}
    for group, metric in (
        ("scenes", "transfer-v1 top1"), ("scenes", "transfer-v1 top1_later"), ("scenes", "transfer-v1 knn_top1"),
        ("scenes", "transfer-v1 knn_top1_later"), ("hills", "height-v1 block_r2"), ("hills", "height-v1 mae_far"),
        ("data", "effective_classes"),
    ):  # fmt: skip
        assert (group, metric) in found
    main = tables[0]
    assert [row[0] for row in main.rows] == ["raw", "random", "hand", "flat", "hierarchical"]
    assert not any("not run" in cell for table in tables for row in table.rows for cell in row)
    heights = {v.seed: v.value for v in values if v.arm == "raw" and v.metric == "height-v1 mae_far"}
    column = main.columns.index("height-v1 mae_far, hills")
    assert main.rows[0][column].split(" ")[0] == f"{np.mean(list(heights.values())):.1f}", "metres, not percent"


def test_a_map_of_each_arm_in_mixed_systems(finished):
    _, plan, store, _, report = finished
    for arm, run in by_arm(plan).items():
        features = json.loads((report / "maps" / f"{arm}.geojson").read_text())["features"]
        kept = [f["properties"]["row"] for f in features if f["properties"]["kept"]]
        assert len(features) == 22 and kept == sorted(read_subset(store.path(run.sample)).rows.tolist())
        corner = {
            f["properties"]["file"]: np.array(f["geometry"]["coordinates"][0]).min(axis=0) for f in features[::-1]
        }
        assert corner["stripes/a.tif"][0] == pytest.approx(15.0, abs=1e-6), "UTM 33: its middle is 15 degrees east"
        assert corner["spots/a.tif"][0] == pytest.approx(14.0, abs=1e-9)
        assert (report / "maps" / f"{arm}.png").stat().st_size > 5000
    assert "On the map" in (report / "report.html").read_text()


def test_a_second_run_finds_everything_done(finished):
    config, plan, store, _, _ = finished
    assert open_runner(config, store, plan.name).run(make_plan(config).stages) == (0, len(plan.stages))


def test_what_was_not_run_says_so_under_the_same_names(data, tmp_path):
    config = composed(data, tmp_path)
    tables = write_report(make_plan(config), open_store(config), config, tmp_path / "report")
    assert "transfer-v1 knn_top1_later, scenes" in tables[0].columns and "height-v1 mae_far, hills" in tables[0].columns
    assert all(cell.startswith("not run") for row in tables[0].rows for cell in row[1:])


def test_only_what_changes_the_result_is_in_the_keys(data, tmp_path):
    def keys(*overrides):
        plan = make_plan(composed(data, tmp_path, *overrides))
        return {"embed": of_kind(plan, "embed")[0].key, "raw": by_arm(plan)["raw"].pretrain.key}

    base = keys()
    assert keys("ssl.checkpoint_every=7", "++encoder.precision=float32") == base
    assert keys("ssl.steps=5")["embed"] != base["embed"], "another training is another embedding"
    assert keys("encoder.pooling=avg")["embed"] != base["embed"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["ssl.in_chans=4"], r"ssl.in_chans: is 4, and 'scenes' has 12 bands; set it to 12"),
        (["ssl.by_band=true", "ssl.hue=0.1"], "ssl.hue: is for RGB"),
        (["encoder.path=arm:sea"], "encoder.path: 'arm:sea' is no arm"),
        (["ssl.sampling=weighted"], "encoder.path: arm 'raw' would be trained on what its own network chose"),
        (["online.every=20", "online.benchmarks=[scenes]", "online.protocols=[transfer]"], "online.every: scores networks"),
        (["table.metrics=[r2_near]"], "table.metrics: 'r2_near' is no metric"),
        (["pool.tile=500"], "pool.tile: 500 px is larger"),
    ],
)  # fmt: skip
def test_bad_settings_are_named_before_anything_is_written(data, tmp_path, overrides, said):
    with pytest.raises(ConfigError) as error:
        make_plan(composed(data, tmp_path, *overrides))
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_benchmark_of_other_items_is_refused(data, tmp_path):
    config = composed(data, tmp_path, "table.metrics=[r2]")
    digits = {"_target_": "strata.curation.pools.digits.DigitsPool", "split": "train"}
    config["benchmarks"]["scenes"] |= {"train": digits, "test": digits, "shifts": {"later": digits}}
    with pytest.raises(ConfigError, match=r"benchmarks\.scenes\.train: .* holds images, and a backbone .* reads tiles"):
        make_plan(config)


def test_a_truncated_raster_stops_the_run_with_its_name_and_loses_nothing(data, tmp_path):
    scenes(tmp_path / "data" / "scenes", 0)
    for name in ("later", "hills", "far"):
        (tmp_path / "data" / name).symlink_to(data / name)
    file = tmp_path / "data" / "scenes" / "stripes" / "a.tif"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    config = composed(tmp_path / "data", tmp_path / "runs")
    plan, store = make_plan(config), open_store(config)
    with pytest.raises(StrataError, match=r"stripes/a\.tif:\d+:\d+"):
        open_runner(config, store, plan.name).run(plan.stages)
    assert not any(store.done(stage) for stage in plan.stages if stage.kind != "pool")
    kept = composed(tmp_path / "data", tmp_path / "runs", "on_error=skip", "size=8", "~arms.hand", "~arms.flat")
    plan = make_plan(kept)
    open_runner(kept, store, plan.name).run(list(plan.runs[0].sample.walk()))
    manifest = read_manifest(store.path(plan.runs[0].sample.inputs["pool"]), "pool")
    assert 0 < manifest["n_unreadable"] < 16
    assert len(pq.read_table(store.path(plan.runs[0].sample) / "subset.parquet")) == 22 - manifest["n_unreadable"]
