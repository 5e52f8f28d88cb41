"""A lock between processes: waiting for it can be called off, a killed holder frees it, and it leaves no file."""

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

POLL = 0.2  # seconds between two tries


class Stopped(RuntimeError):
    """The command is ending, so nothing new is begun."""


@contextlib.contextmanager
def hold(file: Path, stop: threading.Event, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock that ``file`` stands for. Only the holder removes the file, so that none is left.

    Args:
        file: made with its folders while the lock is held.
        stop: set by another thread to end the waiting.
        on_wait: called once if another process holds it.

    Raises:
        Stopped: ``stop`` was set before the lock was had.
    """
    said = False
    while True:
        if stop.is_set():
            raise Stopped(f"stopped before {file.name}")
        stream = _take(file)
        if stream is not None:
            break
        if not said:
            on_wait()
            said = True
        stop.wait(POLL)  # polled, because a thread that sleeps in flock cannot be woken
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        stream.close()


def _take(file: Path) -> TextIO | None:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        stream = open(file, "a")  # noqa: SIM115
    except FileNotFoundError:  # another command has just removed the empty folder
        return None
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(stream.fileno()), file.stat()):
            return stream
    except (BlockingIOError, FileNotFoundError):
        pass
    stream.close()  # held by another, or it was the file of a holder who has removed it since
    return None
