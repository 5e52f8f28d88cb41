"""Find and open what ``HFDatasetPool`` is asked for: a local folder, or a data set of the Hugging Face Hub."""

import re
from pathlib import Path
from typing import Any

from strata.curation.errors import ConfigError
from strata.curation.paths import resolve_data_path

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_FIX = "give a folder that datasets can read, or a hub id (which needs the network unless it is cached)"


def local_folder(path: str) -> Path | None:
    """Where the data lie, or None for a hub id.

    Raises:
        ConfigError: it is not there, and not of the form ``name`` or ``owner/name`` either.
    """
    try:
        return resolve_data_path(path)
    except ConfigError:
        if _HUB_ID.fullmatch(path):
            return None
        raise


def load(
    path: str, folder: Path | None, split: str | None, config: str | None, revision: str | None, cache: str | None
) -> Any:
    """The ``datasets.Dataset``. Touches the network only if ``folder`` is None.

    Raises:
        ConfigError: it cannot be loaded, or has no such split.
    """
    import datasets  # slow to import

    try:
        if folder is None:
            loaded = datasets.load_dataset(path, config, split=split, revision=revision, cache_dir=cache)
        elif (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
            loaded = datasets.load_from_disk(str(folder))
        else:
            loaded = datasets.load_dataset(str(folder), config, split=split, cache_dir=cache)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        where = f"{path!r} is no local folder, and as a hub id it" if folder is None else str(folder)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError("pool.path", f"{where} with split {split!r} cannot be loaded: {reason}", _FIX) from error
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise ConfigError("pool.split", f"{path} has no split {split!r}", f"choose one of {sorted(loaded)}")
        return loaded[split]
    if split is not None and str(loaded.split) != split:
        raise ConfigError("pool.split", f"{path} holds one data set, of split {loaded.split}", "set pool.split=null")
    return loaded
