"""Where batches come from: the order of the data, decoding once, the cache on disk, and what is waited for."""

import multiprocessing
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from strata.curation.errors import ConfigError, DataError
from strata.curation.hierarchy import Hierarchy
from strata.curation.pools.rendered import RenderedPool
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.data import ImageSource, StepBatches
from strata.ssl.image.decoded import DecodedImages
from strata.ssl.image.order import EpochOrder, training_order


class CountedPool:
    """Images of several shapes; counts how often each is decoded."""

    name, labels, label_names, fingerprint = "counted", None, None, "counted"

    def __init__(self, n=10):
        self.n, self.reads, self.lock = n, [0] * n, threading.Lock()

    def __len__(self):
        return self.n

    def __getitem__(self, row):
        with self.lock:
            self.reads[row] += 1
        width, height = 24 + 4 * (row % 3), 24 + 8 * (row % 2)
        rng = np.random.default_rng(row)
        return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def source(pool, rows=None, **kwargs):
    rows = np.arange(len(pool)) if rows is None else np.asarray(rows)
    kwargs = {"cache_bytes": 1 << 20, "num_workers": 1, "show_progress": False, **kwargs}
    return ImageSource(pool, rows, 16, **kwargs)


def recipe(**changes):
    return ImageSSLConfig(**{"batch_size": 8, "steps": 10_000, **changes})


# ---- the order


def test_order_sees_everything_once_an_epoch():
    order = EpochOrder(np.arange(10), 4, seed=1)
    stream = np.concatenate([order.batch(step) for step in range(10)])
    epochs = stream.reshape(4, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert not (epochs[0] == epochs[1]).all()


def test_order_starts_anywhere():
    ahead = [EpochOrder(np.arange(10), 4, seed=1).batch(step).tolist() for step in (7, 2)]
    running = EpochOrder(np.arange(10), 4, seed=1)
    assert ahead == [running.batch(step).tolist() for step in (7, 2)]
    assert running.batch(2).tolist() != EpochOrder(np.arange(10), 4, seed=2).batch(2).tolist()


def test_a_batch_may_be_longer_than_an_epoch():
    batch = EpochOrder(np.array([5, 7, 9]), 8, seed=0).batch(1)
    assert len(batch) == 8 and min(np.unique(batch, return_counts=True)[1]) >= 2


def tree():
    """60 rows in three unequal clusters under two."""
    labels = np.repeat([0, 1, 2], [40, 15, 5])
    return Hierarchy.from_assignments([labels, [0, 0, 1]])


@pytest.mark.parametrize("sampling", ["weighted", "stratified"])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_rows_are_seen_as_often_as_their_weights_say(sampling, temperature):
    order = training_order(recipe(sampling=sampling, temperature=temperature), np.arange(60), None, tree(), seed=3)
    steps = 1500
    share = np.bincount(np.concatenate([order.batch(step) for step in range(steps)]), minlength=60) / (8 * steps)
    expected = tree().weights(temperature)
    error = 5 * np.sqrt(expected / (8 * steps))
    assert (np.abs(share - expected) < error).all()


@pytest.mark.parametrize("sampling", ["weighted", "stratified"])
def test_drawn_batches_depend_on_seed_and_step_only(sampling):
    config = recipe(sampling=sampling)
    running = training_order(config, np.arange(60), None, tree(), seed=3)
    stream = [running.batch(step).tolist() for step in range(6)]
    assert training_order(config, np.arange(60), None, tree(), seed=3).batch(4).tolist() == stream[4]
    assert training_order(config, np.arange(60), None, tree(), seed=4).batch(4).tolist() != stream[4]


def test_weights_of_some_rows_are_those_of_a_pool_without_the_others():
    rows = np.array([0, 1, 2, 3, 44, 58])
    order = training_order(recipe(sampling="weighted"), rows, None, tree(), seed=0)
    share = np.bincount(np.concatenate([order.batch(step) for step in range(1000)]), minlength=6) / 8000
    np.testing.assert_allclose(share, [1 / 16] * 4 + [1 / 4, 1 / 2], atol=0.03)


@pytest.mark.parametrize(
    ("field", "sampling", "rows", "repeats", "hierarchy"),
    [
        ("ssl.sampling", "weighted", 60, None, None),
        ("hierarchy", "stratified", 61, None, tree()),
        ("hierarchy", "epoch", 60, None, tree()),
        ("repeats", "weighted", 60, np.full(60, 2), tree()),
    ],
)
def test_orders_that_cannot_be(field, sampling, rows, repeats, hierarchy):
    with pytest.raises(ConfigError) as caught:
        training_order(recipe(sampling=sampling), np.arange(rows), repeats, hierarchy, seed=0)
    assert caught.value.field == field


# ---- batches


def test_batches_are_the_images_of_their_places():
    pool = RenderedPool(12)
    images = source(pool)
    order = EpochOrder(np.arange(12), 4, seed=0)
    for batch in StepBatches(images, order, start=2, stop=5):
        assert torch.equal(batch.images, images.cache[torch.from_numpy(order.batch(batch.step))])
    parts = list(StepBatches(images, order, start=0, stop=2, accumulate=2))
    assert [(b.step, b.part, len(b.images)) for b in parts] == [(0, 0, 2), (0, 1, 2), (1, 0, 2), (1, 1, 2)]
    whole = next(iter(StepBatches(images, order, start=0, stop=1)))
    assert torch.equal(torch.cat([parts[0].images, parts[1].images]), whole.images)
    images.close()


def test_an_image_is_decoded_once_where_it_is_kept():
    pool = CountedPool()
    images = source(pool)
    list(StepBatches(images, EpochOrder(np.arange(10), 5, seed=0), start=0, stop=20))
    assert pool.reads == [1] * 10
    on_demand = source(CountedPool(), cache_bytes=0, num_workers=2)
    assert on_demand.cache is None
    for a, b in zip(images.get(np.array([3, 1])), on_demand.get(np.array([3, 1])), strict=True):
        assert torch.equal(a, b)


def test_contain_keeps_the_whole_image_and_cover_its_middle():
    pool = CountedPool()
    contain, cover = source(pool, fit="contain"), source(pool, fit="cover")
    pixels, extents = contain.get(np.arange(6))
    for row in range(6):
        width, height = pool[row].size
        scale = 16 / max(width, height)
        assert extents[row].tolist() == [round(height * scale), round(width * scale)]
        h, w = extents[row].tolist()
        expected = np.asarray(pool[row].resize((w, h), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        np.testing.assert_array_equal(pixels[row, :, :h, :w], expected)
        assert not pixels[row, :, h:].any() and not pixels[row, :, :, w:].any()
    assert (cover.get(np.arange(6))[1] == 16).all()


def test_decoding_in_processes_gives_the_same():
    with_threads, with_processes = source(RenderedPool(20)), source(RenderedPool(20), processes=True)
    assert torch.equal(with_threads.cache, with_processes.cache)
    with_processes.close()


# ---- the cache on disk


def test_disk_cache_decodes_each_row_once_for_all_runs(tmp_path):
    pool = CountedPool()
    first = source(pool, rows=[1, 4, 5], cache_dir=tmp_path, fit="contain")
    assert pool.reads == [0, 1, 0, 0, 1, 1, 0, 0, 0, 0]
    second = source(pool, rows=[4, 5, 9], cache_dir=tmp_path, fit="contain")  # another run, another subset
    assert pool.reads == [0, 1, 0, 0, 1, 1, 0, 0, 0, 1]
    in_memory = source(pool, fit="contain")
    for images, rows in ((first, [1, 4, 5]), (second, [4, 5, 9])):
        for a, b in zip(images.get(np.arange(3)), in_memory.get(np.array(rows)), strict=True):
            assert torch.equal(a, b)


def test_disk_cache_is_by_pool_size_and_fit(tmp_path):
    pool = CountedPool()
    source(pool, cache_dir=tmp_path)
    source(pool, cache_dir=tmp_path, fit="contain")
    other = CountedPool()
    other.fingerprint = "changed"
    source(other, cache_dir=tmp_path)
    assert pool.reads == [2] * 10 and other.reads == [1] * 10 and len(list(tmp_path.iterdir())) == 3


def test_a_fill_that_was_killed_goes_on_where_it_stopped(tmp_path):
    kept = DecodedImages(tmp_path, "p", 600, 4, "cover")
    calls = []

    def decode(rows):
        calls.append(len(rows))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return np.full((len(rows), 3, 4, 4), 9, np.uint8), np.full((len(rows), 2), 4)

    with pytest.raises(KeyboardInterrupt):
        kept.fill(np.arange(600), decode, lambda n: None)
    again = DecodedImages(tmp_path, "p", 600, 4, "cover")
    assert again.has(np.arange(600)).sum() == 256
    told = []
    again.fill(np.arange(600), decode, told.append)
    assert calls == [256, 256, 256, 88] and sum(told) == 600
    assert (again.images == 9).all() and (again.extents == 4).all()


def _fill(folder):
    def decode(rows):
        with open(f"{folder}/decoded.txt", "a") as stream:
            stream.writelines(f"{row}\n" for row in rows)
        return np.zeros((len(rows), 3, 4, 4), np.uint8), np.full((len(rows), 2), 4)

    DecodedImages(folder, "p", 700, 4, "cover").fill(np.arange(700), decode, lambda n: None)


def test_processes_that_start_together_decode_each_row_once(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_fill, args=(tmp_path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    rows = [int(line) for line in (tmp_path / "decoded.txt").read_text().split()]
    assert sorted(rows) == list(range(700))


def test_disk_cache_that_cannot_be_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be kept"):
        source(CountedPool(), cache_dir=tmp_path / "file")
    DecodedImages(tmp_path, "p", 5, 4, "cover")
    (rows,) = tmp_path.glob("*/rows.npy")
    np.save(rows, np.zeros(3, np.uint8))
    with pytest.raises(DataError, match="damaged"):
        DecodedImages(tmp_path, "p", 5, 4, "cover")
