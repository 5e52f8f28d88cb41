"""Which files a path names: one file, the files of a folder, or those that a glob matches."""

import glob
from collections.abc import Sequence
from pathlib import Path

from strata.curation.errors import ConfigError
from strata.curation.paths import data_root, resolve_data_path


def find_files(path: str, endings: Sequence[str], field: str = "pool.path") -> list[Path]:
    """The files in order of their names.

    A folder gives the files directly in it that end in one of ``endings`` (hidden ones are left out); a glob such as
    ``shards/*.tar`` what it matches, in the working directory or else in ``data_root()``.

    Raises:
        ConfigError: there is nothing of that kind.
    """
    if is_glob(path):
        return _matches(path, field)
    found = resolve_data_path(path, field)
    if found.is_file():
        return [found]
    files = [file for file in sorted(found.iterdir()) if file.is_file() and has_ending(file, endings)]
    if not files:
        raise ConfigError(field, f"{found} holds no file ending in {', '.join(endings)}", "give another folder")
    return files


def is_glob(path: str) -> bool:
    """Whether a path is a pattern: it has ``*``, ``?`` or ``[`` and no file is named so."""
    return glob.has_magic(path) and not Path(path).expanduser().exists()


def has_ending(file: Path, endings: Sequence[str]) -> bool:
    """Whether a file that is not hidden ends so, in any case."""
    return not file.name.startswith(".") and file.name.lower().endswith(tuple(endings))


def _matches(pattern: str, field: str) -> list[Path]:
    root = data_root()
    for base in (Path.cwd(), *([] if root is None else [root])):
        found = glob.glob(str(base / Path(pattern).expanduser()), recursive=True)  # noqa: PTH207 (absolute patterns)
        files = sorted(Path(name) for name in found if Path(name).is_file())
        if files:
            return files
    raise ConfigError(field, f"no file matches {pattern!r}", "check the pattern; quote it, so that the shell leaves it")
