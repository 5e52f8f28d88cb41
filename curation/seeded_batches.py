"""Batch samplers whose every batch is a function of (seed, epoch, batch): exact resume, the same for any number of ranks."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int
from torch.utils.data import Sampler

from strata.curation.arguments import seed_sequence, whole_number
from strata.curation.errors import ConfigError

_SHUFFLE = 1  # spawn key of the order inside a rank's part, beside that of the batch


class SeededBatches(Sampler[list[int]], ABC):
    """Base of the batch samplers; give one as ``DataLoader(dataset, batch_sampler=...)``.

    An epoch has ``num_batches`` batches; without this number it does not end. Each iteration begins the next
    epoch (the first one: epoch 0, or where ``load_state_dict`` says). All ranks draw the same global batch and take disjoint
    parts of it, so give every rank the same seed. (Under Lightning's Trainer: ``use_distributed_sampler=False``.)

    Args:
        batch_size: rows of the global batch; every rank gets batch_size / world_size.
        num_batches: per epoch; None for endless.
        seed: of everything.
        rank, world_size: of this process.

    Raises:
        ConfigError: a setting cannot be.
    """

    def __init__(self, batch_size: int, num_batches: int | None, seed: int, rank: int, world_size: int) -> None:
        self.batch_size = whole_number("batch_size", batch_size, 1)
        self.num_batches = None if num_batches is None else whole_number("num_batches", num_batches, 1)
        self.seed = whole_number("seed", seed, 0)
        self.world_size = whole_number("world_size", world_size, 1)
        self.rank = whole_number("rank", rank, 0, self.world_size - 1)
        if self.batch_size % self.world_size:
            problem = f"{self.batch_size} rows for {self.world_size} ranks"
            raise ConfigError(
                "batch_size", problem, "give a multiple of world_size: it is the size of the global batch"
            )
        self._epoch, self._first = 0, 0  # the epoch under way or next, and the batch it began at
        self._given, self._begun = 0, False

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Int[np.ndarray, " b"]:
        """A global batch, in an order such that every world_size-th row is a fair part of it."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What the sequence of global batches depends on, JSON-able; it has to be the same on resume."""

    def batch(self, epoch: int, index: int) -> Int[np.ndarray, " b"]:
        """This rank's part of a batch, shuffled. int64 [batch_size / world_size]."""
        drawn = self.draw(np.random.default_rng(seed_sequence(self.seed, epoch, index)))[self.rank :: self.world_size]
        order = np.random.default_rng(seed_sequence(self.seed, epoch, index, _SHUFFLE, self.rank))
        return order.permutation(drawn)

    def __iter__(self) -> Iterator[list[int]]:
        # The epoch begins with the first batch drawn: a DataLoader makes iterators that it throws away.
        if self._begun:
            self._epoch, self._first = self._epoch + 1, 0
        self._begun, self._given = True, 0
        epoch, first = self._epoch, self._first
        for index in itertools.count(first) if self.num_batches is None else range(first, self.num_batches):
            rows = self.batch(epoch, index).tolist()
            if epoch == self._epoch:  # else a newer iterator has begun
                self._given = index + 1 - first
            yield rows

    def __len__(self) -> int:
        """Batches per epoch. Raises TypeError without ``num_batches``, as is the custom for endless samplers."""
        if self.num_batches is None:
            raise TypeError("the sampler is endless; set num_batches for a length")
        return self.num_batches

    def state_dict(self, consumed: int | None = None) -> dict[str, Any]:
        """Where to go on, JSON-able.

        Args:
            consumed: batches of this epoch that were trained on since it began or was resumed. A DataLoader with
                workers takes batches from the sampler before they are used: give the number of those that came out of
                the loader. By default, all that the sampler gave.

        Raises:
            ConfigError: more than the sampler gave.
        """
        used = self._given if consumed is None else whole_number("consumed", consumed, 0, self._given)
        epoch, batch = self._epoch, self._first + used
        if batch == self.num_batches:
            epoch, batch = epoch + 1, 0
        return {"epoch": epoch, "batch": batch, "settings": self._settings()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on there at the next iteration. Rank and world_size may be others than they were.

        Raises:
            ConfigError: the state is of a sampler with other settings, or is none.
        """
        for name in ("epoch", "batch", "settings"):
            if name not in state:
                raise ConfigError("state", f"has no {name!r}", "give what state_dict() returned")
        for name, mine in self._settings().items():
            if name not in state["settings"] or state["settings"][name] != mine:
                given = state["settings"].get(name)
                raise ConfigError(name, f"{mine!r}, but {given!r} in the state", "go on with the settings of the start")
        last = None if self.num_batches is None else self.num_batches - 1
        self._epoch = whole_number("state.epoch", state["epoch"], 0)
        self._first = whole_number("state.batch", state["batch"], 0, last)
        self._given, self._begun = 0, False

    def _settings(self) -> dict[str, Any]:
        common = {"batch_size": self.batch_size, "num_batches": self.num_batches, "seed": self.seed}
        return {"sampler": type(self).__name__, **common, **self.settings()}
