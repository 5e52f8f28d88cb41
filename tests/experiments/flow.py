"""Helpers of the tests that run whole experiments through the command line."""

import os
import subprocess
import sys
from pathlib import Path

CONF = Path(__file__).parent / "conf"


def arguments(command: str, *overrides: str) -> list[str]:
    """A `strata` command line for the tiny experiment."""
    return [command, "--config-dir", str(CONF), "experiment=tiny", "runner.workers=0", *overrides]


def start(runs: Path, *overrides: str, command: str = "run", **environment: str) -> "subprocess.Popen[str]":
    """`strata COMMAND` of the tiny experiment in a process of its own, everything it writes under ``runs``."""
    return subprocess.Popen(
        [sys.executable, "-m", "strata.experiments.cli", *arguments(command, *overrides)],
        env=os.environ | {"STRATA_RUNS": str(runs), "WANDB_MODE": "disabled", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def scores(runs: Path) -> dict[str, str]:
    """Everything the evaluation said, by stage key, and the table."""
    found = {file.parent.name: file.read_text() for file in runs.glob("store/evaluate/*/scores.json")}
    return found | {file.name: file.read_text() for file in runs.glob("tiny/*/values.csv")}
