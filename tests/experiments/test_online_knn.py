"""Online k-NN: the number that the evaluators would give."""

import json

import numpy as np
import pytest
import timm
import torch

from strata.curation.errors import ConfigError
from strata.curation.pools.digits import DigitsPool
from strata.curation.pools.subset import SubsetPool
from strata.eval.backbone import load_backbone
from strata.eval.extract import extract_features
from strata.eval.protocols.knn import KNN
from strata.experiments.online_knn import OnlineKNN, held_out
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.pretrain import pretrain


def test_it_is_the_score_of_the_evaluators(tmp_path):
    """Through training, export and protocol knn-v1, on the same images."""
    bank, queries = (SubsetPool(DigitsPool(split=s), np.arange(n)) for s, n in (("train", 300), ("test", 100)))
    config = ImageSSLConfig(
        backbone="vit_tiny_patch16_224", model_kwargs={"patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2},
        steps=2, batch_size=8, cache_size=16, global_size=16, local_size=8, n_local=1, n_prototypes=8, ibot_n_prototypes=8,
        head_hidden=8, head_bottleneck=8, warmup_steps=1, teacher_temperature_steps=1, freeze_last_layer_steps=1,
    )  # fmt: skip
    probe = OnlineKNN(bank, queries, size=16, mean=config.mean, std=config.std)
    folder = pretrain(
        config, bank, np.arange(300), tmp_path / "run",
        seed=0, log_every=1, probe=probe, probe_every=2, progress=False, device="cpu",
    )  # fmt: skip
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    features = extract_features(
        load_backbone(folder, "cpu"), {"train": bank, "test": queries}, tmp_path / "features", dtype="float32"
    )
    result = KNN(k=(20,), headline_k=20).evaluate(features, "digits", torch.device("cpu"))
    expected = next(score for score in result.scores if score.metric == "top1")
    assert last["knn_top1"] == pytest.approx(expected.value, abs=1e-9)


def test_pixels_and_features_that_tell_classes_apart():
    bank, queries = held_out(DigitsPool(size=8), 0.25, seed=0)
    probe = OnlineKNN(bank, queries, size=8, mean=(0.5,) * 3, std=(0.25,) * 3)
    bars = probe.pixels()
    assert set(bars) == {"pixels", "pixels, centered"} and all(0.9 < value <= 1.0 for value in bars.values())
    perfect = np.eye(10)
    assert probe.accuracy(perfect[probe.bank_labels], perfect[probe.query_labels]) == 1.0
    vit = timm.create_model(
        "vit_tiny_patch16_224", img_size=8, patch_size=4, embed_dim=24, depth=1, num_heads=2, num_classes=0
    )
    assert 0.0 < probe(vit.eval())["knn_top1"] < bars["pixels"]


def test_held_out_rows_are_not_in_the_rest():
    pool = DigitsPool()
    rest, out = held_out(pool, 0.25, seed=3)
    assert len(out) == 300 and len(rest) == 900 and not set(rest.rows) & set(out.rows)
    assert np.array_equal(rest.rows, held_out(pool, 0.25, seed=3)[0].rows)
    assert len(held_out(pool, 0.25, seed=3, limit=50)[0]) == 50


def test_it_refuses_pools_without_labels_and_small_banks():
    pool = DigitsPool()
    with pytest.raises(ConfigError, match="online_knn.bank: holds 10 images"):
        OnlineKNN(SubsetPool(pool, np.arange(10)), pool, size=8, mean=(0.5,) * 3, std=(0.2,) * 3)
    unlabelled = SubsetPool(pool, np.arange(30))
    unlabelled.labels = None
    with pytest.raises(ConfigError, match="online_knn.queries"):
        OnlineKNN(pool, unlabelled, size=8, mean=(0.5,) * 3, std=(0.2,) * 3)
