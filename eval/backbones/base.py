"""What every network under test is read as: tokens of its last blocks, or one pooled vector."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from strata.curation.pools.content import Kind

MAX_BLOCKS = 4  # DINOv2's linear protocol reads the last 1 or 4


@dataclass(frozen=True)
class Tokens:
    """What a batch gives, the last block at the end of L.

    Attributes:
        cls: class tokens. Of a transformer without one: the mean of its patch tokens; of a network that is not read by
            tokens: its pooled features, with L = 1.
        patches: patch tokens of the same blocks, row by row of the grid; None where there are none.
    """

    cls: Float[Tensor, "b L d"]
    patches: Float[Tensor, "b L p d"] | None


class Network(ABC):
    """An opened network.

    Attributes:
        module: in eval mode, without gradients.
        transform: image -> tensor [3, h, w].
        n_blocks: L of what ``read`` gives.
        dim: d.
        grid: rows and columns of the patch tokens; None where there are none.
        reads: what stands in ``cls``: "class token", "mean patch token" or "pooled features".
        items: what its transform takes: images, or tiles of as many bands as it was trained on.
    """

    module: nn.Module
    transform: Callable[[Image.Image], Tensor]
    n_blocks: int
    dim: int
    grid: tuple[int, int] | None
    reads: str
    items: Kind = "images"

    @abstractmethod
    def read(self, batch: Float[Tensor, "b 3 h w"]) -> Tokens:
        """One forward pass, without gradients, on the device of the weights."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """At least ``weights_sha256`` and ``transform``; JSON-able."""
