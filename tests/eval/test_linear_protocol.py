from dataclasses import asdict

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from strata.curation.errors import ConfigError
from strata.eval.features import Features
from strata.eval.protocols.inputs import read_input
from strata.eval.protocols.linear import Linear, Setting, batches
from strata.eval.protocols.sgd_heads import SGDHeads

FAST = {"learning_rates": (0.01, 0.1, 1.0), "n_blocks": (1,), "steps": 60, "batch_size": 32}


def blobs(seed, n, n_classes=5, d=8, noise=1.0, blocks=2):
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).standard_normal((n_classes, blocks, d)) * 2
    labels = np.arange(n) % n_classes
    return (centers[labels] + noise * rng.standard_normal((n, blocks, d))).astype(np.float32), labels


def test_separable_data_is_separated(make_features, tmp_path):
    path = make_features(train=blobs(0, 200, noise=0.2), test=blobs(1, 100, noise=0.2))
    top1, per_class = Linear(**FAST).run(path, tmp_path / "s", device="cpu", benchmark="blobs")
    assert (top1.protocol, top1.version, top1.benchmark, top1.metric) == ("linear", 1, "blobs", "top1")
    assert (per_class.metric, per_class.n) == ("mean_per_class", 5)
    assert top1.value == per_class.value == 1.0
    assert len(top1.details["trials"]) == 3 * 2


def test_agrees_with_logistic_regression_on_digits(make_features, tmp_path):
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1200], order[1200:]
    path = make_features(train=(x[train], y[train]), test=(x[test], y[test]))
    probe = Linear(learning_rates=(0.03, 0.1, 0.3, 1.0, 3.0), n_blocks=(1,), avgpool=(False,), steps=400)
    found = probe.run(path, tmp_path / "s", device="cpu")[0].value
    expected = LogisticRegression(max_iter=2000).fit(x[train], y[train]).score(x[test], y[test])
    assert expected > 0.93
    assert abs(found - expected) < 0.02


def test_a_step_is_torchs_sgd_with_cosine():
    torch.manual_seed(0)
    rates, n_steps = torch.tensor([0.05, 0.5, 2.0], dtype=torch.float64), 7
    heads = SGDHeads(6, 4, rates, momentum=0.9, seed=1, dtype=torch.float64)
    layers = [torch.nn.Linear(6, 4, dtype=torch.float64) for _ in rates]
    for h, layer in enumerate(layers):
        layer.weight.data.copy_(heads.weight[:, h].T)
        layer.bias.data.zero_()
    optimizer = torch.optim.SGD(
        [{"params": layer.parameters(), "lr": rate.item()} for layer, rate in zip(layers, rates)], momentum=0.9
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps, eta_min=0)
    for step in range(n_steps):
        x, y = torch.randn(10, 6, dtype=torch.float64), torch.randint(0, 4, (10,))
        heads.step(x, y, step / n_steps)
        loss = sum(torch.nn.functional.cross_entropy(layer(x), y) for layer in layers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    for h, layer in enumerate(layers):
        torch.testing.assert_close(heads.weight[:, h].T, layer.weight.data, atol=1e-12, rtol=1e-10)
        torch.testing.assert_close(heads.bias[h], layer.bias.data, atol=1e-12, rtol=1e-10)


def test_a_head_is_the_same_alone_and_beside_others(make_features):
    train = Features.open(make_features(train=blobs(0, 150, noise=2.0)), "train")
    probe = Linear(learning_rates=(0.001, 0.01, 0.1, 1.0), n_blocks=(1, 2), steps=50, batch_size=32)
    rows = np.arange(len(train))
    grid = [Setting(r, n, a) for r in probe.learning_rates for n in probe.n_blocks for a in probe.avgpool]
    together = probe._train(train, rows, grid, "cpu", "together")
    for setting in grid:
        (alone,) = probe._train(train, rows, [setting], "cpu", "alone").values()
        shared = together[setting.n_blocks, setting.avgpool]
        h = probe.learning_rates.index(setting.learning_rate)
        torch.testing.assert_close(shared.weight[:, h], alone.weight[:, 0], atol=1e-5, rtol=0)
        torch.testing.assert_close(shared.bias[h], alone.bias[0], atol=1e-5, rtol=0)


def test_the_test_split_moves_nothing_but_the_score(make_features, tmp_path):
    """Block 2 tells the class in train; in test only block 1 does, so choosing on test would take n_blocks=2."""
    train, y = blobs(0, 300, noise=0.5)
    train[:, 0] = np.random.default_rng(5).standard_normal(train[:, 0].shape)
    test, z = blobs(1, 100, noise=0.5)
    found = {}
    for name, labels in {"true": z, "shifted": (z + 1) % 5, "constant": np.zeros_like(z)}.items():
        path = make_features(name=name, train=(train, y), test=(test, labels))
        scores = Linear(**FAST | {"n_blocks": (1, 2)}).run(path, tmp_path / f"s-{name}", device="cpu")
        predicted = pq.read_table(tmp_path / f"s-{name}" / "predictions.parquet")["prediction"].to_pylist()
        found[name] = (scores[0].details, predicted)
        assert scores[0].value == np.mean(np.array(predicted) == labels)
    assert found["true"] == found["shifted"] == found["constant"]


def test_the_winner_is_best_on_held_out_rows_that_it_never_saw(make_features):
    """Each item has its own coordinate and a random label: learnt by heart, useless on rows that were not seen."""
    n = 100
    x, y = np.eye(n, dtype=np.float32) * 10, np.random.default_rng(0).permutation(np.arange(n) % 2)
    train = Features.open(make_features(train=(x, y)), "train")
    probe = Linear(learning_rates=(0.3, 1.0), n_blocks=(1,), avgpool=(False,), steps=100, batch_size=20, holdout=0.4)
    fitted = probe.fit(train)
    assert max(trial["top1"] for trial in fitted.trials) <= 0.7
    assert np.mean(fitted.predict(train) == y) == 1.0  # the final fit has all rows
    assert (
        fitted.setting.learning_rate
        == min(fitted.trials, key=lambda t: (-t["top1"], t["cross_entropy"]))["learning_rate"]
    )


def test_final_head_is_the_chosen_setting_trained_on_all_rows(make_features):
    train = Features.open(make_features(train=blobs(0, 150, noise=2.0)), "train")
    probe = Linear(**FAST)
    fitted = probe.fit(train)
    rate, n_blocks, avgpool = fitted.setting.learning_rate, fitted.setting.n_blocks, fitted.setting.avgpool
    scaled = torch.tensor([rate * 32 / 256])
    expected = SGDHeads((n_blocks + avgpool) * 8, 5, scaled, momentum=0.9, seed=0)
    for step, rows in enumerate(batches(np.arange(150), 32, 60, seed=0)):
        x = read_input(train, rows, n_blocks, avgpool, "cpu")
        expected.step(x, torch.from_numpy(train.labels[rows]), step / 60)
    torch.testing.assert_close(fitted.weight, expected.weight[:, 0], atol=1e-6, rtol=0)
    torch.testing.assert_close(fitted.bias, expected.bias[0], atol=1e-6, rtol=0)
    again = probe.fit(train)
    assert torch.equal(fitted.weight, again.weight)
    assert fitted.trials == again.trials


@pytest.mark.parametrize("choose_by", ["top1", "cross_entropy"])
def test_choose_by(make_features, choose_by):
    train = Features.open(make_features(train=blobs(0, 300, noise=4.0)), "train")
    probe = Linear(learning_rates=(0.001, 0.01, 0.1, 1.0, 10.0), n_blocks=(1,), steps=60, choose_by=choose_by)
    fitted = probe.fit(train)
    chosen = next(t for t in fitted.trials if t.items() >= asdict(fitted.setting).items())
    assert chosen[choose_by] == {"top1": max, "cross_entropy": min}[choose_by](t[choose_by] for t in fitted.trials)
    assert len({t[choose_by] for t in fitted.trials}) > 2


def test_repeated_options_count_once(make_features):
    train = Features.open(make_features(train=blobs(0, 50)), "train")
    probe = Linear(learning_rates=(0.1, 0.1), n_blocks=[2, 1, 1], avgpool=[True, True], steps=2)
    assert len(probe.fit(train).trials) == 2


def test_diverged_heads_lose(make_features):
    train = Features.open(make_features(train=blobs(0, 150, noise=1.0)), "train")
    fitted = Linear(**FAST | {"learning_rates": (0.1, 1e38)}).fit(train)
    assert fitted.setting.learning_rate == 0.1
    lost = [t for t in fitted.trials if t["learning_rate"] == 1e38]
    assert all(t["top1"] == -1.0 and t["cross_entropy"] is None for t in lost)
    with pytest.raises(ConfigError, match=r"protocol\.learning_rates"):
        Linear(**FAST | {"learning_rates": (1e38,)}).fit(train)


def test_inputs_follow_dinov2(make_features):
    cls = np.arange(24, dtype=np.float16).reshape(2, 4, 3)
    train = Features.open(make_features(train=(cls, [0, 1], cls + 100)), "train")
    assert read_input(train, np.array([1]), 1, False, "cpu").tolist() == [[21, 22, 23]]
    assert read_input(train, np.array([1]), 1, True, "cpu").tolist() == [[21, 22, 23, 121, 122, 123]]
    assert read_input(train, np.array([0]), 2, True, "cpu").tolist() == [[6, 7, 8, 9, 10, 11, 109, 110, 111]]


def test_batches_are_full_and_even():
    seen = list(batches(np.arange(10, 17), 3, 7, seed=0))
    assert [len(batch) for batch in seen] == [3] * 7
    assert (np.bincount(np.concatenate(seen))[10:] == 3).all()  # 3 whole permutations
    assert len(next(batches(np.arange(2), 5, 1, seed=0))) == 5  # fewer rows than a batch


def test_details_say_when_the_learning_rates_are_too_few(make_features, tmp_path):
    path = make_features(train=blobs(0, 100, noise=1.0), test=blobs(1, 50, noise=1.0))
    score = Linear(**FAST | {"learning_rates": (1e-6, 1e-5)}).run(path, tmp_path / "s", device="cpu")[0]
    assert score.details["chosen_at_end_of_learning_rates"]


def test_repeats_to_the_byte(make_features, tmp_path):
    path = make_features(train=blobs(0, 100, noise=2.0), test=blobs(1, 50, noise=2.0))
    for name in "ab":
        Linear(**FAST).run(path, tmp_path / name, device="cpu")
    for file in ("scores.json", "predictions.parquet", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rates", []),
        ("learning_rates", [0.0, 0.1]),
        ("n_blocks", []),
        ("n_blocks", [0]),
        ("avgpool", []),
        ("steps", 0),
        ("batch_size", 0),
        ("momentum", 1.0),
        ("choose_by", "test"),
        ("holdout", 0.0),
        ("holdout", 1.0),
    ],
)
def test_bad_options(field, value):
    with pytest.raises(ConfigError) as caught:
        Linear(**{field: value})
    assert caught.value.field == f"protocol.{field}"


def test_options_that_do_not_fit_the_features(make_features):
    train = Features.open(make_features(train=blobs(0, 50)), "train")
    with pytest.raises(ConfigError, match=r"protocol\.n_blocks: 4 blocks, but the features hold 2"):
        Linear(steps=1).fit(train)
    singles = Features.open(make_features(name="singles", train=blobs(0, 5)), "train")  # one image per class
    with pytest.raises(ConfigError, match=r"protocol\.holdout"):
        Linear(**FAST).fit(singles)
