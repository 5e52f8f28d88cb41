"""Which of the processes of a run this is, as torchrun says; one process is the whole run otherwise."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from strata.curation.artifact import Draft, create_artifact


@dataclass(frozen=True)
class Ranks:
    """Attributes: number of this process, how many there are, and how many on this machine."""

    rank: int = 0
    world: int = 1
    local_world: int = 1

    @classmethod
    def from_environment(cls) -> "Ranks":
        """From torchrun's variables."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        return cls(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")))

    @contextlib.contextmanager
    def joined(self, cuda: bool) -> Iterator[None]:
        """Within it the processes can talk to each other; Lightning takes the group that is there."""
        if self.world == 1 or torch.distributed.is_initialized():
            yield
            return
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
        try:
            yield
        finally:
            torch.distributed.destroy_process_group()

    def barrier(self) -> None:
        """Wait for all."""
        if self.world > 1:
            torch.distributed.barrier()

    @contextlib.contextmanager
    def folder(self, out: str | Path, kind: str, **said: Any) -> Iterator[Draft]:
        """``create_artifact`` by the first process; the others see its partial folder and write nothing."""
        if self.rank == 0:
            with create_artifact(out, kind, **said) as draft:
                self.barrier()
                yield draft
                self.barrier()
            return
        self.barrier()
        yield Draft(Path(out).with_name(Path(out).name + ".partial"))
        self.barrier()
