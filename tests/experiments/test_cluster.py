"""Stages as jobs through submitit: its local executor, and Slurm's commands played by shell scripts."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from flow import finish, scores, start

from strata.curation.errors import ConfigError, StrataError
from strata.experiments.execute import describe
from strata.experiments.jobs.client import ClusterClient, check_cluster
from strata.experiments.stage import Stage
from strata.experiments.store import Store
from strata.experiments.worker_client import StageFailed

pytest.importorskip("submitit")

LOCAL = {"executor": "local", "retries": 1, "resources": {"timeout_min": 10}, "stages": {}}
TRACKING = {"mode": "disabled", "project": "strata", "group": "test", "directory": "unused"}
DIGITS = {"_target_": "strata.curation.pools.digits.DigitsPool"}


def client_of(tmp_path: Path, **changes: Any) -> tuple[ClusterClient, list[str]]:
    said: list[str] = []
    jobs, locks = tmp_path / "jobs", tmp_path / "locks"
    return ClusterClient(TRACKING, 1, jobs, locks, {**LOCAL, **changes}, said.append), said


def stage_of(tmp_path: Path, pool: dict[str, Any], on_error: str = "fatal") -> tuple[Stage, dict[str, Any], Store]:
    stage = Stage(
        "pool", {"pool": pool, "on_error": on_error}, runtime={"pool": pool, "num_workers": 0}, label="digits"
    )
    store = Store(tmp_path / "store")
    return stage, describe(stage, store), store


def nothing(values: dict[str, float], step: int) -> None:
    raise AssertionError("metrics are not sent")


def test_a_stage_runs_as_a_job_and_is_recorded(tmp_path: Path):
    client, said = client_of(tmp_path)
    stage, spec, store = stage_of(tmp_path, DIGITS)
    reply = client.run(spec, nothing)
    assert reply["event"] == "done" and reply["seconds"] > 0
    assert store.finished(stage) and store.provenance(stage)["threads"] == 1
    assert client.run(spec, nothing)["seconds"] is None  # there already
    assert not said and not list((tmp_path / "locks").iterdir())


def test_a_refused_input_is_one_error_and_not_sent_again(tmp_path: Path):
    client, said = client_of(tmp_path)
    _, spec, store = stage_of(tmp_path, DIGITS, on_error="perhaps")
    with pytest.raises(StrataError, match="on_error") as caught:
        client.run(spec, nothing)
    assert not isinstance(caught.value, StageFailed) and not said
    assert not store.root.exists() or not list(store.root.glob("pool/*"))


def test_a_job_that_dies_is_sent_again_and_then_given_up(tmp_path: Path):
    """The job waits for a lock that we hold, and is killed: once, and it resumes; twice, and the stage has failed."""
    for deaths in (1, 2):
        folder = tmp_path / str(deaths)
        client, said = client_of(folder)
        stage, spec, store = stage_of(folder, DIGITS)
        known, killer = (
            folder / "jobs" / f"pool-{stage.key}.job.json",
            threading.Thread(target=kill, args=(folder, stage, deaths)),
        )
        killer.start()
        if deaths == 1:
            assert client.run(spec, nothing)["event"] == "done" and store.finished(stage)
            assert any("sent again" in line for line in said) and not known.exists()
        else:
            with pytest.raises(StageFailed, match="died 2 times"):
                client.run(spec, nothing)
        killer.join()
        assert sum("died" in line for line in said) == deaths


def kill(folder: Path, stage: Stage, deaths: int) -> None:
    """Kill the first ``deaths`` jobs of a stage; a lock that we hold keeps them from finishing before."""
    import fcntl

    (folder / "locks").mkdir(parents=True, exist_ok=True)
    lock = folder / "locks" / f"pool-{stage.key}.job"
    file, last = folder / "jobs" / f"pool-{stage.key}.job.json", None
    with open(lock, "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for _ in range(deaths):
            while not file.is_file() or (job := json.loads(file.read_text())["job_id"]) == last:
                time.sleep(0.05)
            last = job
            end(int(job))


def end(pid: int) -> None:
    """SIGKILL to a process and what it started."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    os.kill(pid, signal.SIGKILL)
    for child in children:
        end(child)


SLURM = {
    "srun": 'exec "${@: -1}"',  # never called here: the job's script is run by sbatch
    "sbatch": """
        id=$(( $(ls $FAKE/*.script 2>/dev/null | wc -l) + 100 )); cp "${@: -1}" $FAKE/$id.script; echo PENDING > $FAKE/$id
        echo "Submitted batch job $id" """,
    "sacct": """
        echo "JobID|State|NodeList"
        for file in $FAKE/[0-9]*; do
            case $file in *.script) ;; *) echo "$(basename $file)|$(cat $file)|n1";; esac
        done""",
    "scancel": "exit 0",
    "scontrol": "exit 0",
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Slurm that queues jobs and never runs them; their states are files."""
    from submitit.slurm.slurm import SlurmJob

    place = tmp_path / "slurm"
    (place / "bin").mkdir(parents=True)
    for name, body in SLURM.items():
        (place / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (place / "bin" / name).chmod(0o755)
    monkeypatch.setenv("FAKE", str(place))
    monkeypatch.setenv("PATH", f"{place / 'bin'}:{os.environ['PATH']}")
    SlurmJob.watcher.clear()
    return place


def test_slurm_gets_resources_and_a_second_command_waits_for_the_first_ones_job(tmp_path: Path, slurm: Path):
    resources = {"timeout_min": 30, "cpus_per_task": 3, "slurm_partition": "night"}
    settings = {"executor": "slurm", "resources": resources, "stages": {"pool": {"gpus_per_node": 2}}}
    stage, spec, store = stage_of(tmp_path, DIGITS)
    client, _ = client_of(tmp_path, **settings)
    first = threading.Thread(target=lambda: pytest.raises(StageFailed, client.run, spec, nothing))
    first.start()
    known = tmp_path / "jobs" / f"pool-{stage.key}.job.json"
    until(known.is_file)
    client.stop()  # the command is killed; its job stays in the queue
    first.join()
    script = (slurm / "100.script").read_text()
    for line in (
        "--cpus-per-task=3",
        "--partition=night",
        "--gpus-per-node=2",
        "--time=30",
        "--signal=USR2",
        "strata-pool",
    ):
        assert line in script, line
    again, said = client_of(tmp_path, **settings)
    (slurm / "100").write_text("RUNNING")
    replies: list[Any] = []
    second = threading.Thread(target=lambda: replies.append(again.run(spec, nothing)))
    second.start()
    until(lambda: any("earlier command" in line for line in said))
    order = tmp_path / "jobs" / f"pool-{stage.key}.json"
    from strata.experiments.jobs.job import StageJob

    StageJob(str(order))()  # what the node does
    second.join(timeout=60)
    assert replies and replies[0]["event"] == "done" and store.finished(stage)
    assert [file.name for file in slurm.glob("*.script")] == ["100.script"]
    delayed = StageJob(str(order)).checkpoint()
    assert delayed.function.order == str(order)


def until(true: Any) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"executor": "pbs"}, "runner.cluster.executor"),
        ({"retries": -1}, "runner.cluster.retries"),
        ({"stages": {"train": {}}}, "runner.cluster.stages.train"),
        ({"resources": {"timeout": 3}}, "runner.cluster.resources"),
        ({"nodes": 3}, "runner.cluster.nodes"),
    ],
)
def test_bad_settings_name_their_field(changes: dict[str, Any], field: str):
    with pytest.raises(ConfigError, match=field):
        check_cluster({**LOCAL, **changes})


def test_no_slurm_here_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    check_cluster({**LOCAL, "executor": "slurm"})  # planning needs no Slurm
    with pytest.raises(ConfigError, match=r"runner.cluster.executor.*no such cluster"):
        client_of(tmp_path, executor="slurm")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_whole_experiment_through_jobs_one_killed_gives_the_same_scores(tmp_path: Path):
    few = ("~arms.random", "~arms.hand", "~arms.flat", "table.controls=[raw]", "~protocols.linear")  # jobs start slowly
    small = ("seeds=[0]", "ssl.steps=30", "ssl.checkpoint_every=5", "runner.workers=2", *few)
    code, _, err = finish(start(tmp_path / "here", *small))
    assert code == 0, err
    process = start(tmp_path / "jobs", *small, "launcher=local")
    checkpoints = tmp_path / "jobs" / "store" / "pretrain"
    until_killed = threading.Thread(target=kill_a_training_job, args=(tmp_path / "jobs" / "jobs", checkpoints))
    until_killed.start()
    code, _, err = finish(process)
    until_killed.join()
    assert code == 0, err
    assert err.count("it is sent again") == 1
    assert scores(tmp_path / "jobs") == scores(tmp_path / "here")


def kill_a_training_job(jobs: Path, pretrain: Path) -> None:
    while not (found := list(pretrain.glob("*.partial/checkpoints/*"))):
        time.sleep(0.001)
    key = found[0].relative_to(pretrain).parts[0].removesuffix(".partial")
    end(int(json.loads((jobs / f"pretrain-{key}.job.json").read_text())["job_id"]))
