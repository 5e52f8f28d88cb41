"""Run one stage in this process: the function that every way of running (here, worker, Slurm) ends in."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from strata.curation.artifact import write_json
from strata.curation.errors import StrataError
from strata.experiments.stage import Stage, Task, stage_module
from strata.experiments.store import Store
from strata.experiments.tracking import Tracker

OnMetrics = Callable[[dict[str, float], int], None]


def describe(stage: Stage, store: Store) -> dict[str, Any]:
    """Everything ``execute`` needs, as JSON: it may be sent to another process or machine."""
    return {
        "kind": stage.kind,
        "key": stage.key,
        "label": stage.label,
        "config": stage.config,
        "runtime": stage.runtime,
        "work": stage.work,
        "inputs": {role: str(store.path(needed)) for role, needed in stage.inputs.items()},
        "input_keys": {role: needed.key for role, needed in stage.inputs.items()},
        "out": str(store.path(stage)),
    }


def execute(spec: dict[str, Any], tracker: Tracker, threads: int, on_metrics: OnMetrics | None = None) -> float:
    """Make the stage's folder if it is not there, mirror it to W&B, record how it was run.

    Returns:
        Seconds that the stage took.
    """
    out = Path(spec["out"])
    task = Task(
        kind=spec["kind"],
        key=spec["key"],
        config=spec["config"],
        inputs={role: Path(path) for role, path in spec["inputs"].items()},
        input_keys=spec["input_keys"],
        runtime=spec["runtime"],
        out=out,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    resumed = out.with_name(out.name + ".partial").is_dir()
    started = time.time()
    with tracker.stage(spec) as log:
        if not (out / "manifest.json").is_file():
            _limit_threads(threads)

            def forward(values: dict[str, float], step: int) -> None:
                log(values, step)
                if on_metrics is not None:
                    on_metrics(values, step)

            try:
                stage_module(task.kind).run(task, forward)
            except StrataError as error:
                raise StrataError(f"{error} [stage {task.kind}: {spec['label']}]") from error
        seconds = time.time() - started
    provenance = {
        "label": spec["label"],
        "seconds": round(seconds, 3),
        "work": spec["work"],
        "resumed": resumed,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "command": os.environ.get("STRATA_COMMAND", " ".join(sys.argv)),
        "commit": git_commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "threads": threads,
    }
    write_json(out / "run.json", provenance)
    return seconds


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
