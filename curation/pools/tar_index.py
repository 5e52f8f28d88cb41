"""Where the files of a plain tar lie, grouped into samples by WebDataset's naming."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from strata.curation.errors import DataError


@dataclass
class Sample:
    """Neighboring members with the same key: ``a/b.seg.png`` has key ``a/b`` and ending ``seg.png``.

    The format: webdataset/webdataset#webdataset/tariterators.py, ``base_plus_ext``.
    """

    key: str
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)  # ending in lower case -> (offset, bytes)


def read_samples(path: Path) -> Iterator[Sample]:
    """The samples of a shard in order. Only headers are read. A member whose ending its sample has begins a new sample.

    Raises:
        DataError: not an uncompressed tar, or damaged or cut short.
    """
    current: Sample | None = None
    for name, offset, size in _members(path):
        folder, _, file = name.rpartition("/")
        base, dot, ending = file.partition(".")
        if not base or not dot:  # no ending, or hidden, as macOS's "._" files
            continue
        key, ending = f"{folder}/{base}" if folder else base, ending.lower()
        if current is None or current.key != key or ending in current.parts:
            if current is not None:
                yield current
            current = Sample(key)
        current.parts[ending] = (offset, size)
    if current is not None:
        yield current


def _members(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, first byte and size of every regular file."""
    try:
        with open(path, "rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
                if member.isreg() and not member.issparse():
                    yield member.name, member.offset_data, member.size
            # tarfile takes a damaged header for the end: the end is zeros, or the end of the file.
            stream.seek(tar.offset)
            if stream.read(512).strip(b"\0"):
                raise DataError(f"{path} is damaged after byte {tar.offset}; fetch it again")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{path} is not a whole, uncompressed tar ({error}); unpack or fetch it again") from error
