"""`strata diff`, `strata rerun` and arguments by place, on stages and folders that the test writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from strata.curation.artifact import create_artifact
from strata.experiments.cli import dispatch
from strata.experiments.console.arguments import ordered


def stage(store: Path, kind: str, key: str, config: dict[str, Any], inputs: dict[str, str], **run: Any) -> None:
    store.joinpath(kind).mkdir(parents=True, exist_ok=True)
    with create_artifact(store / kind / key, kind, key=key, inputs=inputs, config=config):
        pass
    told = {"label": key, "seconds": 1.0, "started": "then", "commit": "c0", "machine": "m", "threads": 1}
    (store / kind / key / "run.json").write_text(
        json.dumps(told | {"command": "strata run experiment=tiny seeds=[0]"} | run)
    )


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STRATA_RUNS", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    store = tmp_path / "store"
    stage(store, "pool", "aaaa1111", {"on_error": "fatal"}, {})
    stage(store, "pool", "aaaa2222", {"on_error": "skip"}, {})
    for key, pool, lr in (("bbbb1111", "aaaa1111", 0.1), ("bbbb2222", "aaaa2222", 0.1), ("bbbb3333", "aaaa1111", 0.2)):
        stage(store, "pretrain", key, {"ssl": {"lr": lr, "steps": 5}}, {"pool": pool}, commit=f"of-{key}")
    for name, steps, value in (("x", 5, 0.5), ("y", 6, 0.75)):
        folder = tmp_path / "tiny" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(f"name: tiny\nssl:\n  steps: {steps}\n")
        rows = [
            "arm,seed,benchmark,metric,value",
            f"raw,0,digits,top1,{value}",
            f"raw,1,digits,top1,{value}",
            "raw,0,digits,n,3",
        ]
        (folder / "values.csv").write_text("\n".join(rows) + "\n")
        (folder / "run.json").write_text(json.dumps({"command": "strata table experiment=tiny 'size=12'"}))
    return tmp_path


def test_stages_differ_by_a_setting(runs: Path, capfd: pytest.CaptureFixture[str]):
    assert dispatch(["diff", "bbbb1", "bbbb3"]) == 0
    said = capfd.readouterr().out
    assert "pretrain bbbb1111 | bbbb3333" in said and "pool aaaa1111: the same" in said
    lines = [line.split() for line in said.splitlines()]
    assert ["ssl.lr", "0.1", "|", "0.2"] in lines and not any("steps" in line[0] for line in lines)
    assert ["run:", "commit", "of-bbbb1111", "|", "of-bbbb3333"] in lines


def test_stages_differ_further_up(runs: Path, capfd: pytest.CaptureFixture[str]):
    assert dispatch(["diff", "a=bbbb1", "b=bbbb2"]) == 0
    said = capfd.readouterr().out
    assert "    pool aaaa1111 | aaaa2222" in said and "fatal | skip" in said and "ssl.lr" not in said


def test_experiments_differ_in_settings_and_means(runs: Path, capfd: pytest.CaptureFixture[str]):
    assert dispatch(["diff", str(runs / "tiny" / "x"), str(runs / "tiny" / "y")]) == 0
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert ["ssl.steps", "5", "|", "6"] in lines
    assert ["raw", "digits", "top1", "0.5", "(n=2)", "|", "0.75", "(n=2)"] in lines
    assert not any(line[2:3] == ["n"] for line in lines)


def test_rerun_finds_the_command_of_a_stage_and_of_a_folder(runs: Path, capfd: pytest.CaptureFixture[str]):
    assert dispatch(["rerun", "bbbb1", "dry=true"]) == 0
    assert "strata run experiment=tiny 'seeds=[0]'" in capfd.readouterr().err
    assert dispatch(["rerun", str(runs / "tiny" / "x"), "dry=true", "fresh=/elsewhere"]) == 0
    assert "strata run experiment=tiny size=12 paths.runs=/elsewhere" in capfd.readouterr().err


def test_rerun_gives_the_command_again(runs: Path, capfd: pytest.CaptureFixture[str]):
    """The recorded experiment is not among ours, so that the command is refused: with its own message, and exit code 2."""
    assert dispatch(["rerun", "bbbb1"]) == 2
    said = capfd.readouterr().err
    assert "strata run: error:" in said and "tiny" in said and "exit code 2" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["diff", "bbbb1", "none"], "names no stage"),
        (["diff", "bbbb", "aaaa1"], "names 3 stages"),
        (["diff", "bbbb1"], "b: not given"),
        (["rerun", "dddd"], "names no stage"),
        (["rerun", "."], "does not say how it was made"),
    ],
)
def test_bad_input(
    runs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
):
    monkeypatch.chdir(runs)
    assert dispatch(words) == 2
    err = capfd.readouterr().err
    assert said in err and len(err.strip().splitlines()) == 1


def test_a_folder_that_is_no_experiment(runs: Path, capfd: pytest.CaptureFixture[str]):
    assert dispatch(["diff", str(runs), str(runs / "tiny" / "x")]) == 2
    assert "holds no config.yaml and values.csv" in capfd.readouterr().err


def test_arguments_by_place_are_text():
    assert ordered("why", ["1e5"])[1] == ["key='1e5'"]
    assert ordered("rerun", ["dry=true", "x y"])[1] == ["dry=true", "key='x y'"]
    assert ordered("run", ["experiment=x"])[1] == ["experiment=x"]
