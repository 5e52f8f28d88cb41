"""What linear heads read of a split, in float32 on the device: at once where it fits, else batch by batch from disk."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from strata.eval.features import Features

RESIDENT_BYTES = 2 << 30  # a split up to this size is read once and kept on the device


class HeadInputs:
    """Class tokens of the last blocks and the mean patch token of the last one, side by side.

    Every input of DINOv2's grid is a range of these columns: the last n class tokens end where the mean patch token
    begins. So a batch is read once for all of them.

    Args:
        features: the split.
        n_blocks: most blocks that a head reads.
        device: where batches go.
    """

    def __init__(self, features: Features, n_blocks: int, device: torch.device | str) -> None:
        self.features, self.n_blocks, self.device = features, n_blocks, torch.device(device)
        self.dim = features.cls.shape[2]
        small = len(features) * (n_blocks + 1) * self.dim * 4 <= RESIDENT_BYTES
        self._kept = self._read(np.arange(len(features))) if small else None

    def batch(self, rows: Int[np.ndarray, " b"]) -> Float[Tensor, "b W"]:
        """All columns of some rows."""
        if self._kept is None:
            return self._read(rows)
        return self._kept[torch.from_numpy(rows).to(self.device)]

    def columns(self, n_blocks: int, avgpool: bool) -> slice:
        """Where the input of a head stands."""
        return slice((self.n_blocks - n_blocks) * self.dim, (self.n_blocks + avgpool) * self.dim)

    def _read(self, rows: Int[np.ndarray, " b"]) -> Float[Tensor, "b W"]:
        block = np.empty((len(rows), (self.n_blocks + 1) * self.dim), np.float32)
        block[:, : -self.dim] = self.features.cls[rows, -self.n_blocks :].reshape(len(rows), -1)
        block[:, -self.dim :] = self.features.avg[rows, -1]
        return torch.from_numpy(block).to(self.device)


def read_input(
    features: Features, rows: Int[np.ndarray, " b"], n_blocks: int, avgpool: bool, device: torch.device | str
) -> Float[Tensor, "b D"]:
    """What a head reads: class tokens of the last blocks, then the mean patch token of the last one; float32."""
    parts = [features.cls[rows, -n_blocks:].reshape(len(rows), -1)]
    if avgpool:
        parts.append(features.avg[rows, -1])
    return torch.from_numpy(np.concatenate(parts, axis=1, dtype=np.float32)).to(device)
