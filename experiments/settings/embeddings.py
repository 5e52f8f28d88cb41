"""Embeddings that a setting names: a store of `strata embed`, or a file."""

from pathlib import Path
from typing import Any

import numpy as np

from strata.curation.errors import ConfigError, StrataError
from strata.curation.store import EmbeddingStore


def open_embeddings(value: Any, field: str) -> tuple[Any, str]:
    """Rows [n, d] (an ``EmbeddingStore``, or the memory map of a .npy file), and their content key where they have one.

    Raises:
        ConfigError: not given, not there, or no embeddings.
    """
    if not isinstance(value, str) or not value:
        raise ConfigError(field, "not given", f"add {field}=FOLDER of `strata embed`, or {field}=FILE.npy")
    path = Path(value)
    if path.suffix == ".npy" and path.is_file():
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ConfigError(
                field, f"{path} cannot be read ({' '.join(str(error).split())})", "save it again"
            ) from error
        if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "fiu":
            raise ConfigError(field, f"{path} holds {array.dtype} {array.shape}", "give numbers [n, d]")
        return array, ""
    try:
        store = EmbeddingStore.open(path)
    except StrataError as error:
        raise ConfigError(field, str(error), "give a folder of `strata embed`, or a .npy file") from error
    return store, str(store.manifest["key"])


def ids_and_labels(rows: Any) -> tuple[list[str], Any, list[str] | None]:
    """Id and label of each row, and the labels' names; of a plain array the row numbers, and no labels."""
    if isinstance(rows, EmbeddingStore):
        return rows.ids, rows.labels, rows.manifest.get("label_names")
    return [str(row) for row in range(len(rows))], None, None
