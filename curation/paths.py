"""Where data sets lie: one root folder (``STRATA_DATA``), and how a path in a config is looked up."""

import os
from pathlib import Path

from strata.curation.errors import ConfigError

ENV = "STRATA_DATA"
_SET_IT = f"give another path, or set {ENV} to the folder that holds the data sets"


def data_root() -> Path | None:
    """The folder that holds the data sets, or None if there is none.

    The first that exists of: ``$STRATA_DATA``; ``data`` and ``../shared/data`` next to the working directory; the same
    two next to the repository, when strata runs from a checkout (editable install).

    Raises:
        ConfigError: ``STRATA_DATA`` is set to something that is not a folder: a typo there must not fall through to
            other data.
    """
    asked = os.environ.get(ENV)
    if asked:
        root = Path(asked).expanduser()
        if not root.is_dir():
            raise ConfigError(
                ENV, f"{asked!r} is not a folder", f"set {ENV} to the folder of the data sets, or unset it"
            )
        return root.resolve()
    bases = [Path.cwd()]
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "pyproject.toml").is_file():
        bases.append(checkout)
    for base in bases:
        for candidate in (base / "data", base.parent / "shared" / "data"):
            if candidate.is_dir():
                return candidate.resolve()
    return None


def resolve_data_path(path: str | Path, field: str = "pool.path") -> Path:
    """The absolute path of an existing file or folder that a config names.

    An absolute path stays as it is; a relative one is looked up in the working directory, then in ``data_root()``.

    Args:
        path: as the user wrote it; ``~`` is expanded.
        field: config field to name in the error.

    Raises:
        ConfigError: it is nowhere; the message lists where it was looked for.
    """
    if not str(path):
        raise ConfigError(field, "is empty", "give the path of a data set")
    wanted = Path(path).expanduser()
    if wanted.is_absolute():
        if not wanted.exists():
            raise ConfigError(field, f"{wanted} does not exist", _SET_IT)
        return wanted
    root = data_root()
    places = [Path.cwd() / wanted] + ([root / wanted] if root is not None else [])
    for place in places:
        if place.exists():
            return place.resolve()
    looked = ", ".join(str(place) for place in places)
    raise ConfigError(field, f"{str(path)!r} was not found (looked for {looked})", _SET_IT)
