"""The learning runs: the bars to clear are read as the evaluators read images; what is held out is not trained on."""

import numpy as np
import timm

from strata.curation.pools.digits import DigitsPool
from strata.eval.benchmarks import Benchmark
from strata.experiments.benchmarks.ssl_learns import held_out, pixels, score
from strata.ssl.image.config import ImageSSLConfig


def test_pixels_are_the_vote_of_the_nearest_images_and_above_an_untrained_network():
    bank, queries = held_out(DigitsPool(size=8), 0.25, seed=0)
    benchmark = Benchmark("digits", bank, queries)
    bars = pixels(benchmark, 8)
    # The same vote by plain numpy on scikit-learn's own values
    a, b = (
        np.stack([np.asarray(pool[i], np.float64)[..., 0].ravel() for i in range(len(pool))])
        for pool in (queries, bank)
    )
    cosine = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T
    nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :20]
    weight = np.exp(np.take_along_axis(cosine, nearest, axis=1) / 0.07)
    votes = np.stack([(weight * (bank.labels[nearest] == c)).sum(axis=1) for c in range(10)], axis=1)
    assert bars["pixels"] == np.mean(votes.argmax(axis=1) == queries.labels)
    assert bars["centered"] > 0.9
    network = timm.create_model(
        "vit_tiny_patch16_224", img_size=8, patch_size=4, embed_dim=24, depth=1, num_heads=2, num_classes=0
    )
    config = ImageSSLConfig(global_size=8, local_size=8, cache_size=8, mean=(0.5,) * 3, std=(0.25,) * 3)
    assert 0.0 < score(benchmark, config, network) < bars["pixels"]


def test_held_out_rows_are_not_in_the_rest():
    pool = DigitsPool()
    rest, out = held_out(pool, 0.25, seed=3)
    assert len(out) == 300 and len(rest) == 900 and not set(rest.rows) & set(out.rows)
    assert np.array_equal(rest.rows, held_out(pool, 0.25, seed=3)[0].rows)
