"""Spectra with known answers."""

import numpy as np
import pytest

from strata.curation.errors import ConfigError, DataError
from strata.eval.protocols.health import Health
from strata.eval.spectrum import alpha_req, lidar, rankme, second_moment


def with_spectrum(singular, n=400, seed=0):
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.standard_normal((n, len(singular))))[0]
    right = np.linalg.qr(rng.standard_normal((len(singular), len(singular))))[0]
    return left * singular @ right


def test_rankme_of_known_spectra():
    for singular, expected in (
        (np.ones(16), 16.0),
        (np.array([1.0, 1.0, 1.0, 0.0, 0.0]), 3.0),
        (np.array([3.0, 1.0]), np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))),
    ):
        z = with_spectrum(singular)
        assert rankme(second_moment(z)) == pytest.approx(expected, rel=1e-4)
        p = np.linalg.svd(z, compute_uv=False)
        p = p / p.sum() + 1e-7
        assert rankme(second_moment(z)) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-4)


def test_alpha_of_a_power_law():
    for alpha in (0.5, 1.0, 2.0):
        covariance = np.diag(np.arange(1, 151) ** -alpha)
        assert alpha_req(covariance) == pytest.approx(alpha, abs=1e-6)
    assert alpha_req(np.diag([4.0, 2.0, 1.0])) == pytest.approx(-np.polyfit(np.log([1, 2, 3]), np.log([4, 2, 1]), 1)[0])
    assert alpha_req(np.zeros((5, 5))) == 0.0


def test_second_moment_with_weights_is_of_repeated_rows():
    z = np.random.default_rng(0).standard_normal((20, 4))
    times = np.random.default_rng(1).integers(0, 4, 20)
    np.testing.assert_allclose(
        second_moment(z, times.astype(float)), np.repeat(z, times, axis=0).T @ np.repeat(z, times, axis=0)
    )


def test_lidar_counts_the_directions_that_tell_objects_apart():
    rng = np.random.default_rng(0)
    for rank in (2, 6):
        centers = np.zeros((300, 10))
        centers[:, :rank] = rng.standard_normal((300, rank))
        z = np.repeat(centers, 8, axis=0) + 0.1 * rng.standard_normal((2400, 10))
        found = lidar(z, np.repeat(np.arange(300), 8))
        assert rank - 0.3 < found < rank + 0.6
    nothing = rng.standard_normal((2400, 10))  # views of an object are no more alike than of two: rank of noise
    assert lidar(nothing, np.repeat(np.arange(300), 8)) > 9


def test_healthy_and_collapsed(make_features, tmp_path):
    rng = np.random.default_rng(0)
    y = np.zeros(300, int)
    healthy = rng.standard_normal((300, 24)).astype(np.float32)
    collapsed = (np.ones(24) + 1e-3 * rng.standard_normal((300, 24))).astype(np.float32)
    found = {}
    for name, z in {"healthy": healthy, "collapsed": collapsed}.items():
        path = make_features(name=name, train=(z, y), test=(z, y))
        scores = Health().run(path, tmp_path / f"s-{name}", device="cpu")
        assert [s.metric for s in scores] == list(Health().metrics())
        assert all(s.n == 300 and s.ci_low <= s.value <= s.ci_high for s in scores)
        found[name] = {s.metric: s.value for s in scores}
    assert found["healthy"]["rankme"] > 20
    assert found["collapsed"]["rankme"] < 1.3
    assert found["healthy"]["mean_cosine"] < 0.05
    assert found["collapsed"]["mean_cosine"] > 0.99


def test_the_interval_covers_another_sample(make_features, tmp_path):
    z = np.random.default_rng(0).standard_normal((4000, 12)) * np.arange(1, 13) ** -1.0
    whole = rankme(second_moment(z)) / 1.0
    y, inside = np.zeros(400, int), 0
    for i in range(10):
        path = make_features(name=f"f{i}", train=(z[400 * i : 400 * i + 400].astype(np.float32), y))
        score = Health(n_draws=30).run(path, tmp_path / f"s{i}", device="cpu", benchmark="toy")[0]
        inside += score.ci_low <= whole <= score.ci_high
    assert inside >= 8


def test_lidar_where_items_are_views(make_features, tmp_path):
    rng = np.random.default_rng(0)
    z = (np.repeat(rng.standard_normal((60, 6)), 4, axis=0) + 0.1 * rng.standard_normal((240, 6))).astype(np.float32)
    columns = {"view_of": np.repeat(np.arange(60), 4)}
    path = make_features(train=(z, np.zeros(240, int)), extra={"train": {"columns": columns}})
    score = Health().run(path, tmp_path / "s", device="cpu", benchmark="toy")[-1]
    assert (score.metric, score.n) == ("lidar", 60)
    assert score.value == pytest.approx(lidar(z, columns["view_of"]))
    single = make_features(
        name="single", train=(z, np.zeros(240, int)), extra={"train": {"columns": {"view_of": np.arange(240)}}}
    )
    with pytest.raises(DataError, match="no image has two views"):
        Health().run(single, tmp_path / "t", device="cpu", benchmark="toy")


def test_what_does_not_fit(make_features, tmp_path):
    path = make_features(train=(np.ones((1, 3), np.float32), [0]))
    with pytest.raises(DataError, match="1 items have no spectrum"):
        Health().run(path, tmp_path / "s", device="cpu", benchmark="toy")
    with pytest.raises(DataError, match="no split 'val'"):
        Health(split="val").run(path, tmp_path / "s", device="cpu", benchmark="toy")
    for options in ({"max_rows": 1}, {"n_draws": 2}):
        with pytest.raises(ConfigError, match=r"protocol\."):
            Health(**options)
    assert not (tmp_path / "s").exists()
