"""Ten kills at random moments over a whole experiment: the same table in the end, and no stage run twice."""

import json
import random
import time
from pathlib import Path

import pytest
from flow import finish, scores, start

SMALL = ("seeds=[0]", "ssl.steps=30", "ssl.checkpoint_every=5")
KILLS = 10


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_ten_random_kills(tmp_path: Path, workers: int):
    began = time.monotonic()
    code, _, err = finish(start(tmp_path / "undisturbed", *SMALL, f"runner.workers={workers}"))
    assert code == 0, err
    whole = time.monotonic() - began
    rng, runs, made = random.Random(workers), tmp_path / "killed", {}
    for _ in range(KILLS):
        process = start(runs, *SMALL, f"runner.workers={workers}")
        deadline = time.monotonic() + rng.uniform(0.25, 0.75) * whole
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.communicate()
        time.sleep(0.5)  # orphaned workers see their stdin close and end
        made = check_kept(runs, made)
    code, _, err = finish(start(runs, *SMALL))
    assert code == 0, err
    check_kept(runs, made)
    assert scores(runs) == scores(tmp_path / "undisturbed")
    assert not list(runs.rglob("*.partial"))


def check_kept(runs: Path, before: dict[str, tuple[int, str]]) -> dict[str, tuple[int, str]]:
    """What was finished is untouched: the folder's inode and the record of how it was run. Returns what is finished now."""
    now = {}
    for file in runs.glob("store/*/*/run.json"):
        record = json.loads(file.read_text())
        now[f"{file.parent.parent.name}/{file.parent.name}"] = (file.parent.stat().st_ino, str(record["started"]))
    assert {key: now.get(key) for key in before} == before, "a finished stage was run again"
    return now
