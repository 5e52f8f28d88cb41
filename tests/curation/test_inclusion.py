import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.curation.errors import ConfigError
from strata.curation.samplers.inclusion import draw_systematic, proportional

WEIGHTS = st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1e3)), min_size=1, max_size=40)


@given(WEIGHTS, st.data())
def test_proportional_adds_up_and_is_capped(weights, data):
    w = np.array(weights)
    n = data.draw(st.integers(0, len(w)))
    p = proportional(w, n)
    assert p.sum() == pytest.approx(n, abs=1e-9) and (p >= 0).all() and (p <= 1).all()
    below = (p < 1) & (w > 0)
    if below.sum() > 1:  # one ratio for all that are not capped, and no capped row has a lower weight
        ratio = p[below] / w[below]
        assert np.allclose(ratio, ratio[0], rtol=1e-9)
    if below.any() and (p == 1).any():
        assert w[p == 1].min() >= w[below].max() * (1 - 1e-9)


def test_proportional_by_hand():
    assert np.allclose(proportional(np.array([8.0, 1, 1, 2]), 2), [1, 0.25, 0.25, 0.5])
    assert np.allclose(proportional(np.array([5.0, 0, 0, 0]), 2), [1, 1 / 3, 1 / 3, 1 / 3])
    for bad in ([1.0, -1.0], [np.nan, 1.0], [np.inf, 1.0]):
        with pytest.raises(ConfigError):
            proportional(np.array(bad), 1)


@given(WEIGHTS, st.integers(0, 2**32 - 1), st.data())
def test_a_draw_has_exactly_n_different_rows(weights, seed, data):
    w = np.array(weights)
    n = data.draw(st.integers(0, len(w)))
    rng = np.random.default_rng(seed)
    p = proportional(w, n)
    drawn = draw_systematic(p, n, rng.permutation(len(w)), rng)
    assert len(drawn) == len(set(drawn.tolist())) == n
    assert set(np.flatnonzero(p >= 1).tolist()) <= set(drawn.tolist()) and (p[drawn] > 0).all()


def test_rows_are_drawn_as_often_as_they_should_be():
    p = proportional(np.array([8.0, 1, 1, 2, 3, 0.5]), 3)
    rng = np.random.default_rng(0)
    seen = sum(np.bincount(draw_systematic(p, 3, rng.permutation(6), rng), minlength=6) for _ in range(20_000))
    assert abs(seen / 20_000 - p).max() < 0.015  # 4 standard errors
