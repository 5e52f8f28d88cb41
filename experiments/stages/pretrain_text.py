"""Stage ``pretrain_text``: a causal language model on a subset of a pool's documents."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from strata.curation.errors import StrataError
from strata.curation.subset import read_subset
from strata.experiments.settings.build import typed
from strata.experiments.stage import Task
from strata.ssl.text.config import TextSSLConfig
from strata.ssl.text.pretrain import pretrain_text

VERSION = 1


def run(task: Task, on_metrics: Callable[[dict[str, float], int], None] | None = None) -> None:
    """Train on the rows of ``inputs.subset``; every arm sees the same number of tokens. Several devices: by torchrun."""
    recipe = typed(TextSSLConfig, task.config["ssl"] | task.runtime["ssl"], "ssl")
    if recipe.devices > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        _launch(task, recipe.devices)
        return
    selection = read_subset(task.inputs["subset"])
    pretrain_text(
        recipe,
        task.inputs["tokens"],
        task.inputs["tokenizer"],
        selection.rows,
        task.out,
        seed=task.config["seed"],
        repeats=selection.repeats,
        key=task.key,
        inputs=task.input_keys,
        device=task.runtime["device"],
        on_metrics=on_metrics,
        progress=task.runtime["progress"],
    )


def _launch(task: Task, devices: int) -> None:
    """This stage in as many processes of this machine as there are devices."""
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "task.json"
        spec.write_text(json.dumps(vars(task), default=str))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
        done = subprocess.run([*command, "-m", "strata.experiments.torchrun_stage", str(spec)], check=False)
    if done.returncode:
        raise StrataError(f"training on {devices} devices ended with code {done.returncode}; see the lines above")
