"""scikit-learn's own checks of an estimator, and that it is our k-means."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from strata.curation.flat_kmeans import FlatKMeans
from strata.curation.kmeans.flat import kmeans

# scikit-learn's own KMeans is excused from this one too: seeds are rows drawn at random, and repeating rows changes the
# draw. From the same seeds weights are repeats: test_weights_are_repeats.
WHY = "the seeds drawn from repeated rows are not those drawn from weighted ones"
EXPECTED_TO_FAIL = {"check_sample_weight_equivalence_on_dense_data": WHY}


@pytest.mark.filterwarnings("ignore:k-means found")
@parametrize_with_checks([FlatKMeans(3)], expected_failed_checks=lambda _: EXPECTED_TO_FAIL)
def test_sklearn(estimator, check):
    check(estimator)


def test_it_is_our_kmeans():
    X = load_digits().data
    model, ours = FlatKMeans(10, random_state=3).fit(X), kmeans(X, 10, init="auto", random_state=3)
    assert np.array_equal(model.labels_, ours.labels) and model.inertia_ == ours.inertia
    assert np.array_equal(model.predict(X), model.labels_)
    piped = make_pipeline(StandardScaler(), clone(model)).fit(X)
    assert len(set(piped.predict(X))) == 10


def test_weights_are_repeats():
    rng = np.random.default_rng(0)
    X, times = rng.standard_normal((80, 3)), rng.integers(0, 4, 80)
    weighted = FlatKMeans(5, init=X[:5]).fit(X, sample_weight=times)
    repeated = FlatKMeans(5, init=X[:5]).fit(X.repeat(times, axis=0))
    assert np.allclose(weighted.cluster_centers_, repeated.cluster_centers_, atol=1e-9)
    assert np.isclose(weighted.inertia_, repeated.inertia_)


def test_refusals_are_value_errors():
    with pytest.raises(ValueError, match="algorithm"):
        FlatKMeans(2, algorithm="fast").fit(np.eye(5))
