"""What no number may depend on: the test split (for what is chosen), batch size, threads, processes."""

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from strata.eval.features import Features
from strata.eval.protocols import inputs, linear
from strata.eval.protocols.attentive import Attentive
from strata.eval.protocols.knn import KNN
from strata.eval.protocols.linear import Linear
from strata.eval.protocols.logreg import LogReg
from strata.eval.protocols.transfer import Transfer

LINEAR = Linear(learning_rates=(0.01, 0.1, 1.0), n_blocks=(1, 2), steps=40, batch_size=32)
LOGREG = LogReg(strengths=tuple(np.logspace(-3, 4, 8)))
ATTENTIVE = Attentive(learning_rates=(1e-3, 1e-2), n_heads=2, steps=10, batch_size=16)
CHOOSE = {
    "linear": LINEAR,
    "linear by cross-entropy": Linear(learning_rates=(0.01, 0.1, 1.0), n_blocks=(1, 2), steps=40, choose_by="cross_entropy"),
    "logreg": LOGREG,
    "logreg by cross-entropy": LogReg(strengths=tuple(np.logspace(-3, 4, 8)), choose_by="cross_entropy"),
    "attentive": ATTENTIVE,
    "transfer": Transfer(LINEAR),
}  # fmt: skip


def blobs(seed, n, noise=1.5, blocks=2, d=8):
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).standard_normal((5, blocks, d))
    y = np.arange(n) % 5
    return (centers[y] + noise * rng.standard_normal((n, blocks, d))).astype(np.float32), y


def tokens_of(cls):
    return np.repeat(cls[:, -1:, None], 4, axis=2)


@pytest.mark.parametrize("name", CHOOSE)
def test_an_adversarial_test_split_moves_no_choice(make_features, tmp_path, name):
    """The test labels are those that each other setting would be best on, then junk: the choice and what it predicts stay."""
    (train, y), (test, z) = blobs(0, 200), blobs(1, 60)
    first = make_features(name="first", train=(train, y), test=(test, z),
                          extra={"train": {"patches": tokens_of(train)}, "test": {"patches": tokens_of(test)}})  # fmt: skip
    worst = (CHOOSE["linear"].fit(Features.open(first, "train")).predict(Features.open(first, "test")) + 1) % 5
    seen = {}
    for kind, labels in {"true": z, "adversarial": worst, "constant": np.zeros_like(z)}.items():
        extra = {"train": {"patches": tokens_of(train)}, "test": {"patches": tokens_of(test)}}
        path = make_features(name=f"f-{kind}", train=(train, y), test=(test, labels), n_classes=5, extra=extra)
        scores = CHOOSE[name].run(path, tmp_path / f"s-{kind}", device="cpu")
        predicted = pq.read_table(tmp_path / f"s-{kind}" / "predictions.parquet")["prediction"].to_pylist()
        seen[kind] = (scores[0].details["chosen"], scores[0].details["trials"], predicted)
        assert scores[0].value == np.mean(np.array(predicted) == labels)
    assert seen["true"] == seen["adversarial"] == seen["constant"]


def test_more_test_images_change_no_choice_and_no_prediction(make_features):
    """An image is predicted alike whatever else is in the test set and however many are read at once."""
    (train, y), (test, z) = blobs(0, 200), blobs(1, 90)
    path = make_features(train=(train, y), test=(test, z), few=(test[:7], z[:7]))
    few, many = Features.open(path, "few"), Features.open(path, "test")
    for protocol in (LINEAR, LOGREG, KNN(k=[5], headline_k=5)):
        head = protocol.fit(Features.open(path, "train"))
        predicted = head.predict(many)
        for rows_at_once in (1, 13, 4096):
            np.testing.assert_array_equal(head.predict(many, rows_at_once), predicted)
        np.testing.assert_array_equal(head.predict(few), predicted[:7])


def test_read_from_disk_or_from_memory(make_features, monkeypatch):
    train = Features.open(make_features(train=blobs(0, 120)), "train")
    kept = LINEAR.fit(train)
    monkeypatch.setattr(inputs, "RESIDENT_BYTES", 0)
    read = LINEAR.fit(train)
    assert torch.equal(kept.weight, read.weight)
    assert kept.trials == read.trials


def test_threads_move_numbers_by_rounding_only(make_features):
    path = make_features(train=blobs(0, 300), test=blobs(1, 200))
    train, test = Features.open(path, "train"), Features.open(path, "test")
    found = {}
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found[threads] = [
                protocol.fit(train).logits(test, np.arange(200))
                for protocol in (LINEAR, LOGREG, KNN(k=[5], headline_k=5))
            ]
    finally:
        torch.set_num_threads(1)
    for one, two in zip(found[1], found[2], strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
    assert torch.equal(found[1][2], found[2][2])  # k-NN: to the bit


RUN = """
import json, sys, torch
from strata.eval.protocols.knn import KNN
from strata.eval.protocols.linear import Linear
from strata.eval.protocols.logreg import LogReg
torch.set_num_threads(1)
protocol = {"knn": KNN(k=[5], headline_k=5), "logreg": LogReg(strengths=(0.1, 1.0, 10.0)),
            "linear": Linear(learning_rates=(0.1, 1.0), n_blocks=(1,), steps=20, batch_size=32)}[sys.argv[1]]
protocol.run(sys.argv[2], sys.argv[3], device="cpu")
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["knn", "linear", "logreg"])
def test_two_processes_at_once_write_what_one_writes(make_features, tmp_path, name):
    path = make_features(train=blobs(0, 200), test=blobs(1, 100))
    outs = [tmp_path / f"out-{i}" for i in range(3)]

    def start(out):
        return subprocess.Popen([sys.executable, "-c", RUN, name, str(path), str(out)], stderr=subprocess.DEVNULL)

    assert start(outs[0]).wait() == 0
    both = [start(out) for out in outs[1:]]
    assert [process.wait() for process in both] == [0, 0]
    for file in ("scores.json", "predictions.parquet"):
        assert len({(out / file).read_bytes() for out in outs}) == 1
    assert json.loads((outs[0] / "scores.json").read_text())[0]["n"] == 100


@pytest.mark.gpu
@pytest.mark.parametrize("protocol", [KNN(k=[5], headline_k=5), LOGREG, LINEAR], ids=lambda p: p.id)
def test_a_gpu_gives_the_same_logits_to_rounding(make_features, protocol):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    path = make_features(train=blobs(0, 300), test=blobs(1, 200))
    train, test = Features.open(path, "train"), Features.open(path, "test")
    cpu, gpu = (protocol.fit(train, device).logits(test, np.arange(200)).cpu() for device in ("cpu", "cuda"))
    torch.testing.assert_close(cpu, gpu, atol=1e-3, rtol=1e-3)
    assert linear.Linear.version == 1
