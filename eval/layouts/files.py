"""Images by a list of files, as published sets come: with labels, and with whatever else a benchmark knows of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from strata.curation.errors import ConfigError
from strata.curation.paths import resolve_data_path
from strata.curation.pools.base import UnreadableItem
from strata.curation.pools.fingerprint import digest_json, digest_tree
from strata.curation.pools.items import check_row, decode_image

IGNORE = 255  # class id of pixels that do not count, in maps of segmentation

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


class FilesPool:
    """A pool of image files; see ``curation/pools/base.py``. The path below the root is the id.

    Args:
        name: in tables.
        root: folder that the files are relative to.
        files: relative POSIX paths, at least one.
        labels: class id of each, or None.
        label_names: of all classes.
        extra: more columns for ``items.parquet``, one value (or list of whole numbers) an item; see ``Features.columns``.
        candidates: class ids that a prediction may be; None = all.
        boxes: part of each image to take; None = all of it.
        border: pixels to cut off on every side.
        about: what the manifest should say: the layout, its split.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        files: Sequence[str],
        labels: Sequence[int] | np.ndarray | None,
        label_names: Sequence[str] | None,
        *,
        extra: Mapping[str, Sequence[Any]] | None = None,
        candidates: Sequence[int] | None = None,
        boxes: Sequence[Box] | None = None,
        border: int = 0,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.root, self.files = name, root, list(files)
        self.labels = None if labels is None else np.asarray(labels, np.int64)
        self.label_names = None if label_names is None else [str(label) for label in label_names]
        self.extra = dict(extra or {})
        self.candidates = None if candidates is None else [int(c) for c in candidates]
        self._boxes, self._border, self._about = boxes, border, dict(about or {})
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> Image.Image:
        """The image at a row, RGB, cut as ``boxes`` and ``border`` say.

        Raises:
            UnreadableItem: the file is gone or cannot be decoded. IndexError: there is no such row.
        """
        row = check_row(row, len(self))
        image = decode_image(self.encoded(row), row, self.files[row])
        if self._boxes is not None:
            image = image.crop(tuple(round(side) for side in self._boxes[row]))  # type: ignore[arg-type]
        if self._border:
            image = image.crop((self._border, self._border, image.width - self._border, image.height - self._border))
        return image

    def encoded(self, row: int) -> bytes:
        """The bytes of a file. Raises UnreadableItem."""
        return read_bytes(self.root, self.files[row], row)

    @property
    def ids(self) -> Sequence[str]:
        """The relative paths; of boxes, with the number of the item."""
        if self._boxes is None:
            return self.files
        return [f"{file}#{row}" for row, file in enumerate(self.files)]

    @property
    def fingerprint(self) -> str:
        """Of the files' names and content, the labels, and all else that is given."""
        if self._fingerprint is None:
            self._fingerprint = digest_json(
                {
                    "reader": "files",
                    "tree": digest_tree(self.root, self.files),
                    "labels": None if self.labels is None else self.labels.tolist(),
                    "classes": self.label_names,
                    "extra": {name: list(values) for name, values in self.extra.items()},
                    "candidates": self.candidates,
                    "boxes": None if self._boxes is None else [list(box) for box in self._boxes],
                    "border": self._border,
                }
            )
        return self._fingerprint

    def describe(self) -> dict[str, Any]:
        """The layout and its root."""
        return {"reader": "files", "root": str(self.root), **self._about}


class MapsPool(FilesPool):
    """Images with a map each, in a file beside them.

    Args:
        maps: relative paths of the maps' files.
        decode: image of a map as it is stored (a PIL image) -> [height, width]; a function of a module, or a dataclass
            instance with ``__call__``, so that it can be sent to a worker. Its ``repr`` names it in the fingerprint.
        task_info: what the protocol must know of the maps, e.g. the range of depths.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        files: Sequence[str],
        maps: Sequence[str],
        decode: Callable[[Image.Image], np.ndarray],
        label_names: Sequence[str] | None = None,
        *,
        task_info: Mapping[str, Any] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name, root, files, None, label_names, about=about)
        self.maps, self._decode, self.task_info = list(maps), decode, dict(task_info or {})

    def target(self, row: int) -> np.ndarray:
        """The map at a row, [height, width]. Raises UnreadableItem."""
        file = self.maps[check_row(row, len(self))]
        path = self.root / file
        try:
            with Image.open(path) as image:
                return self._decode(image)
        except (OSError, ValueError, SyntaxError) as error:
            raise UnreadableItem(row, file, str(error) or type(error).__name__) from error

    @property
    def fingerprint(self) -> str:
        """Of the images, the maps, and how these are read."""
        if self._fingerprint is None:
            images = super().fingerprint
            tree = digest_tree(self.root, self.maps)
            parts = {"images": images, "maps": tree, "decode": repr(self._decode), "task_info": self.task_info}
            self._fingerprint = digest_json({"reader": "maps", **parts})
        return self._fingerprint


def read_bytes(root: Path, file: str, row: int) -> bytes:
    """The bytes of an item's file. Raises UnreadableItem."""
    try:
        return (root / file).read_bytes()
    except OSError as error:
        raise UnreadableItem(row, file, error.strerror or str(error)) from error


def open_root(root: str, layout: str) -> Path:
    """The folder of a set.

    Args:
        root: as the config has it; relative ones are looked up in the working directory, then in ``data_root()``.
        layout: what is expected below it, for the message.

    Raises:
        ConfigError: it is not there.
    """
    try:
        return resolve_data_path(root, "pool.root")
    except ConfigError as error:
        fix = f"put the set there as it is published ({layout}), or give its folder, or set STRATA_DATA"
        raise ConfigError("pool.root", error.problem, fix) from error


def need(path: Path, layout: str) -> Path:
    """A file or folder of a layout. Raises a ConfigError with the layout if it is not there."""
    if not path.exists():
        raise ConfigError("pool.root", f"{path} is not there", f"the layout is {layout}")
    return path


def check_files(root: Path, files: Sequence[str], layout: str) -> None:
    """Raise a ConfigError if there are no files, or the first or last of a list is not there."""
    if not files:
        raise ConfigError("pool.root", f"{root} lists no image", f"the layout is {layout}")
    for file in (files[0], files[-1]):
        need(root / file, layout)


def choose(value: str, choices: Sequence[str], field: str = "pool.split") -> str:
    """A named choice. Raises a ConfigError."""
    if value not in choices:
        raise ConfigError(field, f"{value!r} is unknown", f"use one of {', '.join(choices)}")
    return value


def class_folders(folder: Path, layout: str) -> list[str]:
    """Names of the sub-folders, sorted. Raises a ConfigError if there are none."""
    found = sorted(entry.name for entry in need(folder, layout).iterdir() if entry.is_dir() and entry.name[0] != ".")
    if not found:
        raise ConfigError("pool.root", f"{folder} has no class folders", f"the layout is {layout}")
    return found


def images_in(folder: Path, below: Path) -> list[str]:
    """Image files of a folder, sorted, relative to ``below``."""
    endings = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.lower().endswith(endings))
    return [(folder / name).relative_to(below).as_posix() for name in names if not name.startswith(".")]
