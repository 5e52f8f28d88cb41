"""One stage as a job of a cluster: what runs on the node. It is told everything by a JSON file, and answers with one."""

import json
import os
import threading
import traceback
from pathlib import Path
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class StageJob:
    """What submitit sends to the node: the path of the stage's JSON file, and nothing else.

    On a time-out or a preemption Slurm sends a signal first: submitit then calls ``checkpoint`` and puts the same job
    back into the queue. Stages resume from what they left on disk, so it is enough to call it again.
    """

    def __init__(self, order: str) -> None:
        self.order = order

    def __call__(self) -> None:
        """Run the stage and write ``<order>.reply.json``."""
        order = json.loads(Path(self.order).read_text())
        os.environ |= dict.fromkeys(THREAD_VARIABLES, str(order["threads"])) | {"STRATA_COMMAND": order["command"]}
        reply = _run(order)

        from strata.curation.artifact import write_json

        write_json(reply_file(Path(self.order)), reply)

    def checkpoint(self) -> Any:
        """The job to queue instead of this one, which is about to be ended."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(StageJob(self.order))


def reply_file(order: Path) -> Path:
    """Where the answer to an order is written."""
    return order.with_suffix(".reply.json")


def _run(order: dict[str, Any]) -> dict[str, Any]:
    from strata.curation.errors import StrataError
    from strata.experiments.execute import execute
    from strata.experiments.lock import hold
    from strata.experiments.tracking import Tracker

    tracker = Tracker(**order["tracking"])
    try:
        # A job may outlive the command that sent it, which then may be given again: the second job waits here
        with hold(Path(order["lock"]), threading.Event(), lambda: print("waiting for another job", flush=True)):
            seconds = execute(order["stage"], tracker, order["threads"])
    except StrataError as error:
        return {"event": "refused", "message": str(error)}
    except Exception:
        return {"event": "failed", "message": traceback.format_exc()}
    return {"event": "done", "seconds": seconds, "tracking_error": tracker.error}
