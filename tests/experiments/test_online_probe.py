"""``online.*``: scores while training, which change nothing and are those of the finished backbone at its last step."""

import json
from pathlib import Path

import pytest
from flow import arguments, finish, start

from strata.experiments.cli import dispatch

ONE_ARM = ("seeds=[0]", "~arms.random", "~arms.hand", "~arms.flat", "~arms.hierarchical", "table.controls=[]")
ONLINE = ("online.every=20", "online.benchmarks=[digits]", "online.protocols=[knn,linear]")


def test_values_are_those_of_the_finished_backbone(tmp_path: Path, monkeypatch, capfd: pytest.CaptureFixture[str]):
    code, _, err = finish(start(tmp_path, *ONE_ARM, *ONLINE))
    assert code == 0, err
    (log,) = (tmp_path / "store" / "pretrain").glob("*/metrics.jsonl")
    last = json.loads(log.read_text().splitlines()[-1])
    found = {}
    for file in (tmp_path / "store" / "evaluate").glob("*/scores.json"):
        for score in json.loads(file.read_text()):
            found[score["protocol"], score["metric"]] = score["value"]
    assert last["eval/knn/digits/top1"] == pytest.approx(found["knn", "top1"])
    assert last["eval/linear/digits/top1"] == pytest.approx(found["linear", "top1"], abs=0.01)
    monkeypatch.setenv("STRATA_RUNS", str(tmp_path))
    for settings in ((), ONLINE):
        capfd.readouterr()
        assert dispatch(arguments("plan", *ONE_ARM, *settings, "list=true")) == 0
        assert f"{log.parent.name}  cached" in capfd.readouterr().out, "it is in no key"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("online.every=7", "online.every: 7 steps; use a multiple of 20"),
        ("online.benchmarks=[nope]", "online.benchmarks: 'nope' is none of the experiment's; use some of digits"),
        ("online.protocols=[]", "online.protocols: there are none"),
    ],
)
def test_refused(override: str, expected: str, tmp_path: Path, monkeypatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.setenv("STRATA_RUNS", str(tmp_path / "runs"))
    assert dispatch(arguments("run", *ONLINE, override)) == 2
    assert expected in capfd.readouterr().err
    assert not list(tmp_path.iterdir())
