"""`strata curate plan=true`: from data and from numbers, nothing written but the calibration; refusals in one line."""

from pathlib import Path

import numpy as np
import pytest

from strata.curation.cost import calibrate
from strata.curation.cost.work import Rates
from strata.experiments.cli import dispatch

NUMBERS = ["n=100000", "d=64", "size=1000"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STRATA_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(calibrate, "measure", lambda device: Rates())
    np.save(tmp_path / "emb.npy", np.random.default_rng(0).random((400, 24), dtype=np.float32))


def test_from_numbers(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert dispatch(["curate", "plan=true", *NUMBERS]) == 0
    said = capfd.readouterr().out
    assert "100,000 rows x 64, 1,000 wanted" in said and "in 4,000" in said and "total:" in said
    assert not (tmp_path / "runs").exists(), "a plan makes no runs folder"
    paper = ["n=743000000", "d=1024", "size=1000000", "hierarchy=paper_web", "devices=8", "memory=80GB"]
    assert dispatch(["curate", "plan=true", *paper]) == 0
    said = capfd.readouterr().out
    assert "10,000,000 = 100,000 x 100" in said and "of 80.0 GB: it does NOT fit" in said and "8 device(s)" in said


def test_from_data(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "runs").mkdir()
    assert dispatch(["curate", "plan=true", f"data={tmp_path}/emb.npy", "size=40", "levels=[40,10]"]) == 0
    said = capfd.readouterr().out
    assert "400 rows x 24, 40 wanted" in said and "in 40" in said and "in 10" in said
    assert [file.parent.name for file in (tmp_path / "runs").rglob("*.json")] == ["calibration"]
    assert len(list((tmp_path / "runs").iterdir())) == 1
    kept = next((tmp_path / "runs").rglob("*.json"))
    assert dispatch(["curate", "plan=true", *NUMBERS, f"rates={kept}"]) == 0


REFUSED = {
    "no d": (["plan=true", "n=1000", "size=10"], ["d: not given"]),
    "no size": (["plan=true", "n=1000", "d=8"], ["size: not given"]),
    "n without plan": (["n=1000", "d=8", "size=10", "out=o"], ["n: 1000", "plan=true"]),
    "n and data": (["plan=true", "data={at}/emb.npy", *NUMBERS], ["n: 100000", "data is given too"]),
    "n and pool": (["plan=true", "pool=digits", *NUMBERS], ["n: 100000", "pool is given too"]),
    "n of half": (["plan=true", "n=10.5", "d=8", "size=10"], ["n: 10.5"]),
    "no rows": (["plan=true", "n=0", "d=8", "size=10"], ["n: 0"]),
    "d of text": (["plan=true", "n=1000", "d=wide", "size=10"], ["d: 'wide'"]),
    "size": (["plan=true", "n=1000", "d=8", "size=1001"], ["size: 1001"]),
    "too many clusters": (["plan=true", "n=1000", "d=8", "size=10", "levels=[2000,10]"], ["2000"]),
    "devices": (["plan=true", *NUMBERS, "devices=0"], ["devices: 0"]),
    "memory": (["plan=true", *NUMBERS, "memory=lots"], ["memory: 'lots'", "16GB"]),
    "rates": (["plan=true", *NUMBERS, "rates={at}/emb.npy"], ["emb.npy is no calibration"]),
    "plan": (["plan=3", *NUMBERS], ["plan: 3", "true or false"]),
    "no out": (["data={at}/emb.npy", "size=10"], ["out: not given", "out=FOLDER"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str):
    overrides, expected = REFUSED[name]
    assert dispatch(["curate", *(item.format(at=tmp_path) for item in overrides)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    for word in expected:
        assert word in line, line
    assert not (tmp_path / "runs").exists()
