"""Workers that die: always one readable error that names the log, and a new worker where nothing was lost."""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from strata.experiments import worker_client
from strata.experiments.runner import Progress, Runner
from strata.experiments.stage import Stage
from strata.experiments.store import Store
from strata.experiments.worker_client import StageFailed, WorkerClient, WorkerGone

SPEC = {"kind": "pool", "label": "x", "key": "k"}
DONE = """echo '{"event": "done", "seconds": 1.5, "tracking_error": ""}'"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make workers run a shell script: it reads the settings, then what the test says."""

    def install(*lines: str) -> None:
        script = tmp_path / "worker.sh"
        script.write_text("\n".join(["#!/bin/sh", "read settings", *lines, ""]))
        script.chmod(0o755)
        monkeypatch.setattr(worker_client, "sys", SimpleNamespace(executable=str(script), argv=sys.argv))

    return install


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["read spec", "kill -9 $$"], "killed, or out of memory"),
        (["read spec", "exit 3"], "exit code 3"),
        (["read spec", """printf '{"event": "do'""", "kill -9 $$"], "killed, or out of memory"),
    ],
)
def test_died_in_a_stage(tmp_path: Path, worker: Any, lines: list[str], why: str):
    worker("echo going >&2", *lines)
    client = WorkerClient({}, 1, tmp_path / "logs" / "w.log")
    with pytest.raises(StageFailed, match="worker of stage pool .* run the same command again") as caught:
        client.run(SPEC, lambda values, step: None)
    assert not isinstance(caught.value, WorkerGone)
    assert why in str(caught.value) and f"its output is in {client.log}" in str(caught.value)
    client.stop()
    assert client.log.read_text() == "going\n"


def test_died_between_stages(tmp_path: Path, worker: Any):
    worker("read spec", DONE)
    client = WorkerClient({}, 1, tmp_path / "w.log")
    assert client.run(SPEC, lambda values, step: None)["seconds"] == 1.5
    client.process.wait()
    with pytest.raises(WorkerGone, match=r"worker for stage pool .* died .*w\.log"):
        client.run(SPEC, lambda values, step: None)


def test_stop_ends_what_the_worker_started_and_removes_an_empty_log(tmp_path: Path, worker: Any):
    worker("read spec", f"sleep 60 & echo $! > {tmp_path}/pid", DONE, "wait")
    client = WorkerClient({}, 1, tmp_path / "w.log")
    client.run(SPEC, lambda values, step: None)
    child = int((tmp_path / "pid").read_text())
    client.stop()
    deadline = time.monotonic() + 10.0  # a killed process may still wait for its turn to die
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(child)
    assert not client.log.exists()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def runner_of(tmp_path: Path) -> tuple[Runner, list[Stage]]:
    first = Stage("pool", {"a": 1}, label="first")
    second = Stage("pool", {"a": 2}, {"pool": first}, label="second")
    return Runner(Store(tmp_path / "store"), {}, 1, 1, tmp_path / "logs"), [first, second]


def test_a_worker_that_died_between_stages_is_replaced(
    tmp_path: Path, worker: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    worker("read spec", DONE)  # then it ends
    runner, stages = runner_of(tmp_path)
    finished, used = Progress.finished, []

    def wait_for_its_end(self: Progress, *given: Any) -> None:
        used.append(runner._workers[-1])
        used[-1].process.wait()
        finished(self, *given)

    monkeypatch.setattr(Progress, "finished", wait_for_its_end)
    assert runner.run(stages) == (2, 0)
    assert len(set(used)) == 2
    said = capsys.readouterr().err
    assert said.count("another one is started") == 1 and "Broken pipe" not in said
    assert {client.log.name for client in used} == {f"worker-{os.getpid()}-{n}.log" for n in (0, 1)}


def test_a_worker_that_cannot_even_start(tmp_path: Path, worker: Any):
    """Whether it is gone before or after it was sent its stage, the error is the same kind and names the log."""
    worker("echo no such module >&2", "exit 1")
    runner, stages = runner_of(tmp_path)
    with pytest.raises(StageFailed, match=rf"worker (of|for) stage pool \(first\) died .*worker-{os.getpid()}-\d\.log"):
        runner.run(stages)
    assert all(log.read_text() == "no such module\n" for log in (tmp_path / "logs").iterdir())
    assert not (tmp_path / "store").exists(), "empty folders are not left"
