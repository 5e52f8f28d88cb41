"""One process of a stage that runs on several devices: ``torchrun ... -m strata.experiments.torchrun_stage TASK.json``."""

import json
import sys
from pathlib import Path

from strata.experiments.stage import Task, stage_module


def main(spec: str) -> None:
    """Run the stage that a JSON file describes."""
    told = json.loads(Path(spec).read_text())
    inputs = {role: Path(path) for role, path in told.pop("inputs").items()}
    task = Task(**told | {"inputs": inputs, "out": Path(told["out"])})
    stage_module(task.kind).run(task, None)


if __name__ == "__main__":
    main(sys.argv[1])
