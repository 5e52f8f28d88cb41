"""A folder of image files, with or without a sub-folder per class."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strata.curation.errors import ConfigError
from strata.curation.paths import resolve_data_path
from strata.curation.pools.base import UnreadableItem
from strata.curation.pools.fingerprint import digest_json, digest_tree
from strata.curation.pools.items import check_row, decode_image, pool_name

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


class ImageFolderPool:
    """Every image file under a folder, at any depth, sorted by relative path. Hidden files and folders are left out.

    The class is the first-level sub-folder; class ids follow the sorted names of all of them, also of those without an
    image. A file that lies directly in the folder has label -1. With no sub-folders there are no labels. The file's
    relative POSIX path is its id.

    Args:
        path: the folder; relative ones are looked up in the working directory, then in ``data_root()``.
        extensions: endings that make a file an image, in any case.
        labels_from_folders: False for sub-folders that are no classes.
        name: defaults to the folder's name.

    Raises:
        ConfigError: no such folder, or no image in it.
    """

    def __init__(
        self,
        path: str,
        extensions: Sequence[str] = EXTENSIONS,
        labels_from_folders: bool = True,
        name: str | None = None,
    ) -> None:
        self._source = path
        self._root = resolve_data_path(path)
        if not self._root.is_dir():
            raise ConfigError("pool.path", f"{self._root} is a file", "give the folder that holds the images")
        self._extensions = tuple(sorted({ending.lower() for ending in extensions}))
        if not self._extensions or not all(ending.startswith(".") for ending in self._extensions):
            raise ConfigError("pool.extensions", f"is {list(extensions)}", "give endings such as .jpg")
        self._labels_from_folders = labels_from_folders
        self._files = _image_files(self._root, self._extensions)
        if not self._files:
            fix = "give another folder, or set pool.extensions"
            raise ConfigError("pool.path", f"{self._root} holds no file ending in {list(self._extensions)}", fix)
        self.name = pool_name(name, self._root.name)
        self.labels: NDArray[np.int64] | None = None
        self.label_names: list[str] | None = None
        self._fingerprint: str | None = None
        folders = sorted(f.name for f in self._root.iterdir() if f.is_dir() and not f.name.startswith("."))
        if labels_from_folders and folders:
            number = {folder: i for i, folder in enumerate(folders)}
            classes = [number[file.split("/", 1)[0]] if "/" in file else -1 for file in self._files]
            self.labels, self.label_names = np.array(classes, dtype=np.int64), folders

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int) -> Image.Image:
        """The image at a row, decoded to RGB.

        Raises:
            UnreadableItem: the file is gone, may not be read, or cannot be decoded.
            IndexError: there is no such row.
        """
        return decode_image(self.encoded(row), row, self._files[row])

    def encoded(self, row: int) -> bytes:
        """The bytes of the file at a row. Raises UnreadableItem if it cannot be read."""
        row = check_row(row, len(self))
        try:
            return (self._root / self._files[row]).read_bytes()
        except OSError as error:
            raise UnreadableItem(row, self._files[row], error.strerror or str(error)) from error

    def file(self, row: int) -> Path:
        """The file at a row, absolute."""
        return (self._root / self._files[check_row(row, len(self))]).absolute()

    @property
    def ids(self) -> Sequence[str]:
        """Relative POSIX path of each file."""
        return self._files

    @property
    def fingerprint(self) -> str:
        """Of the files' relative names, sizes and content (see ``fingerprint.py``)."""
        if self._fingerprint is None:
            tree = digest_tree(self._root, self._files)
            self._fingerprint = digest_json({"reader": "folder", "tree": tree, "classes": self.label_names})
        return self._fingerprint

    def describe(self) -> dict[str, Any]:
        """Reader, path as given, options."""
        return {
            "reader": "folder",
            "path": str(self._source),
            "extensions": list(self._extensions),
            "labels_from_folders": self._labels_from_folders,
        }


def _image_files(root: Path, extensions: tuple[str, ...]) -> list[str]:
    """Relative POSIX paths, sorted as strings so that every file system lists them alike."""
    found = []
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = Path(folder).relative_to(root)
        kept = [name for name in files if name.lower().endswith(extensions) and not name.startswith(".")]
        found += [(relative / name).as_posix() for name in kept]
    return sorted(found)
