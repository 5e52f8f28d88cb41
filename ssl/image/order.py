"""Which images are in a step's batch: a pure function of (seed, step), so that a resumed run needs no state.

Every process draws the same global batch and takes its own share of it (``share.py``).
"""

from typing import Protocol

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from strata.curation.errors import ConfigError
from strata.curation.hierarchy import Hierarchy
from strata.curation.restrict import restrict_hierarchy
from strata.curation.seeded_batches import SeededBatches
from strata.curation.stratified import StratifiedBatchSampler, WeightedBatchSampler
from strata.ssl.image.config import ImageSSLConfig

_SHUFFLE, _DRAW = 0, 5  # streams of the run's seed; data.py has 1 to 4


class Order(Protocol):
    """A sequence of global batches."""

    def batch(self, step: int) -> Int[np.ndarray, " b"]:
        """Positions in the chosen rows, int64."""
        ...


class EpochOrder:
    """Shuffled epochs without end. Position p of the sequence lies in epoch p // m; a batch may run into the next one.

    Args:
        items: [m] what an epoch consists of; an item with 3 repeats is in it 3 times.
        batch_size: of the global batch.
        seed: of the shuffling.
    """

    def __init__(self, items: Int[np.ndarray, " m"], batch_size: int, seed: int) -> None:
        self.items, self.batch_size, self.seed = items, batch_size, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def batch(self, step: int) -> Int[np.ndarray, " b"]:
        """See ``Order``."""
        m = len(self.items)
        place, left, parts = step * self.batch_size, self.batch_size, []
        while left:
            order = self._permutation(place // m)[place % m :][:left]
            parts.append(order)
            place, left = place + len(order), left - len(order)
        return self.items[np.concatenate(parts)]

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng((self.seed, epoch, _SHUFFLE)).permutation(len(self.items))
        return self._order


class DrawnOrder:
    """The batches of a sampler of ``curation``: step s is its batch s of epoch 0."""

    def __init__(self, sampler: SeededBatches) -> None:
        self.sampler = sampler

    def batch(self, step: int) -> Int[np.ndarray, " b"]:
        """See ``Order``."""
        return self.sampler.batch(0, step)


def training_order(
    config: ImageSSLConfig,
    rows: Int[np.ndarray, " n"],
    repeats: Int[np.ndarray, " n"] | None,
    hierarchy: Hierarchy | None,
    seed: int,
) -> Order:
    """What ``config.sampling`` says.

    Args:
        config: the recipe.
        rows: of the pool; what is drawn are positions in them.
        repeats: how often each is in an epoch; once by default.
        hierarchy: of the whole pool, for "weighted" and "stratified".
        seed: of the run.

    Raises:
        ConfigError: a hierarchy is missing, of another pool, or of no use; rows are repeated where weights decide.
    """
    if config.sampling == "epoch":
        if hierarchy is not None:
            raise ConfigError("hierarchy", "ssl.sampling=epoch uses none", "leave it out, or sample by it")
        counts = np.ones(len(rows), np.int64) if repeats is None else repeats
        return EpochOrder(np.repeat(np.arange(len(rows)), counts), config.batch_size, seed)
    if hierarchy is None:
        raise ConfigError(
            "ssl.sampling", f"{config.sampling!r} needs a hierarchy of the pool", "give one, or use epoch"
        )
    if rows.max() >= hierarchy.n:
        raise ConfigError(
            "hierarchy", f"it has {hierarchy.n} rows, and row {rows.max()} is asked for", "cluster this pool"
        )
    if repeats is not None and (np.asarray(repeats) != 1).any():
        raise ConfigError("repeats", "the weights of a hierarchy say how often a row is seen", "draw each row once")
    tree = restrict_hierarchy(hierarchy, rows)
    stream = int(np.random.SeedSequence((seed, 0, _DRAW)).generate_state(1)[0])
    if config.sampling == "weighted":
        return DrawnOrder(WeightedBatchSampler(tree.weights(config.temperature), config.batch_size, seed=stream))
    return DrawnOrder(StratifiedBatchSampler(tree, config.batch_size, temperature=config.temperature, seed=stream))
