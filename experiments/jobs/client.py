"""Stages as jobs of a cluster, through submitit: Slurm, or "local" to try the same without one."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from strata.curation.artifact import write_json
from strata.curation.errors import ConfigError, MissingExtraError, StrataError
from strata.experiments.jobs.job import StageJob, reply_file
from strata.experiments.stage import KINDS
from strata.experiments.worker_client import StageFailed

POLL = 1.0  # seconds between two looks at a job
_AT_WORK = ("PENDING", "RUNNING", "REQUEUED", "COMPLETING", "PREEMPTED")  # of Slurm's states


def submitit_module() -> Any:
    """submitit. Raises MissingExtraError where it is not installed."""
    try:
        import submitit
    except ImportError as error:
        raise MissingExtraError("submitit", "cluster") from error
    return submitit


def check_cluster(cluster: Mapping[str, Any]) -> None:
    """Raise a ConfigError for settings that submitit would refuse.

    Args:
        cluster: ``executor`` ("slurm" or "local"), ``retries`` (how often a job that died is sent again), ``resources``
            (parameters of submitit's AutoExecutor) and ``stages`` (kind of stage -> parameters that differ).
    """
    unknown = sorted(set(cluster) - {"executor", "retries", "resources", "stages"})
    if unknown:
        raise ConfigError(f"runner.cluster.{unknown[0]}", "is unknown", "set executor, retries, resources or stages")
    if cluster["executor"] not in ("slurm", "local"):
        raise ConfigError("runner.cluster.executor", f"is {cluster['executor']!r}", "choose slurm or local")
    retries = cluster["retries"]
    if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
        raise ConfigError("runner.cluster.retries", f"is {retries!r}", "give a whole number, 0 or more")
    for kind in cluster["stages"] or {}:
        if kind not in KINDS:
            raise ConfigError(f"runner.cluster.stages.{kind}", "is no kind of stage", f"use one of {', '.join(KINDS)}")
    executor = submitit_module().AutoExecutor(folder="unused", cluster="debug")  # knows all parameters, needs no Slurm
    for kind in KINDS:
        try:
            executor.update_parameters(**_resources(cluster, kind))
        except (NameError, TypeError, ValueError, AssertionError) as error:
            problem = f"submitit refuses {_resources(cluster, kind)} ({' '.join(str(error).split())[:200]})"
            raise ConfigError("runner.cluster.resources", problem, "see submitit's AutoExecutor") from error


class ClusterClient:
    """Sends stages one after another to a cluster and waits for each.

    A job that is killed, or whose node is lost, is sent again and resumes. If the command is ended its jobs go on; given
    again, it waits for those that Slurm still has instead of sending others.

    Args:
        tracking: settings of the W&B tracker.
        threads: threads of one stage.
        folder: orders, replies and logs of the jobs.
        locks: folder of the locks that the jobs hold.
        cluster: see ``check_cluster``.
        say: called with a line when something worth telling happens.
    """

    dead = False  # it has no process of its own that could die

    def __init__(
        self,
        tracking: dict[str, Any],
        threads: int,
        folder: Path,
        locks: Path,
        cluster: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self.tracking, self.threads, self.cluster, self.say = tracking, threads, cluster, say
        self.folder, self.locks = folder.absolute(), locks.absolute()
        _executor(cluster, self.folder / "%j")  # raises where there is no such cluster
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stopped = False

    def run(self, spec: dict[str, Any], on_metrics: Callable[[dict[str, float], int], None]) -> dict[str, Any]:
        """Run one stage as a job. Metrics are in the stage's folder; ``on_metrics`` is not called.

        Returns:
            ``seconds`` (None if the stage was finished before) and ``tracking_error``.

        Raises:
            StrataError: the stage refused its input.
            StageFailed: the stage broke, or its job died more than ``retries`` times.
        """
        name = f"{spec['kind']}-{spec['key']}"
        order = self.folder / f"{name}.json"
        job = self._adopted(name)
        for attempt in range(self.cluster["retries"] + 1):
            if job is None:
                job = self._submit(spec, name, order)
            reply = self._wait(job, reply_file(order))
            if reply is not None:
                order.with_suffix(".job.json").unlink(missing_ok=True)
                return _checked(reply, spec)
            self.say(f"  job {job.job_id} of {name} ({spec['label']}) died ({job.state}); see {job.paths.stderr}")
            job = None
            if attempt < self.cluster["retries"]:
                self.say("  it is sent again and resumes")
        raise StageFailed(
            f"the job of stage {spec['kind']} ({spec['label']}) died {self.cluster['retries'] + 1} times; its logs are in "
            f"{self.folder}; run the same command again to resume"
        )

    def stop(self) -> None:
        """Stop waiting. Jobs go on: what they make is there the next time."""
        self._stopped = True

    def _submit(self, spec: dict[str, Any], name: str, order: Path) -> Any:
        reply_file(order).unlink(missing_ok=True)
        command = os.environ.get("STRATA_COMMAND", " ".join(sys.argv))
        told = {"stage": spec, "tracking": self.tracking, "threads": self.threads, "command": command}
        write_json(order, told | {"lock": str(self.locks / f"{name}.job")})
        executor = _executor(self.cluster, self.folder / "%j")
        executor.update_parameters(name=f"strata-{spec['kind']}", **_resources(self.cluster, spec["kind"]))
        job = executor.submit(StageJob(str(order)))
        write_json(order.with_suffix(".job.json"), {"executor": self.cluster["executor"], "job_id": job.job_id})
        return job

    def _adopted(self, name: str) -> Any:
        """The job that an earlier command sent for the same stage, if Slurm still has it."""
        file = self.folder / f"{name}.job.json"
        if self.cluster["executor"] != "slurm" or not file.is_file():
            return None
        known = json.loads(file.read_text())
        if known["executor"] != "slurm":
            return None
        job = submitit_module().SlurmJob(self.folder / "%j", known["job_id"])
        if job.watcher.get_state(job.job_id, mode="force").split()[0] not in _AT_WORK:
            return None
        self.say(f"  job {job.job_id} of an earlier command is at work on {name}")
        return job

    def _wait(self, job: Any, reply: Path) -> dict[str, Any] | None:
        """The job's reply, or None if it ended without one."""
        while not self._stopped:
            ended = job.done()  # looked at before the reply: it may be written between the two
            if reply.is_file():
                found: dict[str, Any] = json.loads(reply.read_text())
                return found
            if ended:
                return None
            time.sleep(POLL)
        raise StageFailed("the command is ending; jobs that were sent go on")


def _checked(reply: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    if reply["event"] == "refused":
        raise StrataError(reply["message"])
    if reply["event"] == "failed":
        raise StageFailed(f"stage {spec['kind']} ({spec['label']}) broke:\n{reply['message']}")
    return reply


def _executor(cluster: Mapping[str, Any], folder: Path) -> Any:
    try:
        return submitit_module().AutoExecutor(folder=folder, cluster=cluster["executor"])
    except RuntimeError as error:
        problem = f"is {cluster['executor']}, and this machine has no such cluster ({error})"
        raise ConfigError("runner.cluster.executor", problem, "run where sbatch is, or use local") from error


def _resources(cluster: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Parameters of a kind of stage; those of another cluster than the one in use (slurm_...) are left out by submitit."""
    return {**(cluster["resources"] or {}), **((cluster["stages"] or {}).get(kind) or {})}
