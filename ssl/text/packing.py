"""Batches of packed sequences as a pure function of (seed, step): documents end to end, cut where a sequence is full.

An epoch is a shuffled row of documents, each between its first and last special token. The endless stream of epochs is
cut into sequences with no gap, so every token is predicted once an epoch (but a document's first token, which nothing
predicts), whatever the batch size, and any step can be asked for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from strata.curation.text.tokens import TokenStore

IGNORED = -1  # as a target: nothing is predicted here
_SHUFFLE = 10  # stream of the seed; others: model.py


@dataclass(frozen=True)
class Packed:
    """Sequences side by side.

    Attributes:
        step: optimizer step, from 0.
        tokens: ids.
        targets: the id to predict at each place, or IGNORED.
        documents: a number per place, equal where the document is.
        positions: of each token in its document as far as this sequence shows it.
        n_targets: targets in the whole batch of the step, also those of other devices and passes: what a sum of losses
            is divided by.
    """

    step: int
    tokens: Int[Tensor, "b t"]
    targets: Int[Tensor, "b t"]
    documents: Int[Tensor, "b t"]
    positions: Int[Tensor, "b t"]
    n_targets: int

    def rows(self, part: slice) -> "Packed":
        """Some of the sequences."""
        return self.mapped(lambda array: array[part])

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "Packed":
        """With each of the four arrays changed; the counts stay."""
        arrays = (change(array) for array in (self.tokens, self.targets, self.documents, self.positions))
        tokens, targets, documents, positions = arrays
        return Packed(self.step, tokens, targets, documents, positions, self.n_targets)

    def mask(self) -> Bool[Tensor, "b 1 t t"]:
        """Who sees whom: a place sees those before it in its own document, and itself."""
        length = self.tokens.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=self.tokens.device).tril()
        return ((self.documents[:, :, None] == self.documents[:, None, :]) & causal)[:, None]


class PackedStream:
    """The sequences of a run.

    Args:
        store: tokens of the pool's documents.
        order: [m] rows of the store, one entry per document of an epoch (one with 3 repeats has 3 entries).
        seq_len: tokens of a sequence.
        batch_size: sequences of a step.
        seed: of the shuffling.
        isolated: whether a document's end and the next one's beginning are apart: positions start anew, and the first token
            of a document is no target. Else a sequence is one document.
    """

    def __init__(
        self,
        store: TokenStore,
        order: Int[np.ndarray, " m"],
        *,
        seq_len: int,
        batch_size: int,
        seed: int,
        isolated: bool = True,
    ) -> None:
        self.store, self.order, self.seed, self.isolated = store, np.asarray(order, np.int64), seed, isolated
        self.seq_len, self.batch_size = seq_len, batch_size
        self.lengths = store.lengths[self.order] + 2
        self.epoch_tokens = int(self.lengths.sum())
        self._epoch, self._places, self._ends = -1, self.order[:0], self.order[:0]

    def batch(self, step: int) -> Packed:
        """All sequences of a step."""
        n = self.batch_size * self.seq_len
        tokens, documents = self._stretch(step * n, n + 1)  # one more: the last target
        shape = (self.batch_size, self.seq_len)
        here, after = documents[:-1], documents[1:]
        targets = tokens[1:].copy()
        if self.isolated:
            targets[here != after] = IGNORED
            shown = here.reshape(shape)
            first = np.concatenate([np.ones((shape[0], 1), bool), shown[:, 1:] != shown[:, :-1]], axis=1)
            places = np.broadcast_to(np.arange(self.seq_len), shape)
            positions = places - np.maximum.accumulate(np.where(first, places, 0), axis=1)
        else:
            shown = np.zeros(shape, np.int64)
            positions = np.broadcast_to(np.arange(self.seq_len), shape).copy()
        return Packed(
            step,
            torch.from_numpy(tokens[:-1].reshape(shape).copy()),
            torch.from_numpy(targets.reshape(shape)),
            torch.from_numpy(np.ascontiguousarray(shown)),
            torch.from_numpy(positions),
            int((targets >= 0).sum()),
        )

    def _stretch(self, start: int, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """``n`` tokens of the endless stream from ``start`` on, and the number of the document of each."""
        tokens, documents = np.empty(n, np.int64), np.empty(n, np.int64)
        done = 0
        while done < n:
            epoch, inside = divmod(start + done, self.epoch_tokens)
            self._load(epoch)
            index = int(np.searchsorted(self._ends, inside, side="right"))
            place = int(self._places[index])
            skip = inside - int(self._ends[index] - self.lengths[place])
            body = self.store.document(int(self.order[place]))
            whole = np.concatenate([[self.store.bos_id], body, [self.store.eos_id]])[skip : skip + n - done]
            tokens[done : done + len(whole)] = whole
            documents[done : done + len(whole)] = epoch * len(self.order) + index
            done += len(whole)
        return tokens, documents

    def _load(self, epoch: int) -> None:
        if epoch != self._epoch:
            self._epoch = epoch
            self._places = np.random.default_rng((self.seed, epoch, _SHUFFLE)).permutation(len(self.order))
            self._ends = np.cumsum(self.lengths[self._places])


class PackedBatches:
    """What one device trains on, for Lightning: its sequences of each step, in passes of ``micro`` sequences.

    Args:
        stream: the sequences of the run.
        start: first step: 0, or where a checkpoint stopped.
        stop: the step after the last.
        micro: sequences of one pass.
        rank: number of this device.
        world: how many there are.
    """

    def __init__(self, stream: PackedStream, *, start: int, stop: int, micro: int, rank: int, world: int) -> None:
        self.stream, self.start, self.stop = stream, start, stop
        self.micro, self.rank, self.world = micro, rank, world

    def __iter__(self) -> Iterator[Packed]:
        share = self.stream.batch_size // self.world
        for step in range(self.start, self.stop):
            batch = self.stream.batch(step)
            for first in range(self.rank * share, (self.rank + 1) * share, self.micro):
                yield batch.rows(slice(first, first + self.micro))
