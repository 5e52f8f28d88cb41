"""The offline W&B runs of a whole experiment, opened with W&B's own reader."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flow import finish, start

from strata.experiments.tracking import Tracker, resolve_mode


def records(path: Path) -> list[dict[str, Any]]:
    """What W&B's own reader says of a run's file: `wandb leet inspect --json`, a record a line."""
    wandb = Path(sys.executable).with_name("wandb")
    said = subprocess.run([wandb, "leet", "inspect", "--json", path], capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    return [json.loads(line) for line in said.stdout.splitlines()]


ARMS = ("seeds=[0]", "~arms.hand", "~arms.flat", "~arms.random", "~protocols.linear")
KNN = "+columns.knn=[digits,knn-v1 top1]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs folder of a tiny experiment of two arms."""
    folder = tmp_path_factory.mktemp("runs")
    code, _, err = finish(start(folder, *ARMS, WANDB_MODE="offline"))
    assert code == 0, err
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, dict[str, Any]]:
    """id -> what the W&B run says."""
    return read_runs(folder)


def read_runs(folder: Path) -> dict[str, dict[str, Any]]:
    found = {}
    files = list(folder.glob("wandb_files/wandb/offline-run-*/*.wandb"))
    with ThreadPoolExecutor(2) as pool:
        read = list(pool.map(records, files))
    for lines in read:
        run: dict[str, Any] = {"inputs": set(), "outputs": set(), "history": {}}
        for record in lines:
            if told := record.get("run"):
                run |= {
                    "id": told["run_id"],
                    "group": told["run_group"],
                    "kind": told["job_type"],
                    "tags": set(told["tags"]),
                    "sweep": told.get("sweep_id", ""),
                }
            if artifact := record.get("artifact"):
                run["inputs" if artifact.get("use_after_commit") else "outputs"].add(artifact["name"])
            run["history"] |= record.get("history", {}).get("item", {})
        assert run["id"] not in found, "two runs for one stage"
        found[run["id"]] = run
    return found


def test_a_trial_of_a_sweep_is_the_tables_run_and_stages_keep_theirs(
    folder: Path, runs: dict[str, dict[str, Any]], tmp_path: Path
):
    """Under `wandb agent` W&B gives every run begun by a process the trial's id, if it finds that in the environment."""
    told = tmp_path / "config.yaml"
    told.write_text("wandb_version: 1\nprotocols.knn.temperature: {value: 0.1}\n")
    trial = {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "trial1", "WANDB_SWEEP_PARAM_PATH": str(told)}
    for _ in range(2):  # again: everything is finished, and the trial still has its result
        code, _, err = finish(start(folder, *ARMS, KNN, "protocols.knn.temperature=0.1", WANDB_MODE="offline", **trial))
        assert code == 0, err
        trial["WANDB_RUN_ID"] = "trial2"
    code, _, err = finish(start(folder, *ARMS, KNN, "protocols.knn.temperature=0.1", WANDB_MODE="offline"))
    assert code == 0, err  # outside of the sweep: the table has its own run still
    new = {id: run for id, run in read_runs(folder).items() if id not in runs}
    assert sorted(run["kind"] for run in new.values()) == ["evaluate", "evaluate", "table", "table", "table"]
    for id, run in new.items():
        assert (id in ("trial1", "trial2")) == (run["sweep"] == "sweep1"), run
        assert run["kind"] == "table" or id not in ("trial1", "trial2")
        if run["kind"] == "table":
            assert {"raw/knn", "hierarchical/knn"} <= set(run["history"])


def test_one_run_per_stage_and_one_for_the_table(runs: dict[str, dict[str, Any]]):
    kinds = sorted(run["kind"] for run in runs.values())
    expected = [
        "cluster",
        "embed",
        *["evaluate"] * 2,
        *["features"] * 4,
        "pool",
        *["pretrain"] * 2,
        *["sample"] * 2,
        "table",
    ]
    assert kinds == expected
    assert {run["group"] for run in runs.values()} == {"tiny"}
    assert all(run["history"] for run in runs.values() if run["kind"] in ("pretrain", "table"))


def test_tags_say_table_arm_and_seed(runs: dict[str, dict[str, Any]]):
    for run in runs.values():
        assert {"table:tiny", "seed:0"} <= run["tags"], run
    arms = [
        {tag for tag in run["tags"] if tag.startswith("arm:")} for run in runs.values() if run["kind"] == "pretrain"
    ]
    assert sorted(map(sorted, arms)) == [["arm:hierarchical"], ["arm:raw"]]
    shared = next(run for run in runs.values() if run["kind"] == "pool")
    assert {"arm:raw", "arm:hierarchical"} <= shared["tags"], "one run for a stage of two arms"


def test_artifacts_lead_from_scores_back_to_the_pool(runs: dict[str, dict[str, Any]]):
    maker = {name: run for run in runs.values() for name in run["outputs"]}
    table = next(run for run in runs.values() if run["kind"] == "table")
    seen, todo = set(), list(table["inputs"])
    assert {name.split("-")[0] for name in todo} == {"scores"}
    while todo:
        name = todo.pop()
        seen.add(name.split("-")[0])
        todo += maker[name]["inputs"]
    assert seen == {"scores", "features", "backbone", "subset", "hierarchy", "embeddings", "pool"}


def test_a_failure_of_wandb_is_kept_and_nothing_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import wandb

    def fail(**_: Any) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(wandb, "init", fail)
    for mode in ("online", "offline"):
        tracker = Tracker(mode, "p", "g", str(tmp_path))
        with tracker.stage(
            {"key": "k", "kind": "pool", "label": "x", "config": {}, "inputs": {}, "out": str(tmp_path)}
        ) as log:
            log({"loss": 1.0}, 1)
        assert "no such luck" in tracker.error


def test_mode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert resolve_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "k")
    assert resolve_mode("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve_mode("auto") == "disabled"
    assert resolve_mode("offline") == "offline"


def test_the_sweep_file_composes():
    """Every parameter is a setting, and the metric is one that the runs log."""
    import yaml
    from hydra import compose, initialize_config_module

    sweep = yaml.safe_load((Path(__file__).parents[2] / "configs" / "sweep" / "recipe.yaml").read_text())
    given = [word for word in sweep["command"][2:] if not word.startswith("$")]
    values = [f"{name}={told['values'][0]}" for name, told in sweep["parameters"].items()]
    with initialize_config_module("strata.configs", version_base="1.3"):
        config = compose("run", [*given, *values])
    assert config.ssl.base_lr == sweep["parameters"]["ssl.base_lr"]["values"][0]
    assert config.benchmarks.rendered.test.split == "tune", "nothing is chosen on the test split"
    arm, column = sweep["metric"]["name"].split("/")
    assert arm in config.arms and column in config.columns
