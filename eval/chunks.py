"""One split of a features folder while it is filled: in chunks that are finished or not, by one or several processes."""

import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import multiprocessing

from strata.curation.artifact import write_json
from strata.curation.batches import iter_batches
from strata.curation.errors import DataError, StrataError
from strata.curation.pools.base import Pool
from strata.curation.progress import progress
from strata.curation.shards import checked_cast
from strata.eval.backbone import FrozenBackbone, pooled_pair
from strata.eval.targets import TargetView, same

CHUNK_ROWS = 1024  # finished or done again as a whole: some seconds of work


class SplitFolder:
    """The arrays of a split, and which chunks of their rows are done (``work/done.npy``).

    Args:
        path: the folder.
        backbone: moved to its device already.
        pool: of the split.
        known: what must be the same for an earlier run's chunks to be kept.
        batch_size: rows of a forward pass; a chunk holds whole batches, so they are cut alike however a run goes on.
        dtype: of the arrays.
        patches: blocks whose patch tokens are stored.
        targets: whether the pool has maps to store.
    """

    def __init__(
        self,
        path: Path,
        backbone: FrozenBackbone,
        pool: Pool,
        known: dict[str, Any],
        batch_size: int,
        dtype: str,
        patches: int,
        targets: bool,
    ) -> None:
        self.path, self.work, self.backbone, self.pool = path, path / "work", backbone, pool
        self.stop = self.work / "stop"
        self.batch_size, self.dtype, self.patches, self.targets = batch_size, dtype, patches, targets
        rows = batch_size * -(-CHUNK_ROWS // batch_size)
        self.chunks = [range(start, min(start + rows, len(pool))) for start in range(0, len(pool), rows)]
        self._open_or_create(json.loads(json.dumps({**known, "batch_size": batch_size}, default=str)))

    def fill(self, split: str, num_workers: int, processes: int, show_progress: bool = True) -> None:
        """Compute what is not done yet.

        Raises:
            DataError: an image cannot be read, or a feature is not finite.
        """
        todo = np.flatnonzero(~self._done()).tolist()
        kept = len(self.pool) - sum(len(self.chunks[chunk]) for chunk in todo)
        with progress(len(self.pool), f"features of {split}", "images", initial=kept, disable=not show_progress) as bar:
            if min(processes, len(todo)) > 1:
                self._in_processes([todo[i::processes] for i in range(processes)], num_workers, bar)
            else:
                for chunk in self._compute(todo, num_workers):
                    bar.update(len(self.chunks[chunk]))
        if self.targets:
            self._join_targets()

    def _open_or_create(self, known: dict[str, Any]) -> None:
        file = self.work / "known.json"
        if file.is_file() and json.loads(file.read_text()) == known:
            return
        shutil.rmtree(self.path, ignore_errors=True)
        self.work.mkdir(parents=True)
        shapes = dict.fromkeys(("cls", "avg"), (len(self.pool), self.backbone.n_blocks, self.backbone.dim))
        if self.patches:
            assert self.backbone.grid is not None
            shapes["patches"] = (len(self.pool), self.patches, int(np.prod(self.backbone.grid)), self.backbone.dim)  # type: ignore[assignment]
        for name, shape in shapes.items():
            open_memmap(self.path / f"{name}.npy", "w+", self.dtype, shape).flush()
        open_memmap(self.work / "done.npy", "w+", bool, (len(self.chunks),)).flush()
        write_json(file, known)  # last: without it all begins anew

    def _done(self) -> np.ndarray:
        done: np.ndarray = np.load(self.work / "done.npy", allow_pickle=False)
        return done

    def _compute(self, todo: Sequence[int], num_workers: int) -> Any:
        """Compute chunks, marking and yielding each when all of it is on its way to the disk."""
        spans = [span for chunk in todo for span in self._batches(chunk)]
        on_gpu = self.backbone.device.type == "cuda"
        images = iter_batches(self.pool, self.backbone.transform, spans, num_workers=num_workers, pin_memory=on_gpu)
        names = ("cls", "avg", "patches") if self.patches else ("cls", "avg")
        arrays = {name: open_memmap(self.path / f"{name}.npy", "r+") for name in names}
        done = open_memmap(self.work / "done.npy", "r+")
        batches = zip(spans, images, strict=True)
        for chunk in todo:
            for _ in self._batches(chunk):
                self._write(arrays, *next(batches))
            if self.targets:
                self._write_targets(chunk, num_workers)
            for array in arrays.values():
                array.flush()
            done[chunk] = True
            done.flush()
            yield chunk

    def _batches(self, chunk: int) -> list[range]:
        rows, size = self.chunks[chunk], self.batch_size
        return [range(start, min(start + size, rows.stop)) for start in range(rows.start, rows.stop, size)]

    def _write(self, arrays: Mapping[str, np.ndarray], span: range, batch: torch.Tensor) -> None:
        tokens = self.backbone.read(batch)
        found = dict(zip(("cls", "avg"), pooled_pair(tokens), strict=True))
        if self.patches:
            assert tokens.patches is not None
            found["patches"] = tokens.patches[:, -self.patches :]
        for name, values in found.items():
            block = values.float().cpu().numpy().reshape(len(span), -1)
            cast = checked_cast(block, self.dtype, self.pool.ids, span.start)
            arrays[name][span.start : span.stop] = cast.reshape(len(span), *arrays[name].shape[1:])

    def _write_targets(self, chunk: int, num_workers: int) -> None:
        rows = self.chunks[chunk]
        (maps,) = iter_batches(TargetView(self.pool), same, [rows], num_workers=min(num_workers, 1))  # type: ignore[arg-type]
        np.save(self.work / f"sizes-{chunk}.npy", np.array([found.shape for found in maps], np.int32))
        np.save(self.work / f"targets-{chunk}.npy", np.concatenate([found.reshape(-1) for found in maps]))

    def _join_targets(self) -> None:
        sizes = np.concatenate([np.load(self.work / f"sizes-{chunk}.npy") for chunk in range(len(self.chunks))])
        parts = [np.load(self.work / f"targets-{chunk}.npy", mmap_mode="r") for chunk in range(len(self.chunks))]
        joined = open_memmap(self.path / "targets.npy", "w+", parts[0].dtype, (sum(len(part) for part in parts),))
        start = 0
        for part in parts:
            joined[start : start + len(part)] = part
            start += len(part)
        joined.flush()
        np.save(self.path / "target_sizes.npy", sizes)

    def _in_processes(self, shares: list[list[int]], num_workers: int, bar: Any) -> None:
        """Each share in a process of its own. They write to the same files, each to rows that no other has."""
        device, threads = self.backbone.device, torch.get_num_threads()
        self.stop.unlink(missing_ok=True)
        before = self._done()
        self.backbone.to("cpu")  # what is sent; each process moves it to its own device
        try:
            with ProcessPoolExecutor(len(shares), mp_context=multiprocessing.get_context("spawn")) as pool:
                jobs = [
                    pool.submit(_share, self, share, num_workers, _device(device, i), threads)
                    for i, share in enumerate(shares)
                ]
                shown = 0
                while wait(jobs, timeout=0.5).not_done:
                    new = int(sum(len(self.chunks[chunk]) for chunk in np.flatnonzero(self._done() & ~before)))
                    bar.update(new - shown)
                    shown = new
        finally:
            self.backbone.to(device)
        for job in jobs:
            problem = job.result()
            if problem:
                raise DataError(problem)


def _share(folder: SplitFolder, todo: list[int], num_workers: int, device: str, threads: int) -> str:
    """What a process does. Returns what is wrong with the data, if something is."""
    torch.set_num_threads(threads)
    folder.backbone.to(device)
    try:
        for _ in folder._compute(todo, num_workers):
            if folder.stop.exists():
                break
    except StrataError as error:
        folder.stop.touch()  # nothing of what the others do will be kept
        return str(error)
    return ""


def _device(device: torch.device, process: int) -> str:
    return f"cuda:{process % torch.cuda.device_count()}" if device.type == "cuda" else str(device)
