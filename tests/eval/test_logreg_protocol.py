import numpy as np
import pytest
import torch

from strata.curation.errors import ConfigError, DataError
from strata.eval.features import Features
from strata.eval.protocols.logistic import LogisticPath
from strata.eval.protocols.logreg import DINOV2_STRENGTHS, LogReg
from strata.eval.protocols.selection import held_out_rows


def clusters(seed, n, n_classes=6, d=12, noise=1.2):
    """Overlapping classes on axes of very different length, off the origin."""
    rng = np.random.default_rng(seed)
    axes = np.arange(1, d + 1) ** -1.5
    centers = np.random.default_rng(99).standard_normal((n_classes, d)) * axes
    y = np.arange(n) % n_classes
    return (centers[y] + noise * axes * rng.standard_normal((n, d)) + 2 * axes).astype(np.float32), y


def scikit_learn(x, y, strength, **options):
    from sklearn.linear_model import LogisticRegression

    options = {"max_iter": 5000, "tol": 1e-8} | options
    return LogisticRegression(C=strength, **options).fit(x.astype(np.float64), y)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("n_classes", [2, 6])
def test_solutions_are_those_of_scikit_learn(n_classes):
    x, y = clusters(0, 600, n_classes)
    test, _ = clusters(1, 200, n_classes)
    path = LogisticPath(torch.from_numpy(x), torch.from_numpy(y), n_classes)
    for strength in (1e-4, 1e-2, 1.0, 100.0):
        fitted = path.fit(strength, 1000, 1e-9)
        assert fitted.converged
        probabilities = fitted.logits(torch.from_numpy(test)).softmax(dim=1).numpy()
        expected = scikit_learn(x, y, strength).predict_proba(test)
        np.testing.assert_allclose(probabilities, expected, atol=2e-3)


def test_a_minimum_by_its_gradient_in_float64():
    """The gradient of the objective, computed anew by autograd, is zero at the solution; a worse start does not matter."""
    x, y = clusters(0, 300)
    for order in ((0.01, 1.0), (100.0, 1.0)):
        path = LogisticPath(torch.from_numpy(x), torch.from_numpy(y), 6)
        for strength in order:
            fitted = path.fit(strength, 1000, 1e-9)
        w = fitted.weight.double().requires_grad_()
        b = fitted.bias.double().requires_grad_()
        logits = torch.from_numpy(x).double() @ w.T + b
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y)) + w.square().sum() / (2 * 1.0 * 300)
        loss.backward()
        assert max(w.grad.abs().max(), b.grad.abs().max()) < 2e-4


def test_chooses_the_same_strength_as_scikit_learn(make_features, tmp_path):
    (x, y), (test, z) = clusters(0, 600), clusters(1, 600)
    strengths = tuple(np.logspace(-2, 4, 7))
    for choose_by in ("top1", "cross_entropy"):
        path = make_features(name=f"f-{choose_by}", train=(x, y), test=(test, z))
        probe = LogReg(strengths=strengths, choose_by=choose_by, tol=1e-9)
        score = probe.run(path, tmp_path / choose_by, device="cpu")[0]
        fitted_on, held_out = held_out_rows(y, 0.1, 0)
        judged = []
        for strength in strengths:
            model = scikit_learn(unit(x[fitted_on]), y[fitted_on], strength)
            p = model.predict_log_proba(unit(x[held_out]))
            loss = -p[np.arange(len(held_out)), y[held_out]].mean()
            judged.append(((-(p.argmax(1) == y[held_out]).mean() if choose_by == "top1" else 0), loss))
        chosen = strengths[min(range(len(strengths)), key=lambda i: judged[i])]
        assert score.details["chosen"]["C"] == pytest.approx(chosen)
        expected = scikit_learn(unit(x), y, chosen).score(unit(test), z)
        assert 0.4 < expected < 0.99
        assert abs(score.value - expected) < 0.003
        assert len(score.details["trials"]) == len(strengths)


def test_the_grid_is_dinov2s():
    assert len(DINOV2_STRENGTHS) == 45
    assert DINOV2_STRENGTHS[0] == pytest.approx(1e-6)
    assert DINOV2_STRENGTHS[-1] == pytest.approx(1e5)


def test_classes_without_a_training_image_are_never_predicted(make_features, tmp_path):
    x, y = clusters(0, 300)
    kept = y != 2
    path = make_features(train=(x[kept], y[kept]), test=(x, y), n_classes=6)
    head = LogReg(strengths=(1.0,)).fit(Features.open(path, "train"))
    assert 2 not in head.predict(Features.open(path, "test"))
    assert head.details["chosen_by"] == "the only one"


def test_separable_data_at_the_weakest_penalty(make_features):
    x, y = clusters(0, 200, noise=0.05)
    train = Features.open(make_features(train=(x, y)), "train")
    head = LogReg(strengths=(1e5,)).fit(train)
    assert np.mean(head.predict(train) == y) == 1.0
    assert torch.isfinite(head.fitted.weight).all()


def test_collapsed_features_give_the_most_frequent_class(make_features):
    y = np.array([0] * 20 + [1] * 30)
    train = Features.open(make_features(train=(np.ones((50, 4), np.float32), y)), "train")
    head = LogReg(strengths=(1e-3, 1.0)).fit(train)
    assert (head.predict(train) == 1).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [("strengths", []), ("strengths", [0.0]), ("holdout", 1.0), ("choose_by", "test"), ("max_iter", 0), ("tol", 0.0)],
)
def test_bad_options(field, value):
    with pytest.raises(ConfigError) as caught:
        LogReg(**{field: value})
    assert caught.value.field == f"protocol.{field}"


def test_sets_that_do_not_fit(make_features, tmp_path):
    x, _ = clusters(0, 30)
    one_class = make_features(name="one", train=(x, np.zeros(30, int)), test=(x, np.zeros(30, int)), n_classes=2)
    with pytest.raises(ConfigError, match="of one class"):
        LogReg().run(one_class, tmp_path / "s", device="cpu")
    singles = make_features(name="singles", train=(x[:6], np.arange(6)), test=(x[:6], np.arange(6)))
    with pytest.raises(ConfigError, match=r"protocol\.holdout"):
        LogReg().run(singles, tmp_path / "s", device="cpu")
    for label, match in ((9, "label 9 of row 3"), (-1, "label -1 of row 3")):
        wrong = np.arange(30) % 6
        wrong[3] = label
        path = make_features(name=f"wrong{label}", train=(x, wrong), test=(x, np.arange(30) % 6), n_classes=6)
        with pytest.raises(DataError, match=match):
            LogReg().run(path, tmp_path / "s", device="cpu")
    assert not (tmp_path / "s").exists()
    assert not (tmp_path / "s.partial").exists()
