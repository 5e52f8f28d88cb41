"""Helpers of the tests that run whole experiments through the command line."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

CONF = Path(__file__).parent / "conf"
KINDS = ("pool", "embed", "cluster", "sample", "pretrain", "features", "evaluate")  # of stages, in their order
LONG = 1200.0  # seconds: beyond it something hangs, however busy the machine is


def arguments(command: str, *overrides: str) -> list[str]:
    """A `strata` command line for the tiny experiment."""
    return [command, "--config-dir", str(CONF), "experiment=tiny", "runner.workers=0", *overrides]


def start(runs: Path, *overrides: str, command: str = "run", **environment: str) -> "subprocess.Popen[str]":
    """`strata COMMAND` of the tiny experiment in a process of its own, everything it writes under ``runs``."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background job ignores Ctrl-C, and
    try:  # hands that down to what it starts
        return subprocess.Popen(
            [sys.executable, "-m", "strata.experiments.cli", *arguments(command, *overrides)],
            env=os.environ | {"STRATA_RUNS": str(runs), "WANDB_MODE": "disabled", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def fork(runs: Path, *overrides: str) -> BaseProcess:
    """`strata run` as ``start`` does it, but forked from one process that has imported everything: no start from nothing.

    What it says is in ``runs/said.txt``.
    """
    context = multiprocessing.get_context("forkserver")
    stages = [f"strata.experiments.stages.{kind}" for kind in KINDS]
    protocols = ["strata.eval.protocols.knn", "strata.eval.protocols.linear"]
    context.set_forkserver_preload(["strata.experiments.commands.run", *stages, *protocols])
    process = context.Process(target=_run_here, args=(runs, overrides))
    process.start()
    return process


def _run_here(runs: Path, overrides: tuple[str, ...]) -> None:
    from strata.experiments.cli import dispatch

    runs.mkdir(exist_ok=True)
    os.environ |= {"STRATA_RUNS": str(runs), "WANDB_MODE": "disabled"}
    with open(runs / "said.txt", "w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    sys.exit(dispatch(arguments("run", *overrides)))


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    out, err = process.communicate(timeout=LONG)
    return process.returncode, out, err


def wait_until(condition: Callable[[], object], every: float = 0.02) -> None:
    """Look again until it is true."""
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(every)


def processes_of(runs: Path) -> list[int]:
    """Live processes that were started for this runs folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environment = (folder / "environ").read_bytes()
            if f"STRATA_RUNS={runs}\0".encode() in environment and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def scores(runs: Path) -> dict[str, str]:
    """Everything the evaluation said, by stage key, and the table."""
    found = {file.parent.name: file.read_text() for file in runs.glob("store/evaluate/*/scores.json")}
    return found | {file.name: file.read_text() for file in runs.glob("tiny/*/values.csv")}
