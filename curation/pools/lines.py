"""Byte offsets of the lines of a text file: any line can then be read without the ones before it."""

import gzip
import mmap
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strata.curation.errors import ConfigError, DataError

_BLOCK = 1 << 24  # bytes searched for line ends at a time


class LineFile:
    """The lines of a file that are not blank. A ``.gz`` is unpacked into memory, once per process.

    Attributes:
        starts, stops: bytes of each line, without its end ("\\n" or "\\r\\n"). int64 [n].
        numbers: line number of each, from 1, blank lines counted. int64 [n].
    """

    def __init__(self, path: Path, most_unpacked: int) -> None:
        self.path, self._most = path, most_unpacked
        self._data: mmap.mmap | bytes | None = None
        self.starts, self.stops, self.numbers = _index(self.data)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def data(self) -> mmap.mmap | bytes:
        """All bytes: a memory map, or what was unpacked."""
        if self._data is None:
            self._data = _unpacked(self.path, self._most) if self.path.suffix == ".gz" else _mapped(self.path)
        return self._data

    def line(self, index: int) -> bytes:
        """The bytes of a line that is not blank."""
        return self.data[int(self.starts[index]) : int(self.stops[index])]

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_data": None}


def _mapped(path: Path) -> mmap.mmap | bytes:
    with open(path, "rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""


def _unpacked(path: Path, most: int) -> bytes:
    try:
        with gzip.open(path) as stream:
            data = stream.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be unpacked ({error}); fetch it again") from error
    if len(data) > most:
        problem = f"{path} unpacks to more than {most >> 20} MiB, and a packed file has no random access"
        raise ConfigError("pool.unpacked_mib", problem, f"unpack it: gunzip -k {path.name}")
    return data


def _index(data: mmap.mmap | bytes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    size = len(data)
    ends = [np.empty(0, np.int64)]
    for start in range(0, size, _BLOCK):
        block = np.frombuffer(data[start : start + _BLOCK], np.uint8)
        ends.append(np.flatnonzero(block == 10).astype(np.int64) + start)
    if size and data[size - 1] != 10:
        ends.append(np.array([size], np.int64))
    stops = np.concatenate(ends)
    starts = np.concatenate([[0], stops + 1])[: len(stops)].astype(np.int64)
    kept = np.ones(len(stops), bool)
    for i in np.flatnonzero(stops - starts < 16).tolist():  # a longer line of blanks only is a bad line
        kept[i] = bool(data[int(starts[i]) : int(stops[i])].strip())
    numbers = np.flatnonzero(kept) + 1
    starts, stops = starts[kept], stops[kept]
    carriage = np.array([data[stop - 1] == 13 for stop in stops.tolist()], bool) if size else np.empty(0, bool)
    return starts, stops - carriage, numbers
