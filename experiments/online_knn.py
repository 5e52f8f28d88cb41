"""k-NN while a backbone trains: protocol knn-v1's vote, on rows that it is not trained on and that no table reports."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from strata.curation.encoders.timm_features import evaluation_transform
from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.curation.pools.subset import SubsetPool
from strata.eval.nearest import nearest_neighbors
from strata.eval.protocols.knn import vote

K, TEMPERATURE = 20, 0.07  # the protocol's headline


class OnlineKNN:
    """A probe for ``pretrain``: top-1 of queries among a bank, by the class token.

    Images go through the transform of the evaluators once and are kept as bytes.

    Args:
        bank: labelled images that vote.
        queries: labelled images of the same classes.
        size: pixels; side of the network's input.
        mean, std: as in training.
        name: of the measure.

    Raises:
        ConfigError: a pool has no labels, or the bank is too small.
    """

    def __init__(
        self,
        bank: Pool,
        queries: Pool,
        *,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        name: str = "knn_top1",
    ) -> None:
        for role, pool in (("bank", bank), ("queries", queries)):
            if pool.labels is None:
                raise ConfigError(f"online_knn.{role}", f"{pool.name} has no labels", "use a labelled pool")
        if len(bank) < K:
            raise ConfigError("online_knn.bank", f"holds {len(bank)} images", f"give at least {K}")
        self.name, self.mean, self.std = name, torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)
        self.bank, self.queries = (_read(pool, size) for pool in (bank, queries))
        self.bank_labels, self.query_labels = (np.asarray(pool.labels) for pool in (bank, queries))
        self.n_classes = int(max(self.bank_labels.max(), self.query_labels.max())) + 1

    @torch.no_grad()
    def __call__(self, vit: VisionTransformer) -> dict[str, float]:
        """The measure of a backbone, in eval mode."""
        return {self.name: self.accuracy(self._features(vit, self.bank), self._features(vit, self.queries))}

    def pixels(self) -> dict[str, float]:
        """The same of raw pixels, and of pixels less the mean image of the bank: the bars to clear."""
        bank, queries = (images.flatten(1).numpy() / 255.0 for images in (self.bank, self.queries))
        mean = bank.mean(axis=0)
        return {"pixels": self.accuracy(bank, queries), "pixels, centered": self.accuracy(bank - mean, queries - mean)}

    def accuracy(self, bank: Float[np.ndarray, "n d"], queries: Float[np.ndarray, "m d"]) -> float:
        """Share of queries whose class wins the vote."""
        similarity, rows = nearest_neighbors(queries, bank, K)
        won = vote(similarity, torch.from_numpy(self.bank_labels)[rows], self.n_classes, TEMPERATURE, [K])[K]
        return float((won.numpy() == self.query_labels).mean())

    def _features(self, vit: VisionTransformer, images: UInt8[Tensor, "n c s s"]) -> Float[np.ndarray, "n d"]:
        device = next(vit.parameters()).device
        found = []
        for batch in images.split(256):
            x = ((batch.float() / 255.0 - self.mean) / self.std).to(device)
            found.append(vit.forward_features(x)[:, 0].float().cpu())
        return torch.cat(found).numpy()


def held_out(pool: Pool, share: float, seed: int, limit: int | None = None) -> tuple[SubsetPool, SubsetPool]:
    """A pool cut in two at random: what is left, and the part held out, of at most ``limit`` rows each."""
    order: Int[np.ndarray, " n"] = np.random.default_rng(seed).permutation(len(pool))
    n = round(len(pool) * share)
    rest, out = np.sort(order[n:][:limit]), np.sort(order[:n][:limit])
    return SubsetPool(pool, rest, f"{pool.name}-rest"), SubsetPool(pool, out, f"{pool.name}-held-out")


def _read(pool: Pool, size: int) -> UInt8[Tensor, "n 3 s s"]:
    plain = {
        "input_size": (3, size, size),
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
    }
    transform, _ = evaluation_transform(plain)
    images: list[NDArray[np.uint8]] = []
    for row in range(len(pool)):
        images.append(np.rint(transform(pool[row].convert("RGB")).numpy() * 255.0).astype(np.uint8))
    return torch.from_numpy(np.stack(images))
