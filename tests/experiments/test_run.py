"""The whole way through on real digits, through the command line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from flow import arguments, finish, scores, start

from strata.experiments.cli import dispatch
from strata.experiments.tracking import Tracker

KINDS = {"pool": 1, "embed": 1, "cluster": 4, "sample": 9, "pretrain": 10, "features": 20, "evaluate": 20}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny experiment: 5 arms x 2 seeds."""
    folder = tmp_path_factory.mktemp("runs")
    code, out, err = finish(start(folder))
    assert code == 0, err
    assert "hierarchical" in out and "difference to random" in out
    return folder


def test_stages_are_shared_between_arms(runs: Path):
    """One pool and one embedding for all; flat and hierarchical clusterings and every sampler but `all` per seed."""
    assert {kind: len(list((runs / "store" / kind).glob("*/manifest.json"))) for kind in KINDS} == KINDS


def test_table_and_figure(runs: Path):
    (folder,) = (runs / "tiny").iterdir()
    text = (folder / "table.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows[:6]] == ["arm", "raw", "random", "hand", "flat", "hierarchical"]
    assert "effective classes" in rows[0] and "knn-v1 top1" in rows[0] and "linear-v1 top1" in rows[0]
    assert "not run" not in text
    assert (folder / "figure.png").stat().st_size > 10_000
    assert r"\toprule" in (folder / "table.tex").read_text()
    assert {"config.yaml", "stages.json", "table.csv", "values.csv"} <= {file.name for file in folder.iterdir()}


def test_second_run_does_nothing_and_says_so(runs: Path):
    before = {file: file.stat().st_mtime_ns for file in (runs / "store").rglob("*") if file.is_file()}
    code, _, err = finish(start(runs))
    assert code == 0 and "nothing to do" in err
    assert {file: file.stat().st_mtime_ns for file in (runs / "store").rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("override", "again"),
    [
        ("protocols.knn.temperature=0.1", {"evaluate"}),
        ("hierarchy.n_clusters=[50,20,8]", {"cluster", "sample", "pretrain", "features", "evaluate"}),
        ("encoder.n_components=8", {"embed", "cluster", "sample", "pretrain", "features", "evaluate"}),
        ("ssl.steps=9", {"pretrain", "features", "evaluate"}),
        ("embed.batch_size=7", set()),
    ],
)
def test_a_change_re_runs_what_depends_on_it(runs: Path, override: str, again: set[str]):
    code, out, err = finish(start(runs, override, command="plan"))
    assert code == 0, err
    to_run = {m[1]: int(m[2]) for m in re.finditer(r"^(\w+) +\d+ +\d+ +\d+ +(\d+) ", out, re.MULTILINE)}
    assert {kind for kind, count in to_run.items() if count} == again
    if override.startswith("protocols.knn"):
        assert to_run["evaluate"] == 10, "the linear probe is not touched"
    if override.startswith("hierarchy"):
        assert to_run["pretrain"] == 2, "only the hierarchical arm is touched"


def test_in_process_and_workers_give_the_same_scores(runs: Path, tmp_path: Path):
    code, _, err = finish(start(tmp_path, "runner.workers=2", "seeds=[0]"))
    assert code == 0, err
    mine = {key: text for key, text in scores(tmp_path).items() if key != "values.csv"}
    assert len(mine) == 10
    assert mine.items() <= scores(runs).items()


def test_why_prints_the_chain(runs: Path):
    (values,) = (runs / "tiny").glob("*/values.csv")
    scored = [line for line in values.read_text().splitlines() if line.startswith("hierarchical,0,digits")]
    key = scored[0].split(",")[-1]
    found = subprocess.run(
        [sys.executable, "-m", "strata.experiments.cli", "why", f"key={key}"],
        env=os.environ | {"STRATA_RUNS": str(runs)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    kinds = re.findall(r"^ *(\w+) [0-9a-f]{16} ", found.stdout, re.MULTILINE)
    assert kinds[:3] == ["evaluate", "features", "pretrain"]
    assert {"sample", "cluster", "embed", "pool"} <= set(kinds)


def test_the_table_goes_to_wandb_once(runs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """A run that was killed before it, or found all its stages made by others, leaves it to the next one."""
    sent: list[str] = []

    def send(self: Tracker, key: str, *_: object) -> None:
        sent.append(key)
        if len(sent) == 1:
            self.error = "no luck"

    monkeypatch.setattr(Tracker, "table", send)
    monkeypatch.setenv("STRATA_RUNS", str(runs))
    for mode, name, expected in (
        ("disabled", "tiny", 0),
        ("offline", "tiny", 1),  # it fails
        ("offline", "tiny", 2),
        ("offline", "tiny", 2),
        ("offline", "other", 3),
        ("offline", "other", 3),
    ):
        assert dispatch(arguments("run", f"name={name}", f"wandb.mode={mode}")) == 0
        assert "nothing to do" in capfd.readouterr().err
        assert len(sent) == expected, (mode, name)
    assert sent[0] == sent[1] != sent[2], "experiments that share all stages have a table each"
    (mark,) = runs.glob("other/*/wandb.json")
    assert json.loads(mark.read_text())["run"] == sent[2]
    assert not list(runs.rglob("*.lock"))


def test_manifests_name_their_inputs(runs: Path):
    for manifest in (runs / "store" / "sample").glob("*/manifest.json"):
        content = json.loads(manifest.read_text())
        assert (runs / "store" / "pool" / content["inputs"]["pool"]).is_dir()


def test_why_of_a_score_of_strata_eval_reaches_the_training(runs: Path):
    backbone = next((runs / "store" / "pretrain").glob("*/model.safetensors")).parent
    before = {path.name for path in (runs / "store" / "evaluate").iterdir()}
    environment = os.environ | {"STRATA_RUNS": str(runs), "WANDB_MODE": "disabled"}

    def strata(*arguments: str) -> str:
        command = [sys.executable, "-m", "strata.experiments.cli", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    out = strata("eval", f"backbone={backbone}", "+benchmark@benchmarks.digits=digits", "~protocols.linear",
                 "runner.workers=0")  # fmt: skip
    assert "knn-v1" in out
    (key,) = {path.name for path in (runs / "store" / "evaluate").iterdir()} - before
    kinds = re.findall(r"^ *(\w+) [0-9a-f]{16} ", strata("why", f"key={key}"), re.MULTILINE)
    assert kinds[:3] == ["evaluate", "features", "pretrain"] and "pool" in kinds
