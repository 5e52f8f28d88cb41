"""A codebook: points that stand for the rows of a pool. What curation methods are compared by in Figs. 2 and 3."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from jaxtyping import Float, Int

from strata.curation.artifact import create_artifact, read_manifest
from strata.curation.errors import DataError


@dataclass
class Codebook:
    """Representative points, and which one each row of the pool belongs to."""

    points: Float[np.ndarray, "m d"]  # float64
    labels: Int[np.ndarray, " n"]  # int32 in [0, m), -1 for rows that belong to none
    n_draws: int = 1  # independent codebooks in ``points``, one after the other; a measure is their mean

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or not len(self.points) or not np.isfinite(self.points).all():
            raise DataError(
                f"a codebook of shape {self.points.shape} is no finite [m, d]; change the method's settings"
            )
        if len(self.labels) and not -1 <= self.labels.min() <= self.labels.max() < len(self.points):
            raise DataError(f"labels {self.labels.min()} to {self.labels.max()} of {len(self.points)} points")

    def save(
        self, path: str | Path, *, key: str = "", inputs: Mapping[str, str] | None = None, config: Any = None
    ) -> None:
        """Write an artifact folder of kind "codebook": points.npy, labels.npy."""
        with create_artifact(path, "codebook", key=key, inputs=inputs, config=config) as draft:
            np.save(draft.path / "points.npy", self.points)
            np.save(draft.path / "labels.npy", self.labels)
            counts = {"n": len(self.labels), "n_points": len(self.points) // self.n_draws, "n_draws": self.n_draws}
            draft.meta.update(counts, n_left_out=int((self.labels < 0).sum()))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            DataError: not a finished codebook, or its files are damaged.
        """
        manifest = read_manifest(path, "codebook")
        try:
            points, labels = (np.load(Path(path) / f"{name}.npy", allow_pickle=False) for name in ("points", "labels"))
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path} cannot be read ({error}); run the stage again") from error
        return cls(points, labels, manifest["n_draws"])


class CodebookMethod(Protocol):
    """A way to choose a codebook."""

    def fit(self, X: Float[np.ndarray, "n d"], random_state: int) -> Codebook:
        """The codebook of the rows of ``X`` (float64)."""
        ...
