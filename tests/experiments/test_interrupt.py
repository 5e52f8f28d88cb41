"""Ctrl-C, wherever a command is: it ends at once with 130, starts nothing more, and leaves no process."""

import fcntl
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from flow import LONG, arguments, finish, processes_of, start, wait_until

from strata.experiments.cli import dispatch

SMALL = ("seeds=[0]", "~arms.hand", "~arms.flat", "~arms.hierarchical", "~arms.random", "~protocols.linear")


def interrupt(process, runs: Path) -> str:
    """Ctrl-C, and what must follow. Returns stderr."""
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)  # what is interrupted would take far longer than it waits
    assert code == 130, err
    assert "interrupted" in err and "Traceback" not in err, err
    wait_until(lambda: not processes_of(runs))
    return err


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_while_it_waits_for_another_run(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("STRATA_RUNS", str(tmp_path))
    assert dispatch(arguments("plan", "list=true", *SMALL)) == 0
    found = re.search(r"^pool .*\n +([0-9a-f]{16}) ", capsys.readouterr().out, re.MULTILINE)
    assert found is not None
    held = tmp_path / "store" / "locks" / f"pool-{found[1]}"
    held.parent.mkdir(parents=True)
    with open(held, "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        process = start(tmp_path, *SMALL, f"runner.workers={workers}")
        assert process.stderr is not None
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.append(_until_waiting(process.stderr)))
        reader.start()
        reader.join(LONG)
        assert said and "waiting for another run: pool" in said[0]
        time.sleep(1.0)
        err = interrupt(process, tmp_path)
        assert "waiting" not in err, "it is said once"
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [held]


def _until_waiting(stream) -> str:
    return next((line for line in stream if "waiting" in line), "")


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_in_a_long_stage(workers: int, tmp_path: Path):
    process = start(tmp_path, *SMALL, f"runner.workers={workers}", "ssl.steps=100000", "ssl.checkpoint_every=2")
    checkpoints = "store/pretrain/*.partial/checkpoints/*"
    wait_until(lambda: list(tmp_path.glob(checkpoints)) or process.poll() is not None)
    interrupt(process, tmp_path)
    assert list(tmp_path.glob(checkpoints)), "what was done is there to resume from"
    assert not list(tmp_path.glob("store/pretrain/*/manifest.json"))
    assert not list(tmp_path.glob("store/locks/*"))
