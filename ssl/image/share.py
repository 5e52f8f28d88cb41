"""Which images of a step one forward pass sees, so that several processes, or several parts of a step, add up to one.

Whatever is random about an image is drawn for all images of the step, from the seed and the step alone, and each pass
takes its stretch: the crops, masks and dropped residuals of an image are the same on any number of processes.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch.distributed as dist
from jaxtyping import Int, UInt8
from torch import Tensor

from strata.ssl.losses.group import world_size


class Batch(NamedTuple):
    """What a training step is given.

    ``step`` counts optimizer steps from 0; ``part`` counts the passes that make up a step (``accumulate`` of them).
    ``extents`` are height and width of what each image covers of its square, from the top left; None: all of it.
    """

    step: int
    images: UInt8[Tensor, "b c s s"]
    part: int = 0
    extents: Int[Tensor, "b 2"] | None = None


@dataclass(frozen=True)
class Share:
    """The ``index``-th of ``count`` equal stretches of the ``total`` images of a step."""

    total: int
    index: int = 0
    count: int = 1

    @classmethod
    def here(cls, total: int, *, part: int = 0, parts: int = 1) -> Self:
        """That of this process of torch.distributed: parts follow each other, and within a part the processes."""
        world = world_size()
        rank = dist.get_rank() if world > 1 else 0
        return cls(total, part * world + rank, parts * world)

    @property
    def images(self) -> int:
        """How many these are."""
        return self.total // self.count

    @property
    def first(self) -> int:
        """The first of these images."""
        return self.index * self.images

    @property
    def last(self) -> int:
        """The one behind the last."""
        return self.first + self.images
