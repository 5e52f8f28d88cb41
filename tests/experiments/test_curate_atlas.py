"""`strata curate` leaves an atlas beside the subset, of what its stages did."""

import json
from pathlib import Path

import numpy as np
import pytest
from geotiff import write_geotiff

from strata.experiments.cli import dispatch

SMALL = ["pool=digits", "size=100", "hierarchy.n_clusters=[40,10]", "hierarchy.n_resamples=0", "wandb.mode=disabled"]
SMALL += ["hierarchy.resample_size=2", "runner.workers=0", "encoder=pixels_pca", "encoder.n_components=8"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STRATA_RUNS", str(tmp_path / "runs"))
    return tmp_path


def test_curate_writes_an_atlas_unless_told_not_to(place: Path, capfd: pytest.CaptureFixture[str]):
    assert dispatch(["curate", *SMALL, "out=a"]) == 0
    assert "atlas   a/atlas.html" in capfd.readouterr().out
    text = (place / "a" / "atlas.html").read_text()
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    rows = np.load(place / "a" / "indices.npy")
    assert data["rows"] == len(rows) == 100 and [level["k"] for level in data["levels"]] == [40, 10]
    assert [stage["kind"] for stage in data["stages"]] == ["pool", "embeddings", "hierarchy", "subset"]
    assert all(stage["command"] and stage["commit"] for stage in data["stages"])
    assert data["encoder"]["name"] == "pixels_pca" and data["dim"] == 8
    for level in data["levels"]:
        assert level["after"] == level["quota"] and sum(level["after"]) == 100
    kept = {entry[0] for entry in data["items"] if entry[3]}
    assert kept and kept <= set(rows.tolist()) and {entry[4] for entry in data["items"]} == {"image"}

    assert dispatch(["curate", *SMALL, "atlas=false", "out=b"]) == 0
    assert not (place / "b" / "atlas.html").exists() and (place / "b" / "subset.parquet").exists()
    capfd.readouterr()
    assert dispatch(["curate", *SMALL, "sampler=random", "out=c"]) == 0
    assert "none: this sampler uses no clusters" in capfd.readouterr().out


def test_atlas_is_yes_or_no(place: Path, capfd: pytest.CaptureFixture[str]):
    assert dispatch(["curate", *SMALL, "atlas=perhaps", "out=a"]) == 2
    err = capfd.readouterr().err.strip()
    assert "atlas" in err and "perhaps" in err and len(err.splitlines()) == 1
    assert not any(place.iterdir())


def test_the_atlas_of_rasters_has_a_map(place: Path, capfd: pytest.CaptureFixture[str]):
    # 16 bits: GDAL takes a fourth band of uint8 for alpha
    values = np.random.default_rng(0).integers(0, 255, (4, 60, 60), dtype=np.uint16)
    write_geotiff(place / "a.tif", values, crs="EPSG:4326", origin=(14.0, 47.0), pixel=0.01)
    bands = ["pool=rasters", "pool.path=a.tif", "pool.tile=6", "encoder=band_pca", "encoder.bands=4", "size=30"]
    others = [each for each in SMALL if not each.startswith(("pool", "encoder", "size"))]
    assert dispatch(["curate", *bands, *others, "encoder.n_components=8", "out=a"]) == 0
    assert "map     a/map.geojson, map.png" in capfd.readouterr().out
    features = json.loads((place / "a" / "map.geojson").read_text())["features"]
    kept = [f["properties"]["row"] for f in features if f["properties"]["kept"]]
    assert len(features) == 100 and kept == np.load(place / "a" / "indices.npy").tolist()
    data = json.loads((place / "a" / "atlas.html").read_text().split('id="data">')[1].split("</script>")[0])
    assert data["map"].startswith("data:image/png;base64,iVBOR")
