"""What every pool is: a length, items by row, stable ids, optional labels and a content fingerprint."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from strata.curation.errors import DataError


class UnreadableItem(DataError):
    """An item cannot be decoded. Carries the row and the item's id."""

    def __init__(self, row: int, item_id: str, why: str) -> None:
        self.row, self.item_id, self.why = row, item_id, why
        super().__init__(f"item {item_id!r} (row {row}) cannot be read: {why}; remove it or set on_error=skip")


@runtime_checkable
class Pool(Protocol):
    """A random-access collection of items. Opening one reads metadata only; ``pool[row]`` decodes one item.

    Items are images unless the pool has an attribute ``kind`` that says otherwise (see ``content.py``).

    A pool survives being sent to a worker process (no open handles in its pickled state), and its items do not
    depend on the order in which they are read.
    """

    name: str
    labels: NDArray[np.int64] | None  # [n], -1 = no label for this item
    label_names: list[str] | None  # name of each class id, including classes with no item

    @property
    def ids(self) -> Sequence[str]:
        """Stable, unique id of each item, in row order (a path, a key)."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hex digest of the content and the order of the items: the same data in another folder has the same one."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Any:
        """The item at a row: an image of mode RGB, a ``str`` or a vector.

        Raises UnreadableItem for a corrupt one, IndexError past the end.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What the manifest says about it: source, split, options. JSON-able."""
        ...
