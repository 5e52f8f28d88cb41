"""Ten kills at random moments over a whole experiment: the same table in the end, and no stage run twice."""

import json
import random
import signal
import time
from pathlib import Path

import pytest
from flow import KINDS, LONG, fork, processes_of, scores, wait_until

SMALL = ("seeds=[0]", "~arms.hand", "~arms.flat", "ssl.steps=12", "ssl.checkpoint_every=4")
WORKERS = (0, 0, 0, 0, 0, 0, 0, 0, 0, 2)  # of the ten killed runs, in random order; a worker is a start from nothing


@pytest.mark.slow
def test_ten_random_kills(tmp_path: Path):
    run_whole(tmp_path / "first")  # in a new clone it compiles kernels, which nobody after it does
    run_whole(tmp_path / "undisturbed")
    rng, runs = random.Random(0), tmp_path / "killed"
    made: dict[str, tuple[int, str]] = {}
    hit = set()
    for target, workers in zip(targets(tmp_path / "undisturbed", rng), rng.sample(WORKERS, len(WORKERS)), strict=True):
        process = fork(runs, *SMALL, f"runner.workers={workers}")
        lock, finished = runs / "store" / "locks" / target.replace("/", "-"), runs / "store" / target / "run.json"
        wait_until(lambda: lock.exists() or finished.exists() or process.exitcode is not None, every=0.0005)
        time.sleep(rng.uniform(0, 0.5) * seconds(tmp_path / "undisturbed", target))
        process.kill()
        process.join(LONG)
        assert process.exitcode == -signal.SIGKILL, "it was not at work any more"
        wait_until(lambda: not processes_of(runs))  # orphaned workers see their stdin close and end
        hit |= {left.name.split("-")[0] for left in runs.glob("store/locks/*")}  # held when it was killed
        made = check_kept(runs, made)
    assert hit >= set(KINDS) - {"pool", "sample"}, "these two take milliseconds, so a kill may come too late"
    run_whole(runs)
    check_kept(runs, made)
    assert scores(runs) == scores(tmp_path / "undisturbed")
    assert not list(runs.rglob("*.partial"))


def run_whole(runs: Path) -> None:
    process = fork(runs, *SMALL)
    process.join(LONG)
    assert process.exitcode == 0, (runs / "said.txt").read_text()


def targets(runs: Path, rng: random.Random) -> list[str]:
    """Ten stages, each to be killed in: one of every kind and three more, in the order in which they run."""
    (file,) = runs.glob("tiny/*/stages.json")
    order = [f"{stage['kind']}/{stage['key']}" for stage in json.loads(file.read_text())]
    chosen = {rng.choice([stage for stage in order if stage.startswith(f"{kind}/")]) for kind in KINDS}
    others = [stage for stage in order if stage not in chosen]
    return sorted(chosen | set(rng.sample(others, len(WORKERS) - len(KINDS))), key=order.index)


def seconds(runs: Path, stage: str) -> float:
    return float(json.loads((runs / "store" / stage / "run.json").read_text())["seconds"])


def check_kept(runs: Path, before: dict[str, tuple[int, str]]) -> dict[str, tuple[int, str]]:
    """What was finished is untouched: the folder's inode and the record of how it was run. Returns what is finished now."""
    now = {}
    for file in runs.glob("store/*/*/run.json"):
        record = json.loads(file.read_text())
        now[f"{file.parent.parent.name}/{file.parent.name}"] = (file.parent.stat().st_ino, str(record["started"]))
    assert {key: now.get(key) for key in before} == before, "a finished stage was run again"
    return now
