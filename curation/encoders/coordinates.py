"""The encoder of pools whose items are vectors already: it hands them on as they are."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool


def as_vector(item: Any) -> Float[Tensor, " d"]:
    """Coordinates of an item as a float32 tensor.

    Raises:
        ConfigError: the item is no vector.
    """
    if not isinstance(item, np.ndarray) or item.ndim != 1:
        raise ConfigError("encoder", f"coordinates of a {type(item).__name__}", "use an encoder of images, or points")
    return torch.from_numpy(np.array(item, np.float32))


class Coordinates:
    """Embedding = the point itself, of ``dim`` axes."""

    name = "coordinates"

    def __init__(self, dim: int) -> None:
        if dim < 1:
            raise ConfigError("encoder.dim", f"{dim}", "give the number of axes of the points")
        self._dim = dim

    @property
    def dim(self) -> int:
        """Number of axes."""
        return self._dim

    @property
    def transform(self) -> Any:
        """Item -> float32 tensor [d]."""
        return as_vector

    def fit(self, pool: Pool, work_dir: Path) -> None:
        """Nothing to learn."""

    def encode(self, batch: Tensor) -> Float[Tensor, "b d"]:
        """The batch itself."""
        return batch

    def describe(self) -> dict[str, Any]:
        """No model, no transform."""
        return {
            "name": self.name,
            "model": None,
            "weights_sha256": None,
            "pooling": None,
            "normalization": None,
            "transform": None,
            "dim": self._dim,
        }

    def to(self, device: str | torch.device) -> Self:
        """Nothing is computed, so points stay where they are."""
        return self
