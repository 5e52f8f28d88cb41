"""Ctrl-C, wherever a command is: it ends at once with 130, starts nothing more, and leaves no process."""

import contextlib
import fcntl
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from flow import arguments, finish, start

from strata.experiments.cli import dispatch

SMALL = ("seeds=[0]", "~arms.hand", "~arms.flat", "~arms.hierarchical", "~arms.random", "~protocols.linear")
PROMPT = 60.0  # seconds, on a busy machine; what is interrupted would take far longer


def processes_of(runs: Path) -> list[int]:
    """Live processes that were started for this runs folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environment = (folder / "environ").read_bytes()
            if f"STRATA_RUNS={runs}\0".encode() in environment and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def interrupt(process, runs: Path) -> str:
    """Ctrl-C, and what must follow. Returns stderr."""
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    code, _, err = finish(process)
    assert time.monotonic() - began < PROMPT
    assert code == 130, err
    assert "interrupted" in err and "Traceback" not in err, err
    deadline = time.monotonic() + 2.0
    while processes_of(runs) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes_of(runs)
    return err


def wait_until(condition, process) -> None:
    deadline = time.monotonic() + 120.0
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


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
        reader.join(180)
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
    wait_until(lambda: list(tmp_path.glob(checkpoints)), process)
    interrupt(process, tmp_path)
    assert list(tmp_path.glob(checkpoints)), "what was done is there to resume from"
    assert not list(tmp_path.glob("store/pretrain/*/manifest.json"))
    assert not list(tmp_path.glob("store/locks/*"))
