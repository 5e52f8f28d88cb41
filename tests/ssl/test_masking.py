"""Masks: exact counts, blocks, and the same masks however a step is split."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.ssl.image.masking import Masks, block_mask, masked_counts, step_masks
from strata.ssl.image.share import Share


@given(st.integers(1, 16), st.integers(1, 16), st.floats(0, 1), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_block_mask_count_is_exact_on_any_grid(height, width, share, seed):
    n_masked = round(share * height * width)
    mask = block_mask((height, width), n_masked, np.random.default_rng(seed))
    assert mask.shape == (height, width) and mask.sum() == n_masked


def test_one_block_is_a_rectangle_within_the_aspect_limits():
    """Blocks as large as they may be: whenever one draw fills the count, the mask is a rectangle of aspect 0.3 to 1/0.3."""
    rectangles = 0
    for seed in range(300):
        mask = block_mask((14, 14), 24, np.random.default_rng(seed))
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        h, w = np.ptp(rows) + 1, np.ptp(columns) + 1
        if h * w == mask.sum():
            rectangles += 1
            assert (h - 0.5) / (w + 0.5) <= 1 / 0.3 and (h + 0.5) / (w - 0.5) >= 0.3  # sides are rounded
    assert rectangles > 5


def touching(mask):
    return (mask[1:] & mask[:-1]).sum() + (mask[:, 1:] & mask[:, :-1]).sum()


def test_block_masks_are_blocks():
    """Masked patches have far more masked neighbors than the same number of patches thrown at random."""
    rng = np.random.default_rng(0)
    blocks = np.mean([touching(block_mask((14, 14), 40, rng)) for _ in range(50)])
    scattered = np.mean([touching(rng.permutation(196).reshape(14, 14) < 40) for _ in range(50)])
    assert blocks > 3 * scattered


def test_counts_spread_over_the_ratio():
    counts = masked_counts(20, 64, 0.5, (0.1, 0.5), np.random.default_rng(0))
    assert (counts == 0).sum() == 10
    edges = np.linspace(0.1, 0.5, 11) * 64
    for count, low, high in zip(np.sort(counts)[10:], edges[:-1], edges[1:], strict=True):  # one in each bin
        assert np.floor(low) <= count <= high
    assert not np.array_equal(counts, masked_counts(20, 64, 0.5, (0.1, 0.5), np.random.default_rng(1)))


@pytest.mark.parametrize(("probability", "masked"), [(0.0, 0), (0.25, 3), (0.5, 6), (1.0, 12)])
def test_how_many_crops_are_masked(probability, masked):
    assert (masked_counts(12, 64, probability, (0.1, 0.5), np.random.default_rng(0)) > 0).sum() == masked


def test_every_masked_image_hides_something_on_a_small_grid():
    assert (masked_counts(6, 4, 1.0, (0.1, 0.2), np.random.default_rng(0)) == 1).all()


def test_places_and_weights_of_known_masks():
    masks = Masks.of(np.array([[True, False, True], [False, False, False], [False, True, False]]))
    assert masks.places.tolist() == [0, 2, 7] and masks.weights.tolist() == [0.5, 0.5, 1.0]
    nothing = Masks.of(np.zeros((2, 3), dtype=bool))
    assert len(nothing.places) == len(nothing.weights) == 0


def masks_of(share, step=3):
    return step_masks((8, 8), 0.5, (0.1, 0.5), seed=1, step=step, share=share)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_parts_of_a_step_are_the_whole_step(count):
    whole = masks_of(Share(12)).hidden.view(2, 12, 64)
    parts = [masks_of(Share(12, index, count)).hidden.view(2, 12 // count, 64) for index in range(count)]
    assert torch.equal(torch.cat(parts, dim=1), whole)
    assert (whole.sum(2) > 0).sum() == 12
    for a, b in itertools.pairwise(masks_of(Share(12), step).hidden for step in (3, 4, 5)):
        assert not torch.equal(a, b)
