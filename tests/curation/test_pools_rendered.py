"""The generator of images with known concepts."""

import pickle

import numpy as np
import pytest
from scipy.stats import chisquare

from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.curation.pools.rendered import RenderedPool, concept_ranks
from strata.curation.pools.shapes import SHAPES, TEXTURES


def pixels(pool, rows):
    return [np.asarray(pool[row]).tobytes() for row in rows]


def test_protocol_and_names():
    pool = RenderedPool(50, n_shapes=2, n_textures=2, n_palettes=2)
    assert isinstance(pool, Pool) and len(pool) == 50 and len(set(pool.ids)) == 50
    assert pool.label_names[:3] == ["disc/plain/red-white", "disc/plain/blue-yellow", "disc/stripes/red-white"]
    assert len(pool.label_names) == 8 and pool[0].size == (32, 32) and pool[0].mode == "RGB"
    assert RenderedPool(1, size=48)[0].size == (48, 48)
    with pytest.raises(IndexError):
        pool[50]


def test_images_do_not_depend_on_the_order_of_reading():
    rows = [9, 3, 3, 0, 19]
    once = pixels(RenderedPool(20), rows)
    again = dict(zip(range(20), pixels(RenderedPool(20), range(20))))
    assert once == [again[row] for row in rows]
    assert pixels(pickle.loads(pickle.dumps(RenderedPool(20))), rows) == once


def test_every_image_is_another_and_splits_and_seeds_differ():
    pools = [RenderedPool(40), RenderedPool(40, split="test"), RenderedPool(40, seed=1)]
    images = [image for pool in pools for image in pixels(pool, range(40))]
    assert len(set(images)) == 120
    assert len({pool.fingerprint for pool in pools}) == 3 and RenderedPool(40).fingerprint == pools[0].fingerprint


def test_labels_say_what_is_drawn():
    pool = RenderedPool(300, n_shapes=3, n_textures=2, n_palettes=4)
    names = [pool.label_names[label].split("/") for label in pool.labels]
    assert [list(SHAPES)[i] for i in pool.column("shape")] == [name[0] for name in names]
    assert [list(TEXTURES)[i] for i in pool.column("texture")] == [name[1] for name in names]
    assert set(pool.column("palette")) == {0, 1, 2, 3}
    with pytest.raises(ConfigError, match="class_rank"):
        pool.column("domain")


@pytest.mark.parametrize("zipf", [0.0, 0.7, 1.0, 1.5])
def test_frequencies_follow_the_law(zipf):
    n = 200_000
    pool = RenderedPool(n, n_shapes=4, n_textures=3, n_palettes=3, zipf=zipf)
    counts = np.bincount(pool.labels, minlength=36)
    rank = concept_ranks(36, 0)
    assert sorted(rank) == list(range(1, 37))
    expected = np.array([1.0 / r**zipf for r in rank])
    p = chisquare(counts, n * expected / expected.sum()).pvalue
    assert p > 1e-3  # one multinomial draw, so its own law must not be rejected
    wrong = np.array([1.0 / r ** (zipf + 0.05) for r in rank])
    assert chisquare(counts, n * wrong / wrong.sum()).pvalue < 1e-3  # and a slightly different one must be


def test_train_and_test_agree_on_ranks():
    train, test = RenderedPool(20_000), RenderedPool(2000, zipf=0.0, split="test", seed=5)
    assert (train.class_rank == test.class_rank).all() and train.label_names == test.label_names
    assert np.bincount(train.labels).argmax() == np.flatnonzero(train.class_rank == 1)[0]
    assert (train.column("class_rank") == train.class_rank[train.labels]).all()
    assert (RenderedPool(10, concept_seed=1).class_rank != train.class_rank).any()


def test_labels_are_shuffled():
    labels = RenderedPool(4000).labels
    assert abs(np.corrcoef(np.arange(4000), labels)[0, 1]) < 0.05


def test_mean_color_hardly_tells_the_concept():
    """Nearest class mean of the mean color: near chance for shape and texture, weak for the palette."""
    train, test = RenderedPool(1500, zipf=0.0), RenderedPool(500, zipf=0.0, split="test")
    means = [np.array([np.asarray(p[i]).reshape(-1, 3).mean(0) for i in range(len(p))]) for p in (train, test)]
    for part, n_classes in (("shape", 8), ("texture", 5), ("palette", 5)):
        classes = np.array([means[0][train.column(part) == c].mean(0) for c in range(n_classes)])
        guess = ((means[1][:, None] - classes[None]) ** 2).sum(-1).argmin(1)
        limit = 0.45 if part == "palette" else 1.6 / n_classes
        assert (guess == test.column(part)).mean() < limit


@pytest.mark.parametrize("texture", list(TEXTURES))
@pytest.mark.parametrize("shape", list(SHAPES))
def test_shapes_fill_a_fair_part_and_textures_use_both_colors(shape, texture):
    axis = np.linspace(-1.3, 1.3, 131, dtype=np.float32)
    u, v = axis[None, :], axis[:, None]
    d = SHAPES[shape](u, v) + 0 * (u + v)
    inside = d < 0
    assert 0.12 < inside.mean() < 0.5  # of the square [-1.3, 1.3]
    assert not inside[[0, -1]].any() and not inside[:, [0, -1]].any()
    second = (TEXTURES[texture](u, v, d) + 0 * (u + v))[inside] > 0
    assert 0.2 < second.mean() < 0.85


@pytest.mark.parametrize("shape", list(SHAPES))
def test_distances_are_pixel_widths_at_the_outline(shape):
    """Anti-aliasing needs a gradient of about 1 at the outline."""
    axis = np.linspace(-1.2, 1.2, 481, dtype=np.float64)
    d = SHAPES[shape](axis[None, :], axis[:, None])
    steep = np.hypot(*np.gradient(d, axis[1] - axis[0]))[np.abs(d) < 0.02]
    assert 0.6 < np.median(steep) < 1.4


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"n": 0}, "n"),
        ({"n_shapes": 13}, "n_shapes"),
        ({"n_textures": 0}, "n_textures"),
        ({"n_palettes": 99}, "n_palettes"),
        ({"zipf": -0.1}, "zipf"),
        ({"zipf": float("nan")}, "zipf"),
        ({"size": 8}, "size"),
        ({"seed": -1}, "seed"),
        ({"split": ""}, "split"),
    ],
)
def test_bad_settings(change, field):
    with pytest.raises(ConfigError, match=rf"pool\.{field}: "):
        RenderedPool(**{"n": 10, **change})
