"""Batches as a pure function of (seed, step): a uint8 cache in RAM or decoding on demand, and an endless sampler."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from strata.curation.pools.base import Pool
from strata.curation.progress import progress
from strata.ssl.image.share import Batch, Share

_SHUFFLE, _AUGMENT, _MASK, _MODEL, _DROP = range(5)  # independent streams of one seed


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


class EpochSampler:
    """An endless sequence of positions 0..n-1, shuffled anew in each epoch; any stretch of it can be asked for.

    Position p of the sequence lies in epoch p // n. A batch may run over the end of an epoch into the next.
    """

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed = n, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def batch(self, step: int, batch_size: int) -> Int64[np.ndarray, " b"]:
        """The positions of a step's batch."""
        places = np.arange(step * batch_size, (step + 1) * batch_size)
        return np.array([self._permutation(p // self.n)[p % self.n] for p in places.tolist()], dtype=np.int64)

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng((self.seed, epoch, _SHUFFLE)).permutation(self.n)
        return self._order


class ImageSource:
    """The chosen rows of a pool as square uint8 images, cached in RAM when they fit ``cache_bytes``.

    Args:
        pool: where images come from.
        rows: [n] rows of the pool, in the subset's order.
        size: side of the square to which an image is resized: bicubic, the center of a longer side is kept.
        cache_bytes: budget of the cache; a larger subset is decoded when needed.
        num_workers: threads that decode (PIL releases the GIL).
        show_progress: a bar while the cache is filled.
    """

    def __init__(
        self, pool: Pool, rows: NDArray[np.int64], size: int, *, cache_bytes: int, num_workers: int, show_progress: bool
    ) -> None:
        self.pool, self.rows, self.size = pool, rows, size
        self.threads = ThreadPoolExecutor(max_workers=max(1, num_workers))
        self.cache: Tensor | None = None
        if len(rows) * 3 * size * size <= cache_bytes:
            self.cache = torch.empty(len(rows), 3, size, size, dtype=torch.uint8)
            with progress(len(rows), "decode", "images", disable=not show_progress) as bar:
                for start in range(0, len(rows), 256):
                    places = np.arange(start, min(start + 256, len(rows)))
                    self.cache[start : start + len(places)] = self._decode(places)
                    bar.update(len(places))

    def get(self, places: NDArray[np.int64]) -> UInt8[Tensor, "b 3 size size"]:
        """Images at positions in ``rows`` (not rows of the pool)."""
        return self._decode(places) if self.cache is None else self.cache[torch.from_numpy(places)]

    def close(self) -> None:
        """Stop the threads."""
        self.threads.shutdown(wait=True, cancel_futures=True)

    def _decode(self, places: NDArray[np.int64]) -> UInt8[Tensor, "b 3 size size"]:
        return torch.from_numpy(np.stack(list(self.threads.map(self._read, self.rows[places].tolist()))))

    def _read(self, row: int) -> UInt8[np.ndarray, "3 size size"]:
        image = self.pool[row]
        if image.size != (self.size, self.size):
            image = ImageOps.fit(image, (self.size, self.size), method=Image.Resampling.BICUBIC)
        return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))


class StepBatches:
    """The training data for Lightning: yields each ``Batch`` from step ``start`` on, ``accumulate`` of them a step.

    Args:
        source: the images.
        order: [m] positions in the source, one entry per item of an epoch (an item with 3 repeats has 3 entries).
        batch_size: images per step, over all processes and parts.
        start: first step: 0, or where a checkpoint stopped.
        stop: the step after the last.
        seed: of the shuffling.
        accumulate: parts of a step.
    """

    def __init__(
        self,
        source: ImageSource,
        order: NDArray[np.int64],
        batch_size: int,
        *,
        start: int,
        stop: int,
        seed: int,
        accumulate: int = 1,
    ) -> None:
        self.source, self.order, self.batch_size = source, order, batch_size
        self.start, self.stop, self.seed, self.accumulate = start, stop, seed, accumulate

    def __iter__(self) -> Iterator[Batch]:
        if self.source.cache is not None:
            for step, part, places in self._places():
                yield Batch(step, self.source.get(places), part)
            return
        # One more thread queues whole batches, so that decoding overlaps with training
        with ThreadPoolExecutor(max_workers=1) as ahead:
            waiting: deque[tuple[int, int, Future[Tensor]]] = deque()
            for step, part, places in self._places():
                waiting.append((step, part, ahead.submit(self.source.get, places)))
                if len(waiting) > 2:
                    yield _finished(waiting)
            while waiting:
                yield _finished(waiting)

    def _places(self) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
        """Step, part and the positions in the source of this process's images."""
        sampler = EpochSampler(len(self.order), self.seed)
        for step in range(self.start, self.stop):
            places = self.order[sampler.batch(step, self.batch_size)]
            for part in range(self.accumulate):
                share = Share.here(self.batch_size, part=part, parts=self.accumulate)
                yield step, part, places[share.first : share.last]


def _finished(waiting: deque[tuple[int, int, Future[Tensor]]]) -> Batch:
    step, part, images = waiting.popleft()
    return Batch(step, images.result(), part)
