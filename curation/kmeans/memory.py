"""The memory setting: how much a fit may hold of the rows, and blocks that are read ahead where that is less than all."""

import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from strata.curation.errors import ConfigError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_memory(memory: int | str | None, field: str = "hierarchy.memory") -> int | None:
    """Bytes of a setting such as ``2_000_000_000`` or "1.5GB"; None stays None (no limit is set).

    Raises:
        ConfigError: of ``field``.
    """
    if memory is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?\s*", str(memory), re.IGNORECASE)
    size = 0 if match is None or isinstance(memory, bool) else int(float(match[1]) * _UNITS[match[2].upper()])
    if size < 1 << 20:
        raise ConfigError(field, f"{memory!r}", 'give bytes, at least 1 MB, e.g. "4GB", or null for no limit')
    return size


class ReadAhead:
    """Blocks made on demand, one held and the next made meanwhile by a thread."""

    def __init__(self, make: Callable[[int, int], Tensor], n: int, block: int) -> None:
        self._make, self._n, self._block = make, n, block
        self._held: tuple[int, Tensor] | None = None
        self._next: tuple[int, Future[Tensor]] | None = None
        self._thread = ThreadPoolExecutor(1, "read-ahead")

    def get(self, start: int, stop: int) -> Tensor:
        """The block from ``start``; the one after it (after the last, the first) is begun."""
        if self._held is not None and self._held[0] == start:
            return self._held[1]
        self._held = None  # before the next is awaited: two blocks at a time, not three
        begun = self._next is not None and self._next[0] == start
        block = self._next[1].result() if self._next is not None and begun else self._make(start, stop)
        self._held = start, block
        after = stop if stop < self._n else 0
        self._next = after, self._thread.submit(self._make, after, min(after + self._block, self._n))
        return block
