"""What pools of points drawn in memory share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from strata.curation.pools.fingerprint import digest_json
from strata.curation.pools.items import check_row


class DrawnPoints:
    """Points [n, d]; an item is its float32 coordinates [d].

    Args:
        reader: who drew them, part of the fingerprint.
        points: kept as float32.
        name: of the pool.
        labels: class of each point, if there are classes.
        label_names: of the classes.
    """

    def __init__(
        self,
        reader: str,
        points: Float[np.ndarray, "n d"],
        name: str,
        labels: NDArray[np.int64] | None = None,
        label_names: list[str] | None = None,
    ) -> None:
        self._reader, self._points = reader, points.astype(np.float32)
        self.name, self.labels, self.label_names = name, labels, label_names

    def __len__(self) -> int:
        return len(self._points)

    def __getitem__(self, row: int) -> Any:
        """Coordinates of a point, float32 [d]. IndexError past the end."""
        return self._points[check_row(row, len(self))]

    @property
    def dim(self) -> int:
        """Number of axes."""
        return self._points.shape[1]

    @property
    def ids(self) -> Sequence[str]:
        """``point-000042``."""
        return [f"point-{row:06d}" for row in range(len(self))]

    @property
    def fingerprint(self) -> str:
        """Of the coordinates."""
        return digest_json({"reader": self._reader, "points": self._points.tobytes().hex()})
