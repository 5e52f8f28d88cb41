"""Segmentation and depth: hand cases of every metric, learnable toys, and choices that the test split cannot move."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from strata.curation.errors import ConfigError, DataError
from strata.eval.features import Features
from strata.eval.protocols.dense_heads import DenseData, Recipe, nearest, train_heads
from strata.eval.protocols.depth import Depth, Readout, depth_loss, error_columns, error_sums
from strata.eval.protocols.segmentation import IGNORE, Segmentation, per_class_iou, pixel_counts, pixel_loss

FAST = {"learning_rates": (0.003, 0.03), "steps": 60, "batch_size": 8}
GRID, WIDTH = (3, 4), 6


def scene(seed, n=24, n_classes=3, noise=0.3, scale=4):
    """Patches that tell their class; maps of ``scale`` pixels a patch."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(77).standard_normal((n_classes, WIDTH)) * 2
    classes = rng.integers(0, n_classes, (n, *GRID))
    patches = means[classes.reshape(n, -1)] + noise * rng.standard_normal((n, GRID[0] * GRID[1], WIDTH))
    maps = [np.kron(c, np.ones((scale, scale))).astype(np.uint8) for c in classes]
    return patches[:, None].astype(np.float32), maps


def test_counts_and_iou_by_hand():
    predicted = torch.tensor([[0, 0, 1], [1, 2, 2]])
    target = torch.tensor([[0, 1, 1], [1, IGNORE, 0]])
    counts = pixel_counts(predicted, target, 4).numpy()
    assert counts.tolist() == [[1, 2, 0, 0], [2, 3, 0, 0], [2, 2, 1, 0]]  # right, of the class, predicted as it
    iou = per_class_iou(counts[None])
    np.testing.assert_allclose(iou[:3], [1 / 3, 2 / 3, 0])  # class 2: predicted only
    assert np.isnan(iou[3])  # nowhere: no part of the mean
    assert np.nanmean(iou) == pytest.approx(1 / 3)


def test_miou_sums_over_images_before_it_divides(dense_features, tmp_path):
    """The scores of the folder against brute force over all pixels of all images."""
    path = dense_features(label_names=["a", "b", "c"], train=scene(0), test=scene(1, noise=2.0))
    found = {s.metric: s for s in Segmentation(**FAST).run(path, tmp_path / "s", device="cpu", benchmark="toy")}
    table = pq.read_table(tmp_path / "s" / "predictions.parquet").to_pydict()
    hit, union, pixels = (np.array(table[name]).sum(axis=0) for name in ("intersection", "union", "pixels"))
    assert found["miou"].value == pytest.approx(np.mean(hit / union))
    assert found["pixel_accuracy"].value == pytest.approx(hit.sum() / pixels.sum())
    assert found["mean_class_accuracy"].value == pytest.approx(np.mean(hit / pixels))
    assert pixels.sum() == 24 * 12 * 16
    assert found["miou"].details["iou"]["b"] == pytest.approx(hit[1] / union[1])
    for score in found.values():
        assert score.ci_low < score.value < score.ci_high and score.n == 24


def test_what_is_learnable_is_learned_and_ignored_pixels_are_not_looked_at(dense_features, tmp_path):
    patches, maps = scene(0)
    spoiled = [m.copy() for m in maps]
    for m in spoiled:
        m[:, :2] = IGNORE
    clean = dense_features("clean", label_names=["a", "b", "c"], train=(patches, spoiled), test=scene(1))
    top = Segmentation(**FAST).run(clean, tmp_path / "s", device="cpu", benchmark="toy")[0]
    assert top.value > 0.9
    loss = pixel_loss(torch.randn(1, 3, 2, 2), torch.full((1, 2, 2), IGNORE))
    assert loss.item() == 0.0


def test_the_test_split_moves_nothing_but_the_score(dense_features, tmp_path):
    found = {}
    for name, shift in (("true", 0), ("adversarial", 1)):
        patches, maps = scene(1)
        path = dense_features(
            name, label_names=["a", "b", "c"], train=scene(0), test=(patches, [(m + shift) % 3 for m in maps])
        )
        score = Segmentation(**FAST).run(path, tmp_path / f"s-{name}", device="cpu", benchmark="toy")[0]
        found[name] = (score.details["learning_rate"], score.details["trials"], score.value)
    assert found["true"][:2] == found["adversarial"][:2]
    assert found["true"][2] > 0.9 > 0.1 > found["adversarial"][2]


def test_a_head_does_not_depend_on_the_others(dense_features):
    path = dense_features(label_names=["a", "b", "c"], train=scene(0))
    data = DenseData(Features.open(path, "train"), 1, False, "segmentation")
    rows, recipe = np.arange(24), {"steps": 20, "batch_size": 5, "weight_decay": 1e-4, "seed": 0}
    both = train_heads(data, rows, Recipe((0.001, 0.01), **recipe), 3, pixel_loss, "cpu", "both")
    alone = train_heads(data, rows, Recipe((0.01,), **recipe), 3, pixel_loss, "cpu", "alone")
    torch.testing.assert_close(both.weights[1], alone.weights[0])
    again = train_heads(data, rows, Recipe((0.01,), **recipe), 3, pixel_loss, "cpu", "again")
    assert torch.equal(alone.weights[0], again.weights[0])


def test_nearest_takes_the_pixel_under_the_middle():
    array = np.arange(12).reshape(3, 4)
    assert nearest(array, (3, 4)).tolist() == array.tolist()
    assert nearest(np.repeat(np.repeat(array, 4, 0), 4, 1), (3, 4)).tolist() == array.tolist()
    assert nearest(array, (6, 8))[::2, ::2].tolist() == array.tolist()
    assert nearest(array, (1, 1)).tolist() == [[6]]


def test_errors_by_hand():
    predicted = torch.tensor([[2.0, 3.0], [4.0, 9.0]])
    true = torch.tensor([[1.0, 3.0], [5.0, float("nan")]])
    sums = error_sums(predicted, true)
    assert sums.tolist() == pytest.approx([3, 1 + 0 + 1, 2, 1 + 0 + 0.2, 1])  # 5/4 is not within 1.25: it is 1.25
    columns = error_columns(np.array([sums.numpy(), [0.0] * 5]), ["a", "b"], positive=True)
    assert columns["rmse"][0] == pytest.approx(np.sqrt(2 / 3)) and columns["mae"][0] == pytest.approx(2 / 3)
    assert columns["abs_rel"][0] == pytest.approx(0.4) and columns["delta1"][0] == pytest.approx(1 / 3)
    assert columns["scored"].tolist() == [True, False]
    assert "delta1" not in error_columns(sums.numpy()[None], ["a"], positive=False)


def test_bins_and_their_loss_by_hand():
    readout = Readout("bins", 1.0, 3.0, 3)
    outputs = torch.tensor([[-1.0, 0.9, 0.4]]).view(1, 3, 1, 1)
    assert readout(outputs).item() == pytest.approx((0.1 * 1 + 1.0 * 2 + 0.5 * 3) / 1.6)
    maps = torch.tensor([[[1.0, 2.0, float("nan")]]])
    predicted = readout(outputs.expand(1, 3, 1, 3))[0, 0, 0].item()
    g = np.log(predicted) - np.log([1.0, 2.0])
    expected = np.sqrt(g.var() + 0.15 * g.mean() ** 2)
    assert depth_loss(outputs.expand(1, 3, 1, 3), maps, readout).item() == pytest.approx(expected, rel=1e-5)
    nothing = depth_loss(outputs, torch.full((1, 1, 1), float("nan")), readout)
    assert nothing.item() == 0.0


def hills(seed, n=30, low=2.0, noise=0.1):
    """Four blocks of patches, of which the last tells the depth."""
    rng = np.random.default_rng(seed)
    direction = np.random.default_rng(5).standard_normal(WIDTH)
    height = low + 2 + rng.standard_normal((n, *GRID)).clip(-1.9, 4)
    patches = rng.standard_normal((n, 4, GRID[0] * GRID[1], WIDTH)) * noise
    patches[:, -1] += height.reshape(n, -1, 1) * direction
    return patches.astype(np.float32), [np.kron(h, np.ones((4, 4))).astype(np.float32) for h in height]


@pytest.mark.parametrize(("head", "info"), [("regression", None), ("bins", {"min": 0.1, "max": 12.0, "unit": "m"})])
def test_depth_is_learned_and_scored(dense_features, tmp_path, head, info):
    test_patches, test_maps = hills(1)
    test_maps[0][:] = np.nan  # an image without any known pixel does not count
    path = dense_features(task_info=info, train=hills(0), test=(test_patches, test_maps))
    options = {**FAST, "steps": 150, "head": head, "n_bins": 32, "class_token": False}
    found = {s.metric: s for s in Depth(**options).run(path, tmp_path / "s", device="cpu", benchmark="toy")}
    spread = float(np.std(np.concatenate([m.ravel() for m in test_maps[1:]])))
    assert found["rmse"].value < 0.75 * spread  # the rest is where patches meet
    assert found["rmse"].n == 29
    assert ("delta1" in found) == (head == "bins")
    table = pq.read_table(tmp_path / "s" / "predictions.parquet").to_pydict()
    assert found["rmse"].value == pytest.approx(np.mean(np.array(table["rmse"])[1:]))
    pooled = np.sqrt(sum(table["squared_error"]) / sum(table["pixels"]))
    assert found["rmse_pixels"].value == pytest.approx(pooled)


def test_what_dense_protocols_refuse(dense_features, make_features, tmp_path):
    path = dense_features(train=hills(0), test=hills(1))
    with pytest.raises(ConfigError, match=r"protocol\.head: .*range of positive depths"):
        Depth(**FAST).run(path, tmp_path / "s", device="cpu", benchmark="b")
    with pytest.raises(DataError, match="depth reads the patch tokens of 5 blocks, and these features hold 4"):
        Depth(**FAST, n_blocks=5).run(path, tmp_path / "s", device="cpu", benchmark="b")
    plain = make_features(train=(np.zeros((4, 3), np.float32), [0, 1, 0, 1]), name="plain")
    with pytest.raises(DataError, match="hold 0"):
        Segmentation(**FAST).run(plain, tmp_path / "s", device="cpu", benchmark="b")
    assert not (tmp_path / "s").exists()
    for cls, field, value in (
        (Segmentation, "n_blocks", 0),
        (Segmentation, "learning_rates", []),
        (Segmentation, "holdout", 1.0),
        (Depth, "head", "ordinal"),
        (Depth, "n_bins", 1),
        (Depth, "steps", 0),
    ):
        with pytest.raises(ConfigError) as caught:
            cls(**{field: value})
        assert caught.value.field == f"protocol.{field}"
