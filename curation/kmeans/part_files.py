"""Shared centroids as one file: each process writes its part, and any number of processes reads or maps the whole."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy.lib.format import open_memmap

from strata.curation.errors import DataError
from strata.curation.kmeans.share import Share


def write_parts(file: Path, centroids: Float[np.ndarray, "s d"], share: Share) -> None:
    """Write one array [k, d] into which each process of a share puts its part; whole when this returns.

    Raises:
        DataError: on every process, if one of them cannot write it, e.g. as it does not see the folder.
    """
    error = None
    try:
        if share.group.rank == 0:
            open_memmap(file, "w+", centroids.dtype, (share.k, centroids.shape[1])).flush()
    except OSError as found:
        error = _unwritten(file, share, found)
    share.group.agree(error)
    try:
        whole = open_memmap(file, "r+")
        whole[share.own] = centroids
        whole.flush()
        del whole
    except OSError as found:
        error = _unwritten(file, share, found)
    share.group.agree(error)


def mapped(
    centroids: Float[np.ndarray, "s d"], share: Share, name: str, folder: Path | None
) -> Float[np.ndarray, "k d"]:
    """All centroids, mapped from a file into which each process has written its part.

    Args:
        centroids: the part of this process.
        share: of all processes.
        name: of the file in ``folder``, which all processes see; it stays there. Without a folder it is a temporary
            file that has no name any more when this returns, and is gone with the last process that maps it.
    """
    if folder is not None:
        write_parts(folder / f"{name}.npy", centroids, share)
        return _map(folder / f"{name}.npy")
    own = tempfile.mkdtemp(prefix="strata-centroids-") if share.group.rank == 0 else None
    place = share.group.bytes_from_first(None if own is None else own.encode())
    assert place is not None
    try:
        file = Path(place.decode()) / f"{name}.npy"
        write_parts(file, centroids, share)
        whole = _map(file)
        share.group.barrier()
        return whole
    finally:
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)


def _map(file: Path) -> Float[np.ndarray, "k d"]:
    whole: Float[np.ndarray, "k d"] = np.load(file, mmap_mode="r", allow_pickle=False)
    return whole


def _unwritten(file: Path, share: Share, error: OSError) -> DataError:
    return DataError(
        f"process {share.group.rank} cannot write the centroids to {file} ({error.strerror}): set checkpoint_dir to a "
        "folder with room that all processes see"
    )
