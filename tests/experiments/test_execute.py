"""A stage is run, timed and tracked once, whoever else runs it and wherever a run was killed."""

import contextlib
import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from strata.curation.artifact import create_artifact, write_json
from strata.experiments import execute as execute_file
from strata.experiments import runner as runner_file
from strata.experiments.cli import dispatch
from strata.experiments.execute import describe, execute
from strata.experiments.planning.cost import DEFAULT_RATES, OVERHEAD, predict
from strata.experiments.reporting.report import provenance
from strata.experiments.runner import Runner
from strata.experiments.stage import Stage, Task
from strata.experiments.store import Store

STAGE = Stage("pool", {"fingerprint": "x"}, label="a pool", work=500.0)


class FakeTracker:
    """Counts what is mirrored."""

    tracked: list[str]
    error, mode = "", "offline"

    def __init__(self, **_: Any) -> None:
        pass

    @contextlib.contextmanager
    def stage(self, spec: dict[str, Any]):
        yield lambda values, step: None
        self.tracked.append(spec["key"])


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys that the stage's module was run for."""
    ran: list[str] = []

    def run(task: Task, on_metrics: Any) -> None:
        ran.append(task.key)
        with create_artifact(task.out, "pool", key=task.key):
            time.sleep(0.6)

    monkeypatch.setattr(FakeTracker, "tracked", [], raising=False)
    monkeypatch.setattr(execute_file, "stage_module", lambda kind: SimpleNamespace(run=run))
    monkeypatch.setattr(runner_file, "Tracker", FakeTracker)
    return ran


def make(store: Store, **run: Any) -> Path:
    """The stage as a killed run leaves it; with ``run`` as a finished one."""
    with create_artifact(store.path(STAGE), "pool", key=STAGE.key):
        pass
    if run:
        write_json(store.path(STAGE) / "run.json", run)
    return store.path(STAGE) / "run.json"


def test_a_finished_stage_is_left_alone(tmp_path: Path, calls: list[str]):
    store = Store(tmp_path / "store")
    file = make(store, seconds=12.5, work=500.0)
    before = file.read_bytes()
    assert execute(describe(STAGE, store), FakeTracker(), 1) is None
    assert file.read_bytes() == before and not calls and not FakeTracker.tracked


def test_killed_before_it_was_recorded(tmp_path: Path, calls: list[str], capsys: pytest.CaptureFixture[str]):
    """Between the rename and run.json: recorded without times, tracked once, not counted as run."""
    store = Store(tmp_path / "store")
    file = make(store)
    runner = Runner(store, {}, 0, 1, tmp_path / "logs")
    assert runner.run([STAGE]) == (0, 1)
    recorded = json.loads(file.read_text())
    assert recorded["seconds"] is None and recorded["started"] is None and recorded["label"] == "a pool"
    assert runner.run([STAGE]) == (0, 1)
    assert FakeTracker.tracked == [STAGE.key] and not calls
    assert "0 stages ran" in capsys.readouterr().err


def test_two_runs_at_once(tmp_path: Path, calls: list[str], capsys: pytest.CaptureFixture[str]):
    store = Store(tmp_path / "store")
    counts = []
    threads = [
        threading.Thread(target=lambda: counts.append(Runner(store, {}, 0, 1, tmp_path / "logs").run([STAGE])))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(counts) == [(0, 1), (1, 0)]
    assert calls == [STAGE.key] == FakeTracker.tracked
    assert json.loads((store.path(STAGE) / "run.json").read_text())["seconds"] >= 0.6
    assert capsys.readouterr().err.count("waiting for another run: pool") == 1
    assert not list(store.root.glob("locks/*"))


def test_a_stage_that_exits_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lightning ends a Ctrl-C with exit(1), a SIGTERM with exit(0)."""

    def run(task: Task, on_metrics: Any) -> None:
        raise SystemExit(0)

    monkeypatch.setattr(execute_file, "stage_module", lambda kind: SimpleNamespace(run=run))
    with pytest.raises(KeyboardInterrupt):
        execute(describe(STAGE, Store(tmp_path)), FakeTracker(), 1)
    assert not FakeTracker.tracked


@pytest.mark.parametrize(
    "run",
    [
        {"seconds": None, "work": 500.0, "resumed": None},
        {"seconds": 0.0, "work": 500.0, "resumed": False},
        {"work": 500.0},
        {"seconds": 3.0, "work": 500.0, "resumed": True},
    ],
)
def test_predictions_use_only_whole_times(tmp_path: Path, run: dict[str, Any]):
    store = Store(tmp_path / "store")
    file = make(store, **run)
    assert predict(STAGE, store) == (OVERHEAD + 500.0 / DEFAULT_RATES["pool"], False)
    write_json(file, {"seconds": OVERHEAD + 5.0, "work": 500.0, "resumed": False})
    seconds, measured = predict(STAGE, store)
    assert measured and seconds == pytest.approx(OVERHEAD + 5.0)


def test_why_and_the_report_without_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("STRATA_RUNS", str(tmp_path))
    store = Store(tmp_path / "store")
    make(store)
    Runner(store, {}, 0, 1, tmp_path / "logs").run([STAGE])
    assert dispatch(["why", f"key={STAGE.key}"]) == 0
    out = capsys.readouterr().out
    assert "killed before its time was recorded" in out and "None" not in out
    plan: Any = SimpleNamespace(stages=[STAGE], runs=[SimpleNamespace(seed=0)])
    assert "0.00 h of stage time" in provenance(plan, store)
