"""One holder at a time, waiting that can be called off, no file left."""

import threading
import time
from pathlib import Path

import pytest

from strata.experiments import lock
from strata.experiments.lock import Stopped, hold


def test_waits_says_so_once_and_leaves_no_file(tmp_path: Path):
    file, stop, said, order = tmp_path / "locks" / "a", threading.Event(), [], []

    def second() -> None:
        with hold(file, stop, lambda: said.append("waiting")):
            order.append("second")

    with hold(file, stop, lambda: said.append("wrong")):
        waiter = threading.Thread(target=second)
        waiter.start()
        time.sleep(3 * lock.POLL)
        order.append("first")
    waiter.join(5)
    assert order == ["first", "second"] and said == ["waiting"]
    assert not any(file.parent.iterdir())


def test_waiting_can_be_stopped(tmp_path: Path):
    stop, ended = threading.Event(), []

    def wait() -> None:
        with pytest.raises(Stopped), hold(tmp_path / "a", stop, lambda: None):
            ended.append("had it")
        ended.append("stopped")

    with hold(tmp_path / "a", threading.Event(), lambda: None):
        waiter = threading.Thread(target=wait)
        waiter.start()
        time.sleep(0.1)
        stop.set()
        waiter.join(5)
        assert ended == ["stopped"]
    with pytest.raises(Stopped), hold(tmp_path / "a", stop, lambda: None):
        ended.append("begun after the stop")
    assert ended == ["stopped"]


def test_never_two_holders_though_each_removes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lock, "POLL", 0.0001)
    inside, most, done = [], [], []

    def work() -> None:
        for _ in range(40):
            with hold(tmp_path / "a", threading.Event(), lambda: None):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0001)
                inside.pop()
        done.append(1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 6 and max(most) == 1
    assert not any(tmp_path.iterdir())
