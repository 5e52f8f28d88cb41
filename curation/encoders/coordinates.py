"""The encoder of pools whose items are vectors already: it hands them on as they are."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from strata.curation.encoders.none import GivenVectors
from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.curation.pools.content import Kind


def as_vector(item: Any) -> Float[Tensor, " d"]:
    """Coordinates of an item as a float32 tensor.

    Raises:
        ConfigError: the item is no vector.
    """
    if not isinstance(item, np.ndarray) or item.ndim != 1:
        raise ConfigError("encoder", f"coordinates of a {type(item).__name__}", "use an encoder of images, or points")
    return torch.from_numpy(np.array(item, np.float32))


class Coordinates(GivenVectors):
    """Embedding = the point itself, of ``dim`` axes, as float32."""

    name = "coordinates"
    reads: ClassVar[Kind] = "images"  # simulated pools do not say what they hold, and this is what that means

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim < 1:
            raise ConfigError("encoder.dim", f"{dim}", "give the number of axes of the points")
        self._dim = dim

    @property
    def transform(self) -> Any:
        """Item -> float32 tensor [d]."""
        return as_vector

    def fit(self, pool: Pool, work_dir: Path) -> None:
        """Nothing to learn."""

    def describe(self) -> dict[str, Any]:
        """No model, no transform."""
        return {**super().describe(), "dim": self._dim}
