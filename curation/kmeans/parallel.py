"""Independent pieces of work on the CPU, shared out to threads that each multiply matrices on one core."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def for_each(work: Callable[[T], object], pieces: Iterable[T]) -> None:
    """Call ``work`` on every piece, on ``torch.get_num_threads()`` threads. Its first exception is raised.

    One matrix product per core loses no time at barriers, as one product on all cores does.
    """
    todo = list(pieces)
    threads = min(torch.get_num_threads(), len(todo))
    if threads <= 1:
        for piece in todo:
            work(piece)
        return
    before = torch.get_num_threads()
    try:  # the setting is per thread, but threads made later start from the last value set
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(work, todo):
                pass
    finally:
        torch.set_num_threads(before)
