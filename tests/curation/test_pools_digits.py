"""scikit-learn's digits as a pool."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.curation.pools.digits import DigitsPool


def test_splits_cover_the_set_once():
    train, test, everything = (DigitsPool(split=split) for split in ("train", "test", "all"))
    assert isinstance(train, Pool)
    assert (len(train), len(test), len(everything)) == (1200, 597, 1797)
    assert sorted([*train.ids, *test.ids]) == list(everything.ids)
    assert DigitsPool(seed=1).ids != train.ids and DigitsPool().ids == train.ids


def test_images_and_labels_are_those_of_sklearn():
    data = load_digits()
    pool = DigitsPool(size=8, split="train", seed=3)
    for row in (0, 17, 1199):
        original = int(pool.ids[row].removeprefix("digit-"))
        expected = np.round(data.images[original] * 255 / 16)
        assert (np.asarray(pool[row]) == expected[..., None]).all()
        assert pool.labels[row] == data.target[original]


def test_size_and_fingerprint():
    pool = DigitsPool(size=20)
    assert pool[0].size == (20, 20) and pool[0].mode == "RGB"
    prints = {DigitsPool(size=s, split=p, seed=i).fingerprint for s, p, i in [(16, "train", 0), (20, "train", 0)]}
    prints |= {DigitsPool(split="test").fingerprint, DigitsPool(seed=1).fingerprint}
    assert len(prints) == 4 and DigitsPool(size=20).fingerprint == pool.fingerprint


@pytest.mark.parametrize(("change", "field"), [({"split": "val"}, "split"), ({"size": 7}, "size")])
def test_bad_settings(change, field):
    with pytest.raises(ConfigError, match=rf"pool\.{field}"):
        DigitsPool(**change)
