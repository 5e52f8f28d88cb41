"""The processes that fit together, and what they tell each other: results are the same bytes for any number of them.

Rows are dealt out in whole blocks of ``BLOCK`` rows, in order: process 0 has the first ones. Whole numbers are added up
by all-reduce, exact in any order. Floating-point numbers are never reduced: sums are made per block and added in the
order of the blocks. Nothing as long as the rows travels, but for ``deal`` where every row number goes to one process.

The processes are those of ``torch.distributed`` (gloo or NCCL), started by torchrun or Slurm; ``join`` lets Lightning
Fabric set them up, and any other way that leaves an initialized process group does as well.
"""

import os
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from strata.curation.errors import DataError
from strata.curation.kmeans.source import BLOCK


@dataclass(frozen=True)
class Group:
    """``size`` processes of which this one is ``rank``. With one process every method returns what it is given."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Self:
        """The processes of torch.distributed if it is initialized, else this one alone."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    def span(self, n: int) -> tuple[int, int]:
        """First and last + 1 of the rows of this process: whole blocks, as even as these allow, perhaps none."""
        ends = np.cumsum(self.blocks_of_each(n)) * BLOCK
        return int(min(n, ends[self.rank - 1] if self.rank else 0)), int(min(n, ends[self.rank]))

    def blocks_of_each(self, n: int) -> Int[np.ndarray, " p"]:
        """How many blocks of ``n`` rows each process has."""
        return np.diff(-(-n // BLOCK) * np.arange(self.size + 1) // self.size)

    def worth(self, n: int) -> "Group":
        """This group if ``n`` rows are more than one block, else each process alone, doing the same as all others."""
        return self if n > BLOCK else ALONE

    def sum(self, values: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """Sum over the processes of whole numbers of the same shape."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def count(self, value: int) -> int:
        """Sum over the processes of one whole number."""
        return int(self.sum(np.array([value]))[0])

    def smallest(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Minimum over the processes, element by element."""
        return self._reduce(values, dist.ReduceOp.MIN)

    def concatenated(self, values: NDArray[Any], lengths: Int[np.ndarray, " p"] | None = None) -> NDArray[Any]:
        """The arrays of all processes, one after the other along the first axis; lengths may differ.

        Where all know the ``lengths`` it is one message, else two.
        """
        if self.size == 1:
            return values
        if lengths is None:
            lengths = np.zeros(self.size, np.int64)
            lengths[self.rank] = len(values)
            lengths = self.sum(lengths)
        padded = np.zeros((int(lengths.max()), *values.shape[1:]), values.dtype)
        padded[: len(values)] = values
        mine = self._tensor(padded)
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(parts, mine)
        return np.concatenate(
            [part.cpu().numpy()[:length] for part, length in zip(parts, lengths.tolist(), strict=True)]
        )

    def ordered_sum(self, parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Sum of the blocks' float64 arrays, process by process in the order of the blocks: one array on its way."""
        total = np.zeros_like(parts[0])
        mine = parts[1:]
        for rank in range(self.size):
            if rank == self.rank:
                for part in mine:
                    total = total + part
            total = self.from_rank(total, rank)
        return total

    def from_rank(self, values: NDArray[Any], rank: int = 0) -> NDArray[Any]:
        """The array of one process; all give one of the same shape and dtype."""
        if self.size == 1:
            return values
        tensor = self._tensor(values.copy())
        dist.broadcast(tensor, rank)
        received: NDArray[Any] = tensor.cpu().numpy()
        return received

    def bytes_from_first(self, content: bytes | None) -> bytes | None:
        """What process 0 gives; the others give None."""
        if self.size == 1:
            return content
        length = int(self.from_rank(np.array([-1 if content is None else len(content)]))[0])
        if length < 0:
            return None
        own = np.frombuffer(content, np.uint8) if self.rank == 0 and content is not None else np.zeros(length, np.uint8)
        return self.from_rank(own).tobytes()

    def agree(self, error: DataError | None) -> None:
        """Raise on every process what one of them has found; otherwise the others would wait for it for ever."""
        if error is not None and self.size == 1:
            raise error
        text = np.frombuffer(b"" if error is None else str(error).encode()[:2000] + b"\0", np.uint8)
        said = self.concatenated(text).tobytes() if self.size > 1 else b""
        if said:
            raise DataError(said.split(b"\0")[0].decode(errors="replace"))

    def deal(self, labels: Int[np.ndarray, " n"], first: int, count: int) -> dict[int, Int[np.ndarray, " m"]]:
        """Rows of every ``size``-th group, ascending, in the numbers of all rows.

        Args:
            labels: group in [0, count) of each row of this process. first: number of its first row.
            count: number of groups.

        Returns:
            Group -> its rows, for the groups that fall to this process: rank, rank + size, ...
        """
        labels = labels.astype(np.int64)
        rows = np.arange(first, first + len(labels))
        if self.size > 1:
            rows, labels = self.sent(labels % self.size, rows, labels)
        order = np.argsort(labels, kind="stable")
        ends = np.cumsum(np.bincount(labels, minlength=count))
        parts = np.split(rows[order], ends[:-1])
        return {number: parts[number] for number in range(self.rank, count, self.size)}

    def sum_on(self, values: Int[np.ndarray, "..."], rank: int) -> Int[np.ndarray, "..."]:
        """Sum over the processes of whole numbers of the same shape, on one of them; others get nothing of use."""
        if self.size == 1:
            return values
        tensor = self._tensor(values)
        dist.reduce(tensor, rank)
        total: NDArray[Any] = tensor.cpu().numpy()
        return total

    def sent(self, to: Int[np.ndarray, " m"], *arrays: NDArray[Any]) -> list[NDArray[Any]]:
        """Each of the ``m`` items of the arrays goes to a process; returns those that came, by sender, in their order."""
        order = np.argsort(to, kind="stable")
        lengths = np.bincount(to, minlength=self.size)
        incoming = self.concatenated(lengths[None])[:, self.rank]
        return [self._exchange(values[order], lengths, incoming) for values in arrays]

    def barrier(self) -> None:
        """Wait for all."""
        self.count(0)

    def _exchange(self, values: NDArray[Any], lengths: NDArray[np.int64], incoming: NDArray[np.int64]) -> NDArray[Any]:
        out = self._tensor(np.empty((int(incoming.sum()), *values.shape[1:]), values.dtype))
        dist.all_to_all_single(out, self._tensor(values), incoming.tolist(), lengths.tolist())
        received: NDArray[Any] = out.cpu().numpy()
        return received

    def _reduce(self, values: NDArray[Any], operation: Any) -> NDArray[Any]:
        if self.size == 1:
            return values
        tensor = self._tensor(values.copy())
        dist.all_reduce(tensor, operation)
        reduced: NDArray[Any] = tensor.cpu().numpy()
        return reduced

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        """On the device that the backend takes: NCCL knows GPUs only."""
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        return torch.from_numpy(np.array(values, order="C", ndmin=1)).to(device)


ALONE = Group()


def join(accelerator: str = "auto") -> Group:
    """Set up the processes that torchrun or Slurm started, by Lightning Fabric; alone if none were.

    On GPUs each process gets its own one, and NCCL; on CPUs gloo.
    """
    if dist.is_initialized() or int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1"))) == 1:
        return Group.current()
    from lightning_fabric import Fabric

    world = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", world)))
    Fabric(accelerator=accelerator, strategy="ddp", devices=local, num_nodes=world // local).launch()
    return Group.current()
