"""Content fingerprints: the same data in another folder has the same one, changed data has another.

Reading hundreds of gigabytes only to name a data set would cost hours, so large content is sampled:

* a file up to 64 MiB is hashed whole; of a larger one, its size and its first and last MiB;
* a folder tree: the relative name and size of every file, and the content (by the rule above) of all files up to 1 GiB
  in total, otherwise of 1,000 evenly spaced ones.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

WHOLE_FILE = 64 * 2**20  # bytes
EDGE = 2**20  # bytes
WHOLE_TREE = 2**30  # bytes
SAMPLED_FILES = 1000


def digest_file(path: Path) -> str:
    """Hex sha256 of a file's content: whole up to 64 MiB, otherwise of its size and its first and last MiB."""
    size = path.stat().st_size
    with open(path, "rb") as stream:
        if size <= WHOLE_FILE:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        digest = hashlib.sha256(str(size).encode())
        digest.update(stream.read(EDGE))
        stream.seek(-EDGE, 2)
        digest.update(stream.read(EDGE))
    return digest.hexdigest()


def digest_tree(root: Path, names: Sequence[str]) -> str:
    """Hex sha256 of files under ``root``: names and sizes of all, and content by the rule of this module.

    Args:
        root: the folder; its own name and place do not count.
        names: relative POSIX paths, in the pool's order.
    """
    sizes = [(root / name).stat().st_size for name in names]
    return digest_items(names, sizes, lambda i: digest_file(root / names[i]))


def digest_items(names: Sequence[str], sizes: Sequence[int], content: Callable[[int], str]) -> str:
    """The same for items that need not be files: ``content(i)`` is the digest of item i, ``sizes`` its bytes."""
    step = 1 if sum(sizes) <= WHOLE_TREE else max(1, len(names) // SAMPLED_FILES)
    digest = hashlib.sha256()
    for i, (name, size) in enumerate(zip(names, sizes, strict=True)):
        line = f"{name}\0{size}\0{content(i) if i % step == 0 else ''}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def digest_json(value: Any) -> str:
    """Hex sha256 of a JSON-able value, keys sorted."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
