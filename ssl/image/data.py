"""Batches as a pure function of (seed, step): images decoded once and kept, the next batches made while a step runs."""

import itertools
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from strata.curation.errors import DataError
from strata.curation.pools.band_scale import BandScale
from strata.curation.pools.base import Pool, UnreadableItem
from strata.curation.progress import progress
from strata.ssl.image.decoded import DecodedImages
from strata.ssl.image.order import Order
from strata.ssl.image.share import Batch, Share

_AUGMENT, _MASK, _MODEL, _DROP = range(1, 5)  # independent streams of one seed; order.py has others
_AHEAD = 2  # batches waiting while a step runs
_CHUNK = 256  # images decoded at a time while the cache is filled


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of a step's augmentations."""
    return torch.Generator().manual_seed(_derived_seed(seed, step, _AUGMENT))


def mask_rng(seed: int, step: int, *crop: int) -> np.random.Generator:
    """The generator of a step's masks (which crops, how much), or of one crop's mask."""
    return np.random.default_rng((seed, step, _MASK, *crop))


def drop_generator(seed: int, step: int, *, local: bool) -> torch.Generator:
    """The generator of a step's stochastic depth, for its global or its local crops."""
    return torch.Generator().manual_seed(_derived_seed(seed, step, _DROP, int(local)))


def model_seed(seed: int, step: int, *image: int) -> int:
    """Seed of torch's global generator: initial weights at step 0; timm's own dropouts later, by a pass's first image."""
    return _derived_seed(seed, step, _MODEL, *image)


def _derived_seed(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


class ImageSource:
    """The chosen rows of a pool as square uint8 images or tiles, decoded once where they can be kept.

    Args:
        pool: where images come from.
        rows: [n] rows of the pool, in the subset's order.
        size: side of the squares.
        fit: "cover": the shorter side is resized to ``size`` and the center of the longer one kept; "contain": the longer
            side is resized to ``size`` and all is kept, the rest of the square is black and never cropped from. Bicubic.
        cache_bytes: kept in RAM if they fit. Else they are decoded when needed.
        cache_dir: keep them there instead, memory-mapped: later runs and other processes decode nothing again.
        scale: how tiles become 8 bits; None: the pool holds RGB images.
        num_workers: threads that decode (PIL gives the GIL free while it decodes), or processes.
        processes: decode in processes: for pools whose reading is Python. The pool is pickled to them.
        show_progress: a bar while the cache is filled.
    """

    def __init__(
        self,
        pool: Pool,
        rows: NDArray[np.int64],
        size: int,
        *,
        fit: str = "cover",
        cache_bytes: int,
        cache_dir: str | Path | None = None,
        scale: BandScale | None = None,
        num_workers: int,
        processes: bool = False,
        show_progress: bool,
    ) -> None:
        self.rows, self.size = rows, size
        self._reader: Reader = _Reader(pool, size, fit) if scale is None else _TileReader(pool, size, fit, scale)
        bands = 3 if scale is None else scale.n_bands
        self._workers = _executor(self._reader, max(1, num_workers), processes)
        self.cache: Tensor | None = None
        self.extents = torch.empty(len(rows), 2, dtype=torch.int64)
        self.decoded: DecodedImages | None = None
        try:
            with progress(len(np.unique(rows)), "decode", "images", disable=not show_progress) as bar:
                if cache_dir is not None:
                    self.decoded = DecodedImages(Path(cache_dir), pool.fingerprint, len(pool), size, fit, scale)
                    self.decoded.fill(rows, self._decode, bar.update)
                elif len(rows) * bands * size * size <= cache_bytes:
                    self.cache = torch.empty(len(rows), bands, size, size, dtype=torch.uint8)
                    for start in range(0, len(rows), _CHUNK):
                        part = slice(start, start + _CHUNK)
                        images, extents = self._decode(rows[part])
                        self.cache[part], self.extents[part] = torch.from_numpy(images), torch.from_numpy(extents)
                        bar.update(len(images))
        except BaseException:
            self.close()
            raise

    def get(self, places: NDArray[np.int64]) -> tuple[UInt8[Tensor, "b c size size"], Int[Tensor, "b 2"]]:
        """Images, and their extents, at positions in ``rows`` (not rows of the pool)."""
        if self.cache is not None:
            index = torch.from_numpy(places)
            return self.cache[index], self.extents[index]
        rows = self.rows[places]
        if self.decoded is not None:
            images, extents = self.decoded.images[rows], self.decoded.extents[rows]
        else:
            images, extents = self._decode(rows)
        return torch.from_numpy(images), torch.from_numpy(extents.astype(np.int64))

    def close(self) -> None:
        """Stop the workers."""
        self._workers.shutdown(wait=True, cancel_futures=True)

    def _decode(self, rows: NDArray[np.int64]) -> tuple[UInt8[np.ndarray, "b c size size"], Int[np.ndarray, "b 2"]]:
        read = self._reader if isinstance(self._workers, ThreadPoolExecutor) else _read_in_process
        squares, extents = zip(*self._workers.map(read, rows.tolist(), chunksize=16), strict=True)
        return np.stack(squares), np.array(extents, np.int64)


class _Reader:
    """Decodes one row into a square and its extent."""

    def __init__(self, pool: Pool, size: int, fit: str) -> None:
        self.pool, self.size, self.fit = pool, size, fit

    def __call__(self, row: int) -> tuple[UInt8[np.ndarray, "3 size size"], tuple[int, int]]:
        image, size = self.pool[row], self.size
        if self.fit == "contain":
            share = size / max(image.size)
            width, height = (max(1, round(side * share)) for side in image.size)
            if image.size != (width, height):
                image = image.resize((width, height), Image.Resampling.BICUBIC)
        else:
            width = height = size
            if image.size != (size, size):
                image = ImageOps.fit(image, (size, size), method=Image.Resampling.BICUBIC)
        return _padded(np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1)), size)


class _TileReader:
    """Reads one tile into a square and its extent, each band by its own scale."""

    def __init__(self, pool: Pool, size: int, fit: str, scale: BandScale) -> None:
        self.pool, self.size, self.fit, self.scale = pool, size, fit, scale

    def __call__(self, row: int) -> tuple[UInt8[np.ndarray, "c size size"], tuple[int, int]]:
        try:
            found = self.scale.square(self.pool[row], self.size, self.fit)
        except UnreadableItem:
            raise
        except DataError as error:
            raise DataError(f"item {self.pool.ids[row]!r} of {self.pool.name!r}: {error}") from error
        return _padded(found, self.size)


def _padded(pixels: UInt8[np.ndarray, "c h w"], size: int) -> tuple[UInt8[np.ndarray, "c size size"], tuple[int, int]]:
    """The pixels in the upper left corner of a black square, and their extent."""
    bands, height, width = pixels.shape
    if (height, width) == (size, size):
        return pixels, (size, size)
    square = np.zeros((bands, size, size), np.uint8)
    square[:, :height, :width] = pixels
    return square, (height, width)


Reader = Callable[[int], tuple[UInt8[np.ndarray, "c size size"], tuple[int, int]]]

_reader: Reader | None = None  # of a decoding process


def _install(reader: Reader) -> None:
    global _reader
    _reader = reader


def _read_in_process(row: int) -> tuple[UInt8[np.ndarray, "c size size"], tuple[int, int]]:
    assert _reader is not None
    return _reader(row)


def _executor(reader: Reader, workers: int, processes: bool) -> Executor:
    if not processes:
        return ThreadPoolExecutor(max_workers=workers)
    # spawn: a fork would copy torch's threads in an unknown state
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_install, initargs=(reader,))


class StepBatches:
    """The training data for Lightning: yields each ``Batch`` from step ``start`` on, ``accumulate`` of them a step.

    Args:
        source: the images.
        order: which of them are in the global batch of a step.
        start: first step: 0, or where a checkpoint stopped.
        stop: the step after the last.
        accumulate: parts of a step.
        pin: into page-locked memory, from which a GPU copies while it computes.
    """

    def __init__(
        self, source: ImageSource, order: Order, *, start: int, stop: int, accumulate: int = 1, pin: bool = False
    ) -> None:
        self.source, self.order, self.start, self.stop = source, order, start, stop
        self.accumulate, self.pin = accumulate, pin

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(max_workers=1) as ahead:  # one: the order is asked for step after step
            waiting: deque[Future[Batch]] = deque()
            for step, part in itertools.product(range(self.start, self.stop), range(self.accumulate)):
                waiting.append(ahead.submit(self._make, step, part))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _make(self, step: int, part: int) -> Batch:
        places = self.order.batch(step)
        share = Share.here(len(places), part=part, parts=self.accumulate)
        images, extents = self.source.get(places[share.first : share.last])
        if self.pin:
            images, extents = images.pin_memory(), extents.pin_memory()
        return Batch(step, images, part, extents)
