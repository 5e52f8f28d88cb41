"""Stream transformed items of a pool in batches, through worker processes if wanted, always in the same order."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from strata.curation.pools.base import Pool, UnreadableItem


def iter_batches(
    pool: Pool,
    transform: Callable[[Any], Any],
    rows: Iterable[Sequence[int]],
    *,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[Any]:
    """Yield ``stack([transform(pool[row]) for row in batch])`` for each batch of rows, in order.

    What is no tensor (a text, its tokens) is not stacked: the batch is a list.

    Args:
        pool: where the items come from. With workers it is pickled to each of them, as is ``transform``.
        transform: item -> tensor, the same shape for all; or -> anything else.
        rows: the rows of each batch.
        num_workers: worker processes (started with "spawn": safe beside CUDA and threads); 0 reads in this process.
        pin_memory: copy batches to pinned memory, for faster transfer to a GPU.

    Raises:
        UnreadableItem: a row cannot be decoded, raised here also when a worker met it.
    """
    loader = DataLoader(
        _Items(pool, transform),
        batch_sampler=rows,  # type: ignore[arg-type]  # any iterable of sequences works
        num_workers=num_workers,
        collate_fn=_stack,
        pin_memory=pin_memory,
        multiprocessing_context="spawn" if num_workers else None,
        generator=torch.Generator(),  # else the loader draws from the global one, which is the user's
    )
    for batch in loader:
        if isinstance(batch, _Unreadable):
            raise UnreadableItem(batch.row, batch.item_id, batch.why)
        yield batch


@dataclass(frozen=True)
class _Unreadable:
    """An UnreadableItem on its way from a worker: DataLoader can only raise again what takes one argument."""

    row: int
    item_id: str
    why: str


class _Items(Dataset[Any]):
    def __init__(self, pool: Pool, transform: Callable[[Any], Any]) -> None:
        self.pool, self.transform = pool, transform

    def __getitem__(self, row: int) -> Any:
        try:
            return self.transform(self.pool[row])
        except UnreadableItem as error:
            return _Unreadable(error.row, error.item_id, error.why)


def _stack(items: list[Any]) -> Any:
    unreadable = next((item for item in items if isinstance(item, _Unreadable)), None)
    if unreadable is not None:
        return unreadable
    return torch.stack(items) if all(isinstance(item, Tensor) for item in items) else items
