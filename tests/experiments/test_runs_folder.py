"""The runs folder: refused in one line if it cannot be written, and empty after a stage refused its input."""

import os
from pathlib import Path

import pytest
from flow import arguments

from strata.experiments.cli import dispatch


@pytest.mark.parametrize("command", ["run", "table"])
@pytest.mark.parametrize("kind", ["below a file", "a file", "proc", "dangling link", "store is a file", "read-only"])
def test_cannot_be_written(
    command: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    runs = {"below a file": tmp_path / "file" / "runs", "a file": tmp_path / "file", "proc": Path("/proc/runs")}.get(
        kind, tmp_path / "runs"
    )
    (tmp_path / "file").write_text("")
    if kind == "dangling link":
        runs.symlink_to(tmp_path / "gone")
    if kind == "store is a file":
        runs.mkdir()
        (runs / "store").write_text("")
    if kind == "read-only":
        if os.geteuid() == 0:
            pytest.skip("root may write anywhere")
        runs.mkdir(mode=0o555)
    monkeypatch.setenv("STRATA_RUNS", str(runs))
    before = sorted(tmp_path.rglob("*"))
    assert dispatch(arguments(command)) == 2
    err = capfd.readouterr().err.strip().splitlines()
    assert "paths.runs: " in err[-1] and "cannot be written" in err[-1] and "STRATA_RUNS" in err[-1], err
    assert len(err) == 1, "nothing was begun"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_is_left_when_the_first_stage_refuses(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    images, runs = tmp_path / "images", tmp_path / "a" / "runs"
    images.mkdir()
    for number in range(3):
        (images / f"broken{number}.png").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STRATA_RUNS", str(runs))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    code = dispatch(
        ["embed", "pool=folder", f"pool.path={images}", "encoder.n_components=1", f"runner.workers={workers}"]
    )
    assert code == 2 and "broken0.png" in capfd.readouterr().err
    assert sorted(tmp_path.iterdir()) == [images]


def test_folders_that_were_there_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    images, runs = tmp_path / "images", tmp_path / "runs"
    images.mkdir()
    for number in range(3):
        (images / f"broken{number}.png").write_bytes(b"no image")
    (runs / "store").mkdir(parents=True)
    monkeypatch.setenv("STRATA_RUNS", str(runs))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert dispatch(["embed", "pool=folder", f"pool.path={images}", "encoder.n_components=1", "runner.workers=0"]) == 2
    assert list(runs.rglob("*")) == [runs / "store"]
