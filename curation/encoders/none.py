"""No encoder: the items of the pool are embeddings already."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from strata.curation.pools.base import Pool
from strata.curation.pools.content import Kind


class GivenVectors:
    """Stands where an encoder is asked for. The stage ``embed`` links the pool's files instead of encoding."""

    name = "none"
    reads: ClassVar[Kind] = "vectors"

    def __init__(self) -> None:
        self._dim = 0

    @property
    def dim(self) -> int:
        """Length of a vector; 0 before ``fit``."""
        return self._dim

    @property
    def transform(self) -> Callable[[Any], Tensor]:
        """Vector -> tensor."""
        return torch.from_numpy

    def fit(self, pool: Pool, work_dir: Path) -> None:
        """Nothing to learn but the length of a vector."""
        self._dim = len(pool[0])

    def encode(self, batch: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """The vectors as they are."""
        return batch

    def describe(self) -> dict[str, Any]:
        """See Encoder."""
        return {
            "name": self.name,
            "model": None,
            "weights_sha256": None,
            "pooling": None,
            "normalization": None,
            "transform": None,
        }

    def to(self, device: str | torch.device) -> Self:
        """Nothing to move."""
        return self
