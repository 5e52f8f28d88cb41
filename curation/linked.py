"""Files that an artifact refers to instead of holding a copy: the user's own, and they may change."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strata.curation.errors import DataError
from strata.curation.pools.fingerprint import digest_file


def link_record(path: Path) -> dict[str, Any]:
    """What a manifest keeps of a file: size, time of change and digest (by the rule of ``fingerprint.py``)."""
    state = path.stat()
    return {"bytes": state.st_size, "mtime_ns": state.st_mtime_ns, "digest": digest_file(path)}


def check_unchanged(path: Path, record: Mapping[str, Any]) -> None:
    """Raise a DataError unless the file is as it was: same size and time, or same size and digest."""
    if not path.is_file():
        raise DataError(f"{path} is gone, and was not copied; put it back, or run with the file where it is now")
    state = path.stat()
    if (state.st_size, state.st_mtime_ns) == (record["bytes"], record["mtime_ns"]):
        return
    if state.st_size != record["bytes"] or digest_file(path) != record["digest"]:
        raise DataError(f"{path} has changed since it was read; run the same command again, or put the old file back")
