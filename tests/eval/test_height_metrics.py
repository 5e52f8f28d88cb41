"""Height errors against hand-computed cases, scikit-learn and average pooling."""

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, r2_score

from strata.curation.errors import ConfigError, DataError
from strata.eval.height_metrics import height_errors


def test_block_r2_of_a_hand_computed_case():
    """4 x 5 pixels, no crop, blocks of 2: four blocks (the last column is left over), means by hand."""
    truth = np.array([[0, 2, 4, 4, 9], [2, 4, 4, 4, 9], [6, 6, 10, 8, 9], [6, 6, 8, 10, 9]], float)  # means 2 4 6 9
    predicted = np.array([[3, 3, 4, 4, 0], [3, 3, 4, 4, 0], [5, 5, 9, 9, 0], [5, 5, 9, 9, 0]], float)  # 3 4 5 9
    found = height_errors([(predicted, truth)], block=2, crop=0)
    # mean of the truth 5.25; deviations 10.5625 + 1.5625 + .5625 + 14.0625 = 26.75; errors 1 + 0 + 1 + 0 = 2
    assert found.block_r2 == pytest.approx(1 - 2 / 26.75) and found.n_blocks == 4
    assert found.n_pixels == 20 and found.mae == pytest.approx((3 + 1 + 1 + 1 + 4 * 1 + 4 * 1 + 4 * 9) / 20)
    assert found.bias == pytest.approx((predicted - truth).mean())


def test_as_scikit_learn_and_average_pooling_over_several_maps():
    rng = np.random.default_rng(0)
    truth = 1000 + rng.standard_normal((5, 120, 110)).cumsum(axis=1)
    predicted = truth + rng.standard_normal(truth.shape)
    found = height_errors(zip(predicted, truth, strict=True))
    assert found.r2 == pytest.approx(r2_score(truth.ravel(), predicted.ravel()), rel=1e-10)
    assert found.mae == pytest.approx(mean_absolute_error(truth.ravel(), predicted.ravel()))
    assert found.rmse == pytest.approx(np.sqrt(np.mean((predicted - truth) ** 2)))
    pool = torch.nn.AvgPool2d(50)
    blocks = [pool(torch.from_numpy(x[:, None, 3:-3, 3:-3])).flatten().numpy() for x in (truth, predicted)]
    assert found.block_r2 == pytest.approx(r2_score(*blocks), rel=1e-10) and found.n_blocks == 5 * 2 * 2


def test_missing_pixels_do_not_count():
    rng = np.random.default_rng(0)
    truth, predicted = rng.random((2, 30, 30))
    truth[:10, :10] = np.nan  # the whole of a block
    truth[10:12, 10:20] = np.nan  # part of another
    predicted[:10, :10] = np.inf
    found = height_errors([(predicted, truth)], block=10, crop=0)
    valid = ~np.isnan(truth)
    assert found.n_pixels == valid.sum() and found.n_blocks == 8
    assert found.r2 == pytest.approx(r2_score(truth[valid], predicted[valid]))
    means = [
        [
            np.mean(x[i : i + 10, j : j + 10][valid[i : i + 10, j : j + 10]])
            for i in (0, 10, 20)
            for j in (0, 10, 20)
            if i + j
        ]
        for x in (truth, predicted)
    ]
    assert found.block_r2 == pytest.approx(r2_score(*means))


def test_what_cannot_be_scored_says_so():
    flat, slope = np.ones((8, 8)), np.arange(64.0).reshape(8, 8)
    with pytest.raises(DataError, match="all true heights are equal"):
        height_errors([(slope, flat)], block=4, crop=0)
    with pytest.raises(DataError, match="no map holds a whole block of 50"):
        height_errors([(slope, slope)])
    with pytest.raises(DataError, match="resize the prediction"):
        height_errors([(slope[:4], slope)])
    with pytest.raises(DataError, match="not finite"):
        height_errors([(np.full((8, 8), np.nan), slope)], block=4, crop=0)
    with pytest.raises(DataError, match="no pixel of the truth is valid"):
        height_errors([(slope, np.full((8, 8), np.nan))], block=4, crop=0)
    for field in ("block", "crop"):
        with pytest.raises(ConfigError, match=f"protocol.{field}"):
            height_errors([(slope, slope)], **{"block": 4, "crop": 0, field: -1})
