"""Run one stage in this process: the function that every way of running (here, worker, Slurm) ends in."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from strata.curation.artifact import write_json
from strata.curation.errors import StrataError
from strata.experiments.stage import Stage, Task, stage_module
from strata.experiments.store import Store
from strata.experiments.tracking import Tracker

OnMetrics = Callable[[dict[str, float], int], None]


def describe(stage: Stage, store: Store, tags: Sequence[str] = ()) -> dict[str, Any]:
    """Everything ``execute`` needs, as JSON: it may be sent to another process or machine."""
    return {
        "kind": stage.kind,
        "key": stage.key,
        "label": stage.label,
        "config": stage.config,
        "runtime": stage.runtime,
        "work": stage.work,
        "tags": list(tags),
        "inputs": {role: str(store.path(needed)) for role, needed in stage.inputs.items()},
        "input_keys": {role: needed.key for role, needed in stage.inputs.items()},
        "out": str(store.path(stage)),
    }


def execute(spec: dict[str, Any], tracker: Tracker, threads: int, on_metrics: OnMetrics | None = None) -> float | None:
    """Make the stage's folder if it is not there, mirror it to W&B, record how it was run. The caller holds its lock.

    A folder that is whole but has no run.json is of a run that was killed in between: it is tracked and recorded with
    the times left open.

    Returns:
        Seconds that the stage took; None if its folder was whole already.

    Raises:
        StrataError: it refused its input.
        KeyboardInterrupt: a signal ended it.
    """
    out = Path(spec["out"])
    whole = (out / "manifest.json").is_file()
    if whole and (out / "run.json").is_file():
        return None
    out.parent.mkdir(parents=True, exist_ok=True)
    resumed = out.with_name(out.name + ".partial").is_dir()
    started, seconds = time.time(), None
    with tracker.stage(spec) as log:
        if not whole:
            _limit_threads(threads)
            started = time.time()
            _run_module(spec, log, on_metrics)
            seconds = time.time() - started
    provenance = {
        "label": spec["label"],
        "seconds": None if seconds is None else round(seconds, 3),
        "work": spec["work"],
        "resumed": None if whole else resumed,
        "started": None if whole else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "command": os.environ.get("STRATA_COMMAND", " ".join(sys.argv)),
        "commit": git_commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "threads": threads,
    }
    write_json(out / "run.json", provenance)
    return seconds


def _run_module(spec: dict[str, Any], log: OnMetrics, on_metrics: OnMetrics | None) -> None:
    task = Task(
        kind=spec["kind"],
        key=spec["key"],
        config=spec["config"],
        inputs={role: Path(path) for role, path in spec["inputs"].items()},
        input_keys=spec["input_keys"],
        runtime=spec["runtime"],
        out=Path(spec["out"]),
    )

    def forward(values: dict[str, float], step: int) -> None:
        log(values, step)
        if on_metrics is not None:
            on_metrics(values, step)

    try:
        stage_module(task.kind).run(task, forward)
    except StrataError as error:
        raise StrataError(f"{error} [stage {task.kind}: {spec['label']}]") from error
    except SystemExit as error:  # what Lightning makes of Ctrl-C and SIGTERM, with exit codes of its own
        raise KeyboardInterrupt from error


def git_commit() -> str:
    """The commit of the code that runs, with ``+`` if the tree has changes; "unknown" outside a checkout."""
    try:
        commit, changed = _git("rev-parse", "--short=12", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changed else "")


def _git(*arguments: str) -> str:
    here = Path(__file__).resolve().parent
    return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()


def _limit_threads(threads: int) -> None:
    """The same number of threads wherever the stage runs: float sums depend on it in the last bit."""
    import torch

    torch.set_num_threads(threads)
