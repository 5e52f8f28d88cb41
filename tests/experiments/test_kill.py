"""kill -9 in the middle of each kind of stage, then the same command again: same scores as an undisturbed run."""

import time
from pathlib import Path

import pytest
from flow import KINDS, finish, processes_of, scores, start, wait_until

SMALL = ("seeds=[0]", "ssl.steps=30", "ssl.checkpoint_every=5")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    runs = tmp_path_factory.mktemp("undisturbed")
    code, _, err = finish(start(runs, *SMALL))
    assert code == 0, err
    return scores(runs)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_in_every_kind_of_stage(tmp_path: Path, undisturbed: dict[str, str], workers: int):
    killed = []
    for kind in KINDS:
        process = start(tmp_path, *SMALL, f"runner.workers={workers}")
        while process.poll() is None and not list((tmp_path / "store" / kind).glob("*.partial/*")):
            time.sleep(0.0005)
        if kind == "pretrain":
            while process.poll() is None and not list((tmp_path / "store" / kind).glob("*.partial/checkpoints/*")):
                time.sleep(0.0005)
        if process.poll() is None:
            process.kill()
            killed.append(kind)
        process.communicate()
        wait_until(lambda: not processes_of(tmp_path))  # orphaned workers see their stdin close and end
    assert {"embed", "cluster", "pretrain", "features", "evaluate"} <= set(killed), killed
    code, _, err = finish(start(tmp_path, *SMALL))
    assert code == 0, err
    assert scores(tmp_path) == undisturbed
    assert not list(tmp_path.rglob("*.partial"))
